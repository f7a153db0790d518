from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = [f"w{i}" for i in range(28)]
FULL = ("model.embed_tokens.weight", "lm_head.weight", "model.layers.1.self_attn.q_proj.weight")
ALPHA = 16
STAGES = ("asr-1", "tts-2", "sqa-3")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a tiny Llama, `base-0`, and three stages that are small steps away from it."""
    folder = tmp_path_factory.mktemp("store")
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>")
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder / "base-0" / "model")
    tokenizer.save_pretrained(folder / "base-0" / "model")
    for name in STAGES:
        save_stage(folder / "base-0", folder / name)
    return folder


def save_stage(base: Path, out: Path) -> None:
    """A trained stage by PEFT alone: LoRA on q, k, v everywhere, some modules in full, one of them under LoRA too."""
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(base / "model")
    full = {name: value + 0.1 * torch.randn_like(value) for name, value in model.state_dict().items() if name in FULL}
    config = LoraConfig(r=4, lora_alpha=ALPHA, target_modules=["q_proj", "k_proj", "v_proj"], task_type="CAUSAL_LM")
    adapter: Any = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    adapter.save_pretrained(out / "adapter")
    save_file({name: value.contiguous() for name, value in full.items()}, out / "full.safetensors")


@pytest.fixture
def inputs(store: Path) -> dict[str, Path]:
    return {"base": store / "base-0", "asr": store / "asr-1", "tts": store / "tts-2", "sqa": store / "sqa-3"}


@pytest.fixture
def context(tmp_path: Path) -> SimpleNamespace:
    (tmp_path / "work").mkdir()
    reports: list[dict[str, float]] = []
    return SimpleNamespace(report=lambda **numbers: reports.append(numbers), reports=reports, work=tmp_path / "work")
