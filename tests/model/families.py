"""Tiny random models of several families, as folders of transformers, each with a tokenizer and a chat template of the
family's kind (written here: the shape of the conversation is the family's, the words are not)."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

TEXT = ["what is the capital of france", "paris", "name three animals that live in the sea", "repeat these words",
        "the answer is short", "UPPER and lower, with marks!", "one two three four five"]  # fmt: skip
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SYSTEM = (
    "{% for m in messages %}"
    "{% if loop.first and m.role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKS_LAST = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEADERS = (
    "{% for m in messages %}{{ bos_token if loop.first else '' }}<|header|>{{ m.role }}<|end_header|>\n\n"
    "{{ m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|header|>assistant<|end_header|>\n\n{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
"""Mistral's: a blank stands before an answer, which SentencePiece joins with the word behind it."""

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "template": HEADERS, "bos": "<|begin|>", "eos": "<|eot|>",
              "specials": ["<|header|>", "<|end_header|>"]},
    "qwen2": {"model_type": "qwen2", "template": SYSTEM, "bos": None, "eos": "<|im_end|>",
              "specials": ["<|im_start|>"]},
    "qwen3": {"model_type": "qwen3", "template": THINKS_LAST, "bos": None, "eos": "<|im_end|>",
              "specials": ["<|im_start|>", "<think>", "</think>"], "head_dim": 16},
    "mistral": {"model_type": "mistral", "template": INST, "bos": "<s>", "eos": "</s>",
                "specials": ["[INST]", "[/INST]"]},
    "smollm": {"model_type": "llama", "template": CHATML, "bos": None, "eos": "<|im_end|>",
               "specials": ["<|im_start|>"], "tie_word_embeddings": True},
}  # fmt: skip


def tokenizer_of(family: str) -> PreTrainedTokenizerFast:
    """A tokenizer of the family's kind: byte-level BPE, or for Mistral pieces with a blank before each word."""
    told = FAMILIES[family]
    specials = [token for token in (told["bos"], told["eos"], *told["specials"], "<|pad|>") if token]
    backend: Any = Tokenizer(models.BPE(unk_token="<unk>" if family == "mistral" else None))
    if family == "mistral":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.decoder = decoders.Metaspace()
        letters = sorted({*"".join(TEXT), *"abcdefghijklmnopqrstuvwxyz<>/|0123456789\n▁"})
        specials = ["<unk>", *specials]
        trainer: Any = trainers.BpeTrainer(vocab_size=300, special_tokens=specials, initial_alphabet=letters)
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=specials, initial_alphabet=alphabet)
    backend.train_from_iterator(TEXT, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=told["bos"], eos_token=told["eos"], pad_token="<|pad|>",
        unk_token="<unk>" if family == "mistral" else None,
    )  # fmt: skip
    made.chat_template = told["template"]
    return made


def save_family(family: str, folder: Path) -> Path:
    """Write a random model of two layers and its tokenizer into the folder."""
    told = FAMILIES[family]
    tokenizer = tokenizer_of(family)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        told["model_type"], vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=1024,
        tie_word_embeddings=told.get("tie_word_embeddings", False), bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        **({"head_dim": told["head_dim"]} if "head_dim" in told else {}),
    )  # fmt: skip
    model: Any = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
