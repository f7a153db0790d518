"""What rounding costs: the divergence against closed forms, its reference against PEFT, and types of evaluation."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from src.model import adapter, difference, rounding
from src.model.settings import Adapter
from tests.conftest import TINY_ADAPTER
from tests.model.folding import folded
from tests.model.test_difference import CONFIGS, make_store, merge_parts

PROMPTS = [list(range(4, 60)), list(range(100, 20, -2)), [7]]


def test_divergence_is_the_mean_over_tokens_of_kullback_and_leibler() -> None:
    p, q = torch.tensor([[0.5, 0.5], [0.2, 0.8]]), torch.tensor([[0.25, 0.75], [0.2, 0.8]])
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert rounding.divergence([p.log() + 3], [q.log()]) == pytest.approx(expected / 2, rel=1e-6)
    assert rounding.divergence([p[:1].log(), p[1:].log()], [q[:1].log(), q[1:].log()]) == pytest.approx(expected / 2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bfloat16 base and stages, its head tied, with a merge."""
    folder = make_store(tmp_path_factory.mktemp("store"), "qwen2", torch.bfloat16)
    merge_parts(folder, CONFIGS["ties"], folder / "parts").rename(folder / "merged")
    return folder


@pytest.mark.parametrize("name", ["base", "sqa", "discounted", "merged"])
def test_the_reference_computes_in_float32_on_weights_as_they_are_stored(name: str, store: Path) -> None:
    model: Any = rounding.as_trained(store / "base", store / name)
    types = {key: tensor.dtype for key, tensor in model.state_dict().items()}
    expected = folded(store / "base", store / name) if name in ("sqa", "discounted") else None
    whole = expected or difference.load(store / "base", store / name)
    found = rounding.logits(model, PROMPTS)
    for ours, theirs in zip(found, rounding.logits(whole, PROMPTS), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert {key: tensor.dtype for key, tensor in model.state_dict().items()} == types
    narrow = torch.float32 if name in ("sqa", "discounted") else torch.bfloat16  # stages were trained in float32
    assert narrow in types.values()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bfloat16 base with answers as peaked as a trained model's, and a stage in bfloat16, as DeepSpeed leaves it.

    Its adapter moves the answers by some 1e-5 nats where alpha is 15, as that of a real model (docs/log.md).
    """
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    sizes: Any = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4}
    plain: Any = LlamaForCausalLM(LlamaConfig(vocab_size=128, **sizes))
    with torch.no_grad():
        plain.get_parameter("model.norm.weight").fill_(12.0)
    plain.to(torch.bfloat16).save_pretrained(folder / "base" / "model")
    model = adapter.trainable(
        folder / "base", None, Adapter(**TINY_ADAPTER | {"alpha": 16, "full_last_layers": 1}), 0, torch.bfloat16
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_((1e-3 if "lora_" in name else 1e-4) * torch.randn_like(parameter))
    (folder / "stage").mkdir()
    adapter.save(model, folder / "stage")
    shutil.copytree(folder / "stage", folder / "fifteen")
    file = folder / "fifteen" / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lora_alpha": 15}))
    return folder


def test_what_is_scored_is_far_closer_to_what_was_trained_than_alpha_15_is(trained: Path) -> None:
    base, stage = trained / "base", trained / "stage"
    references = [rounding.logits(rounding.as_trained(base, trained / name), PROMPTS) for name in ("stage", "fifteen")]
    effect = rounding.divergence(*references)
    cost = {
        dtype: rounding.measure(base, stage, difference.load(base, stage, getattr(torch, dtype)), PROMPTS)
        for dtype in ("float32", "float16", "bfloat16")
    }
    assert {dtype: (found["dtype"], found["tokens"]) for dtype, found in cost.items()} == {
        dtype: (dtype, 97) for dtype in cost
    }
    assert 1e-7 < effect < 1e-3
    assert 0 <= cost["float32"]["kl"] < effect / 1000
    assert 0 < cost["float16"]["kl"] < cost["bfloat16"]["kl"] / 10
    assert cost["bfloat16"]["kl"] > effect, "a model's own bfloat16 hides what is measured"


def test_answers_that_are_not_finite_are_refused(trained: Path, tmp_path: Path) -> None:
    base, used = trained / "base", difference.load(trained / "base", trained / "stage")
    with torch.no_grad():
        used.get_parameter("model.norm.weight").fill_(torch.inf)
    with pytest.raises(ValueError, match="stage: in float32 the model's answers are not finite numbers"):
        rounding.measure(base, trained / "stage", used, PROMPTS)
    with pytest.raises(ValueError, match="stage: the model's answers are not finite numbers: its training"):
        broken = tmp_path / "stage"
        shutil.copytree(trained / "stage", broken)
        full = load_file(broken / "full.safetensors")
        full["lm_head.weight"][0] = torch.nan
        save_file(full, broken / "full.safetensors")
        rounding.measure(base, broken, difference.load(base, broken), PROMPTS)


def test_a_training_that_is_not_finite_names_the_tensor(trained: Path, tmp_path: Path) -> None:
    model = adapter.trainable(trained / "base", trained / "stage", Adapter(**TINY_ADAPTER | {"alpha": 16}), 0)
    name = next(name for name, parameter in model.named_parameters() if "lora_B" in name)
    with torch.no_grad():
        model.get_parameter(name)[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"the training left 1 of \d+ numbers in .*lora_B.* that are not finite"):
        adapter.save(model, tmp_path)
    assert not list(tmp_path.iterdir())
