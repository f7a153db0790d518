"""theta_0: the base model with the unit tokens <|0|> ... in its tokenizer, its embeddings and its head.

Only these two tensors are loaded and written; the files with the others are shared with the base.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch

from src.model.checkpoint import SHARD_BYTES, Checkpoint, copy_settings, replace
from src.model.text_part import require_every_id
from src.model.tokenizer import PAD, extend_with_units

EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"

Initialization = Literal["mean_covariance", "mean"]


def extend(
    folder: Path,
    out: Path,
    units: int,
    initialization: Initialization = "mean_covariance",
    seed: int = 0,
    pad_to_multiple_of: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> dict[str, Any]:
    """Write to `out` the model in `folder`, with `units` tokens after the tokenizer's own; a summary of what was done.

    initialization: of the new rows. "mean_covariance" draws them around the mean of the old rows with 1e-9 of their
    covariance, as transformers' `resize_token_embeddings` does (Hewitt 2021, "Initializing new word embeddings for
    pretrained language models"); "mean" is the mean itself.
    A row stands for each token of the tokenizer: rows that the model has beyond them are dropped, tokens without a row
    (Llama 3.2 Vision's <|image|>) get a new one. `pad_to_multiple_of` adds rows that no token has.
    Padding is <|finetune_right_pad_id|> where the tokenizer has it (Llama 3.x), else the padding that it has already,
    else the token that ends a turn. Raises ValueError if the tokenizer has unit tokens already.
    """
    from transformers import AutoTokenizer

    if units < 1:
        raise ValueError(f"units={units}: at least one unit token must be added")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    require_every_id(folder, tokenizer.get_vocab().values())
    text_tokens = len(tokenizer)
    extend_with_units(tokenizer, units)
    if known := text_tokens + units - len(tokenizer):
        raise ValueError(f"{folder}: its tokenizer has {known} of the unit tokens already")
    if PAD in tokenizer.get_vocab():
        tokenizer.pad_token = PAD
    elif tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    checkpoint = Checkpoint(folder)
    old_rows = checkpoint.tensor(EMBEDDINGS).shape[0]
    grown = _grown(folder, checkpoint, text_tokens, len(tokenizer), initialization, seed, pad_to_multiple_of)
    rows = grown[EMBEDDINGS].shape[0]
    copy_settings(folder, out)
    replace(folder, out, grown.keys(), grown.items(), shard_bytes)
    tokenizer.save_pretrained(out)
    _update(out / "config.json", vocab_size=rows, pad_token_id=tokenizer.pad_token_id)
    if (out / "generation_config.json").is_file():
        _update(out / "generation_config.json", pad_token_id=tokenizer.pad_token_id)
    return {
        "rows": rows,
        "rows_before": old_rows,
        "text_tokens": text_tokens,
        "first_unit_id": text_tokens,
        "units": units,
        "pad_token": tokenizer.pad_token,
    }


def _grown(
    folder: Path,
    checkpoint: Checkpoint,
    text_tokens: int,
    tokens: int,
    initialization: Initialization,
    seed: int,
    pad_to_multiple_of: int | None,
) -> dict[str, torch.Tensor]:
    """The embeddings and, unless they are tied, the head, with a row for each token."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config: Any = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = 0
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = []
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    names = [EMBEDDINGS] if config.tie_word_embeddings else [EMBEDDINGS, HEAD]
    for name, module in zip(names, (model.get_input_embeddings(), model.get_output_embeddings()), strict=False):
        module.weight = torch.nn.Parameter(checkpoint.tensor(name)[:text_tokens], requires_grad=False)
    model.tie_weights()
    old_rows = model.get_input_embeddings().weight.shape[0]
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model.resize_token_embeddings(tokens, pad_to_multiple_of, mean_resizing=initialization == "mean_covariance")
    made = {name: model.get_parameter(name).detach() for name in names}
    if initialization == "mean":
        for weight in made.values():
            weight[old_rows:] = weight[:old_rows].float().mean(0).to(weight.dtype)
    return made


def _update(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values, indent=2) + "\n")
