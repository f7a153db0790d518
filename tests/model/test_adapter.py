"""What is trained and what is saved, and that it is what PEFT makes of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.helpers import rescale_adapter_scale
from safetensors.torch import load_file

from src.merge import discount
from src.model import adapter, difference
from src.model.settings import Adapter
from tests.conftest import TINY_ADAPTER

CONFIG = Adapter(**TINY_ADAPTER)


@pytest.fixture()
def stage(tiny_base: Path, tmp_path: Path) -> Path:
    """A stage whose adapter and full modules have all moved away from the base."""
    model = adapter.trainable(tiny_base, None, CONFIG, seed=1)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    adapter.save(model, tmp_path)
    return tmp_path


def test_trainable_parameters_are_the_papers(tiny_base: Path) -> None:
    model = adapter.trainable(tiny_base, None, CONFIG, seed=1)
    trained = {name.removeprefix(adapter.PREFIX) for name, p in model.named_parameters() if p.requires_grad}
    lora = {f"model.layers.{i}.self_attn.{p}_proj.lora_{x}.default.weight" for i in (0, 1) for p in "qkv" for x in "AB"}
    full = {f"model.layers.1.self_attn.{p}_proj.base_layer.weight" for p in "qkv"}
    assert trained == lora | full | {"model.embed_tokens.weight", "lm_head.weight"}


def test_the_next_stage_goes_on_training_the_same_adapter(tiny_base: Path, stage: Path) -> None:
    first = {n: p for n, p in adapter.trainable(tiny_base, None, CONFIG, seed=1).named_parameters() if p.requires_grad}
    second = {
        n: p for n, p in adapter.trainable(tiny_base, stage, CONFIG, seed=2).named_parameters() if p.requires_grad
    }
    assert first.keys() == second.keys()
    saved = load_file(stage / "full.safetensors") | load_file(stage / "adapter" / "adapter_model.safetensors")
    assert len(saved) == len(second)
    for name, parameter in second.items():
        key = name.replace(".default", "") if "lora_" in name else name.removeprefix(adapter.PREFIX)
        torch.testing.assert_close(parameter.detach(), saved[key.replace(".base_layer", "")], rtol=0, atol=0)


@pytest.mark.parametrize("alpha", [TINY_ADAPTER["alpha"], 1.75, 1.0, 0.0])
def test_what_is_saved_is_what_peft_rescales(tiny_base: Path, stage: Path, alpha: float, context: Any) -> None:
    base = adapter.load_base(tiny_base)
    adapter.overlay(base, stage)
    peft = PeftModel.from_pretrained(base, stage / "adapter").eval()
    ids = torch.arange(24).reshape(2, 12)
    with rescale_adapter_scale(peft, alpha / TINY_ADAPTER["alpha"]):
        expected = peft(ids).logits
    discounted = context.work
    discount.run({"alpha": alpha, "trained_alpha": TINY_ADAPTER["alpha"]}, {"stage": stage}, discounted, context)
    folded = difference.load(tiny_base, discounted)
    torch.testing.assert_close(folded(ids).logits, expected, rtol=1e-4, atol=1e-5)


def test_saving_twice_gives_the_same_bytes(tiny_base: Path, tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        out = tmp_path / name
        out.mkdir()
        adapter.save(adapter.trainable(tiny_base, None, CONFIG, seed=1), out)
        written.append({f.relative_to(out): f.read_bytes() for f in sorted(out.rglob("*")) if f.is_file()})
    assert written[0] == written[1]


def test_nothing_to_train_is_an_error(tiny_base: Path) -> None:
    config = Adapter(**{**TINY_ADAPTER, "full_modules": ["wte"], "full_last_layers": 0})
    with pytest.raises(ValueError, match="wte"):
        adapter.trainable(tiny_base, None, config, seed=0)
