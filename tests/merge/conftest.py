from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = [f"w{i}" for i in range(28)]


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    """A store with four tiny Llamas, of which three are small steps away from `base-0`."""
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
    base = LlamaForCausalLM(config)
    for name in ("base-0", "asr-1", "tts-2", "sqa-3"):
        model = LlamaForCausalLM(config)
        model.load_state_dict(base.state_dict())
        if name != "base-0":
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=0.05)
        model.save_pretrained(folder / name / "model")
        tokenizer.save_pretrained(folder / name / "model")
    return folder


@pytest.fixture
def inputs(store) -> dict[str, Path]:
    return {"base": store / "base-0", "asr": store / "asr-1", "tts": store / "tts-2", "sqa": store / "sqa-3"}


@pytest.fixture
def context() -> SimpleNamespace:
    return SimpleNamespace(report=lambda **numbers: None)
