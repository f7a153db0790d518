"""What is on a GPU before training begins, and how gradients of micro-batches add up: DeepSpeed itself, on one rank."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, TINY_ADAPTER
from tests.train.runner import start
from tests.train.sharing import MICRO_BATCHES


def shared(base: Path, out: Path, deepspeed: dict[str, Any]) -> dict[str, Any]:
    config = {"adapter": {**TINY_ADAPTER, "dropout": 0.0}, "deepspeed": deepspeed}
    codes = start(config, {"base": base}, out, body="tests.train.sharing")
    work = out.with_name(f"{out.name}-work")
    assert not any(codes), (work / "error.txt").read_text()
    found: dict[str, Any] = json.loads((work / "summary.json").read_text())
    return found


@pytest.mark.parametrize("name", ["zero2_bf16", "zero3_bf16"])
def test_a_model_is_shared_out_first_and_equal_micro_batches_add_up(
    name: str, tiny_base: Path, tmp_path: Path
) -> None:
    """In float32, n equal gradients are n times one; in bfloat16, as it would be without the setting, they are not."""
    settings = yaml.safe_load((ROOT / "conf" / "deepspeed" / f"{name}.yaml").read_text())
    settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    careful = shared(tiny_base, tmp_path / "careful", settings)
    assert careful["ratio"] == pytest.approx(MICRO_BATCHES, rel=1e-5)
    plain = shared(tiny_base, tmp_path / "plain", {**settings, "data_types": {}})
    assert plain["ratio"] != pytest.approx(MICRO_BATCHES, rel=1e-4)
    third = name.startswith("zero3")
    assert careful["moved"] is not third, "deepspeed.initialize moves a model that is whole"
    if third:
        assert careful["left"] == 0 and careful["shares"] >= careful["elements"]
