"""The discount against PEFT's own rescaling."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.helpers import rescale_adapter_scale
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from src.merge.discount import run

FULL = ("model.embed_tokens.weight", "lm_head.weight", "model.layers.1.self_attn.q_proj.weight")


@pytest.fixture(scope="module")
def stage(store) -> Path:
    """A trained stage: LoRA on q, k, v everywhere, some modules in full, one of them under LoRA too."""
    folder = store / "train-sqa"
    model = AutoModelForCausalLM.from_pretrained(store / "base-0" / "model")
    torch.manual_seed(1)
    full = {name: value + 0.1 * torch.randn_like(value) for name, value in model.state_dict().items() if name in FULL}
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj"], task_type="CAUSAL_LM")
    adapter = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    adapter.save_pretrained(folder / "adapter")
    save_file({name: value.contiguous() for name, value in full.items()}, folder / "full.safetensors")
    return folder


def by_peft(store: Path, stage: Path, factor: float) -> dict[str, torch.Tensor]:
    """PEFT's scaling of the adapter, then its merge."""
    model = AutoModelForCausalLM.from_pretrained(store / "base-0" / "model")
    model.load_state_dict(load_file(stage / "full.safetensors"), strict=False)
    adapter = PeftModel.from_pretrained(model, stage / "adapter")
    with rescale_adapter_scale(adapter, factor):
        return adapter.merge_and_unload().state_dict()


@pytest.mark.parametrize("alpha", [14, 15, 16, 0])
def test_equals_pefts_rescaling(alpha, store, stage, context, tmp_path):
    run({"alpha": alpha, "trained_alpha": 16}, {"base": store / "base-0", "stage": stage}, tmp_path, context)
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    theirs = by_peft(store, stage, alpha / 16)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-6)


def test_only_the_lora_part_is_scaled(store, stage, context, tmp_path):
    """At alpha 0 what is left is the base with the modules that were trained in full."""
    run({"alpha": 0, "trained_alpha": 16}, {"base": store / "base-0", "stage": stage}, tmp_path, context)
    full = load_file(stage / "full.safetensors")
    base = AutoModelForCausalLM.from_pretrained(store / "base-0" / "model").state_dict()
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    for name in found:
        torch.testing.assert_close(found[name], full.get(name, base[name]), rtol=0, atol=0)


def test_closed_form(store, stage, context, tmp_path):
    run({"alpha": 14, "trained_alpha": 16}, {"base": store / "base-0", "stage": stage}, tmp_path, context)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    base = AutoModelForCausalLM.from_pretrained(store / "base-0" / "model").state_dict()
    full, lora = load_file(stage / "full.safetensors"), load_file(stage / "adapter" / "adapter_model.safetensors")
    for layer, projection in [(0, "k_proj"), (1, "q_proj")]:
        name = f"model.layers.{layer}.self_attn.{projection}"
        a, b = (lora[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
        expected = full.get(f"{name}.weight", base[f"{name}.weight"]) + 14 / 4 * b @ a
        torch.testing.assert_close(found[f"{name}.weight"], expected, rtol=0, atol=1e-6)


def test_result_is_plain_and_has_the_tokenizer(store, stage, context, tmp_path):
    run({"alpha": 14, "trained_alpha": 16}, {"base": store / "base-0", "stage": stage}, tmp_path, context)
    assert AutoTokenizer.from_pretrained(tmp_path / "model")("w3")["input_ids"] == [7]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize("alpha", [-1, 17])
def test_alpha_outside_its_range_is_named(alpha, store, stage, context, tmp_path):
    with pytest.raises(ValueError, match=rf"discount.alpha={alpha}: must lie between 0 and the trained alpha, 16"):
        run({"alpha": alpha, "trained_alpha": 16}, {"base": store / "base-0", "stage": stage}, tmp_path, context)
