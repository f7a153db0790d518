"""Train the laptop profile's base model from scratch: a small Llama whose vocabulary already has the unit tokens."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from src.data import jsonl
from src.grid.context import Context
from src.model.chat import Chat
from src.model.settings import Architecture
from src.model.tokenizer import build_tokenizer
from src.train.examples import Held, Selection
from src.train.loop import gathered, train
from src.train.methods import Role
from src.train.settings import Pretraining


def pretrain(
    units: int, architecture: Architecture, settings: Pretraining, corpus: Path, out: Path, context: Context
) -> dict[str, Any]:
    """Train a base model on the corpus's base.jsonl, and write it, theta_0, as `out/model`; returns the summary.

    units: unit tokens in its vocabulary.
    """
    words = json.loads((corpus / "words.json").read_text())
    tokenizer = build_tokenizer(words, units)
    examples = Held(Chat(tokenizer).encode([row["messages"] for row in jsonl.read(corpus / "base.jsonl")]))
    taken = examples.usable(settings)
    torch.manual_seed(settings.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            tie_word_embeddings=False,
            **asdict(architecture),
        )
    )
    chosen = Selection([(examples, taken, Role.CROSS_ENTROPY)], settings.max_length)
    history = train(model, chosen, settings, "base", context)
    with gathered(model):
        if int(os.environ["RANK"]) == 0:
            model.save_pretrained(out / "model")
    if int(os.environ["RANK"]) == 0:
        tokenizer.save_pretrained(out / "model")
        jsonl.write(out / "metrics.jsonl", history.metrics)
    return history.summary | {"dropped_too_long": len(examples) - len(taken)}
