"""Train the laptop profile's base model from scratch: a small Llama whose vocabulary already has the unit tokens."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from src.data import jsonl
from src.grid.context import Context
from src.model.chat import Chat
from src.model.tokenizer import build_tokenizer
from src.train.loop import gathered, train
from src.train.settings import Optimization


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, context: Context) -> dict[str, Any]:
    """config: units, architecture (LlamaConfig's own names), optimization. inputs: corpus. Writes theta_0 as model/."""
    settings = Optimization(**config["optimization"])
    words = json.loads((inputs["corpus"] / "words.json").read_text())
    tokenizer = build_tokenizer(words, config["units"])
    examples = Chat(tokenizer).encode([row["messages"] for row in jsonl.read(inputs["corpus"] / "base.jsonl")])
    torch.manual_seed(settings.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            tie_word_embeddings=False,
            **config["architecture"],
        )
    )
    history = train(model, examples, settings, "base", context)
    with gathered(model):
        if int(os.environ["RANK"]) == 0:
            model.save_pretrained(out / "model")
    if int(os.environ["RANK"]) == 0:
        tokenizer.save_pretrained(out / "model")
        jsonl.write(out / "metrics.jsonl", history.metrics)
    return history.summary
