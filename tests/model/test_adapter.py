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
    discount.discount(alpha, TINY_ADAPTER["alpha"], stage, discounted)
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


LORA_ALONE = {"full_modules": [], "full_projections": [], "full_last_layers": 0}


def moved(model: PeftModel, by: float) -> PeftModel:
    """The model with every trained parameter moved."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(by)
    return model


def test_lora_alone_leaves_every_other_weight_the_bases(tiny_base: Path, tmp_path: Path) -> None:
    model = moved(adapter.trainable(tiny_base, None, Adapter(**TINY_ADAPTER | LORA_ALONE), seed=1), 0.1)
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)
    adapter.save(model, tmp_path)
    assert load_file(tmp_path / "full.safetensors") == {}
    changed = difference.changed_keys(tiny_base, tmp_path)
    assert changed == sorted(f"model.layers.{i}.self_attn.{p}_proj.weight" for i in (0, 1) for p in "qkv")
    ids = torch.arange(24).reshape(2, 12)
    expected = model.eval()(ids).logits
    torch.testing.assert_close(difference.load(tiny_base, tmp_path)(ids).logits, expected, rtol=1e-4, atol=1e-5)
    again = adapter.trainable(tiny_base, tmp_path, Adapter(**TINY_ADAPTER | LORA_ALONE), seed=2).eval()
    assert torch.equal(again(ids).logits, expected)


def test_full_modules_of_earlier_stages_are_kept(tiny_base: Path, stage: Path, tmp_path_factory: Any) -> None:
    """A chain of three stages, the second and third with fewer modules in full than the one before."""
    ids, before = torch.arange(24).reshape(2, 12), load_file(stage / "full.safetensors")
    previous = stage
    for number, fewer in enumerate(({"full_modules": ["lm_head"], "full_last_layers": 0}, LORA_ALONE)):
        out = tmp_path_factory.mktemp(f"stage{number}")
        model = adapter.trainable(tiny_base, previous, Adapter(**TINY_ADAPTER | fewer), seed=2)
        full = [name for name, p in model.named_parameters() if p.requires_grad and "lora_" not in name]
        assert [name.removeprefix(adapter.PREFIX) for name in full] == (["lm_head.weight"] if number == 0 else [])
        adapter.save(moved(model, 0.1), out, previous)
        expected = model.eval()(ids).logits
        torch.testing.assert_close(difference.load(tiny_base, out)(ids).logits, expected, rtol=1e-4, atol=1e-5)
        previous = out
    after = load_file(previous / "full.safetensors")
    assert after.keys() == before.keys()
    assert [name for name in after if not torch.equal(after[name], before[name])] == ["lm_head.weight"]


def test_a_later_stage_may_leave_lora_as_it_is(tiny_base: Path, stage: Path, tmp_path: Path) -> None:
    frozen = Adapter(**{**TINY_ADAPTER, "lora_in_later_stages": "frozen"})
    first = adapter.trainable(tiny_base, None, frozen, seed=1)
    assert any(p.requires_grad for name, p in first.named_parameters() if "lora_" in name), "the first stage trains it"
    second = adapter.trainable(tiny_base, stage, frozen, seed=2)
    trained = {name: p for name, p in second.named_parameters() if p.requires_grad}
    usual = adapter.trainable(tiny_base, stage, CONFIG, seed=2).named_parameters()
    assert trained.keys() == {name for name, p in usual if p.requires_grad and "lora_" not in name}
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(0.1)
    later = tmp_path / "later"
    later.mkdir()
    adapter.save(second, later, stage)
    lora = Path(adapter.ADAPTER) / adapter.LORA
    assert (later / lora).read_bytes() == (stage / lora).read_bytes()
    before, after = (load_file(folder / adapter.FULL) for folder in (stage, later))
    assert before.keys() == after.keys() and not any(torch.equal(before[name], after[name]) for name in before)


def test_a_stage_may_have_another_dropout_and_more_in_full(tiny_base: Path, stage: Path, tmp_path: Path) -> None:
    other = Adapter(**TINY_ADAPTER | {"dropout": 0.25, "full_last_layers": 2})
    model = adapter.trainable(tiny_base, stage, other, seed=2)
    rates = {module.p for name, module in model.named_modules() if "lora_dropout.default" in name}
    assert rates == {0.25}
    out = tmp_path / "next"
    out.mkdir()
    adapter.save(model, out, stage)
    assert len(load_file(out / "full.safetensors")) == len(load_file(stage / "full.safetensors")) + 3


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("r", 8, "r is 8; it must be the previous stage's 4"),
        ("alpha", 3, "alpha is 3; it must be the previous stage's 2"),
        ("target_modules", ["v_proj", "k_proj"], r"target_modules is \['k_proj', 'v_proj'\]; .* \['k_proj', 'q_proj'"),
    ],
)
def test_the_form_of_the_adapter_stays(tiny_base: Path, stage: Path, name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as raised:
        adapter.trainable(tiny_base, stage, Adapter(**TINY_ADAPTER | {name: value}), seed=2)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("r", 0, "r is 0; it must be greater than 0"),
        ("alpha", -1, "alpha is -1; it must be greater than 0"),
        ("dropout", 1.0, "dropout is 1.0; it must be at least 0 and below 1"),
        ("target_modules", ["wq"], "target_modules is 'wq'; it must be out of q_proj"),
        ("full_projections", ["wq"], "full_projections is 'wq'; it must be out of q_proj"),
        ("full_last_layers", -1, "full_last_layers is -1; it must be at least 0"),
    ],
)
def test_wrong_settings_are_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Adapter(**TINY_ADAPTER | {name: value})
