"""Every method through the real loop, beside a plain PyTorch loop: at each ZeRO stage, on two ranks, resumed."""

import signal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from src.data import jsonl
from src.model import adapter
from src.model.settings import Adapter
from tests.conftest import TINY_ADAPTER, TINY_OPTIMIZATION
from tests.train.methods import reference
from tests.train.runner import start

ROOT = Path(__file__).parents[3]
BODY = "tests.train.methods.body"
ADAPTER = TINY_ADAPTER | {"dropout": 0.0}
METHODS: dict[str, dict[str, Any]] = {
    "l2": {"strength": 0.5},
    "ewc": {"strength": 2.0},
    "distill": {"weight": 0.7, "temperature": 2.0, "ratio": 0.3},
    "neftune": {"alpha": 5.0},
}
UNDISTURBED = {"l2": [3], "ewc": [2], "distill": [3], "neftune": [0]}
"""Method -> ZeRO stages at which the bits of a resumed training are compared: each stage, each method once."""
WHOLE = ("full.safetensors", "adapter/adapter_model.safetensors", "metrics.jsonl")


@pytest.fixture(scope="module")
def inputs(
    tiny_base: Path, tiny_examples: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A base, a stage before that has moved away from it, the examples, and a Fisher information out of the air."""
    previous, fisher = (tmp_path_factory.mktemp(name) for name in ("previous", "fisher"))
    model = adapter.trainable(tiny_base, None, Adapter(**ADAPTER), seed=3)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(0.05 * torch.randn_like(parameter))
    adapter.save(model, previous)
    save_file({name: torch.rand_like(parameter) for name, parameter in trained.items()}, fisher / "fisher.safetensors")
    return {"base": tiny_base, "previous": previous, "fisher": fisher, **tiny_examples}


def config(name: str, replay: bool = False, zero: dict[str, Any] | None = None, **optimization: Any) -> dict[str, Any]:
    sizes = {"batch_tokens": None, "batch_size": 5, "ranks": 2, "deepspeed": zero or stage(0)}
    return {
        "adapter": ADAPTER,
        "optimization": TINY_OPTIMIZATION | sizes | optimization,
        "method": {"name": name, **METHODS[name]},
        "replay": replay,
    }


def stage(number: int) -> dict[str, Any]:
    settings = {"zero_optimization": {"stage": number}}
    if number == 3:
        settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0  # share out small parameters too
    return settings


def trained(settings: dict[str, Any], inputs: dict[str, Path], out: Path, ranks: int) -> dict[str, torch.Tensor]:
    """The weights by the names of files, after a training that ends well."""
    codes = start(settings, inputs, out, ranks, body=BODY)
    assert not any(codes), out.with_name(f"{out.name}-work").joinpath("error.txt").read_text()
    return load_file(out / WHOLE[0]) | load_file(out / WHOLE[1])


def file_name(name: str) -> str:
    if "lora_" in name:
        return name.replace(".default", "")
    return name.removeprefix("base_model.model.").replace(".base_layer", "")


@pytest.fixture(scope="module")
def expected(inputs: dict[str, Path]) -> Any:
    @cache
    def train(name: str, replay: bool, micro: int | None, average: str = "tokens") -> Any:
        settings = config(name, replay, micro_batch_size=micro, loss_average=average)
        return reference.train(settings, inputs, 2)

    return train


@pytest.mark.parametrize(
    ("name", "replay", "zero", "average"),
    [
        ("l2", False, 0, "tokens"), ("l2", False, 2, "ranks"), ("l2", False, 3, "tokens"),
        ("ewc", True, 0, "ranks"), ("ewc", True, 2, "tokens"), ("ewc", True, 3, "examples"),
        ("distill", False, 0, "examples"), ("distill", True, 2, "examples"), ("distill", True, 3, "ranks"),
        ("neftune", False, 0, "tokens"), ("neftune", False, 2, "tokens"), ("neftune", False, 3, "examples"),
    ],
)  # fmt: skip
def test_two_ranks_killed_and_resumed_learn_what_plain_pytorch_learns(
    inputs: dict[str, Path], expected: Any, tmp_path: Path, name: str, replay: bool, zero: int, average: str
) -> None:
    """By each average of the loss; and to the bit what an undisturbed training has, at the stages of UNDISTURBED."""
    micro = 2 if zero == 2 else None
    settings = config(name, replay, stage(zero), micro_batch_size=micro, loss_average=average)
    codes = start(settings, inputs, tmp_path / "killed", 2, stop_at=10, body=BODY)
    assert -signal.SIGKILL in codes
    found = trained(settings, inputs, tmp_path / "killed", 2)
    weights, history = expected(name, replay, micro, average)
    assert found.keys() == {file_name(key) for key in weights}
    for key, tensor in weights.items():
        torch.testing.assert_close(found[file_name(key)], tensor, rtol=1e-3, atol=2e-5, msg=f"{key}: {{}}".format)
    rows = list(jsonl.read(tmp_path / "killed" / "metrics.jsonl"))
    assert rows[-1]["step"] == len(history) and len(rows) > 1
    for row in rows:
        loss, own = history[int(row["step"]) - 1]
        assert row["loss"] == pytest.approx(loss, rel=1e-4)
        assert row.get("method_loss", 0.0) == pytest.approx(own, rel=1e-3, abs=1e-7)
    if zero in UNDISTURBED[name]:
        trained(settings, inputs, tmp_path / "whole", 2)
        for file in WHOLE:
            assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "killed" / file).read_bytes(), file


@pytest.mark.parametrize(
    ("name", "zero"),
    [("l2", "zero2_bf16"), ("ewc", "zero0"), ("ewc", "zero2_offload_bf16"), ("ewc", "zero3_offload_all_bf16")],
)
def test_penalties_in_bfloat16_are_on_the_weights_in_float32(
    inputs: dict[str, Path], expected: Any, tmp_path: Path, name: str, zero: str
) -> None:
    deepspeed = yaml.safe_load((ROOT / "conf" / "deepspeed" / f"{zero}.yaml").read_text()) | {"bf16": {"enabled": True}}
    found = trained(config(name, False, deepspeed), inputs, tmp_path / "small", 2)
    weights, history = expected(name, False, None)
    before = load_file(inputs["previous"] / WHOLE[0]) | load_file(inputs["previous"] / WHOLE[1])
    change = torch.cat([(tensor - before[file_name(key)]).flatten() for key, tensor in weights.items()])
    error = torch.cat([(found[file_name(key)].float() - tensor).flatten() for key, tensor in weights.items()])
    assert error.norm() < 0.35 * change.norm()
    for row in jsonl.read(tmp_path / "small" / "metrics.jsonl"):
        loss, own = history[int(row["step"]) - 1]
        assert row["loss"] == pytest.approx(loss, rel=0.02)
        assert row["method_loss"] == pytest.approx(own, rel=0.1)


def test_a_fisher_of_another_adapter_is_one_line(inputs: dict[str, Path], tmp_path: Path) -> None:
    few = config("ewc") | {"adapter": ADAPTER | {"full_last_layers": 2}}
    assert start(few, inputs, tmp_path / "few", 1, body=BODY) == [1]
    last = (tmp_path / "few-work" / "error.txt").read_text().strip().splitlines()[-1]
    assert "fisher.safetensors has no base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight" in last
