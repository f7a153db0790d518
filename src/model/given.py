"""A model that somebody has trained already, with the units in its vocabulary, as an artifact that can be asked.

A whole model becomes `model/`, as a base has it. A PEFT adapter becomes what a trained stage leaves on the row's base
(src/model/published_adapter.py).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data.prompts import UNIT, unit_token
from src.model import published_adapter, text_part
from src.model.hub_files import commit, snapshot
from src.model.settings import GivenModel
from src.model.template import make_fit
from src.model.tokenizer import extend_with_units

if TYPE_CHECKING:
    from src.grid.context import Context


def write(settings: GivenModel, units: int, base: Path | None, out: Path, context: "Context") -> dict[str, Any]:
    """Write the model into `out`; a summary of what it is.

    units: how many unit tokens its vocabulary must have. base: artifact of the base that an adapter stands on; None for
    a whole model. Raises ValueError, one line that names the setting, where the model cannot be had or does not go with
    the units or the base.
    """
    setting = "adapter" if base else "model"
    try:
        if base:
            source = snapshot(str(settings.adapter), published_adapter.WANTED, settings.revision)
            told = published_adapter.write(source, base / "model", out)
        else:
            source = text_part.fetch(str(settings.model), settings.revision)
            told = _whole(source, units, out / "model")
    except ValueError as error:
        raise ValueError(f"strategy.given.{setting}: {error}") from error
    context.report(done=1, total=1)
    return {**told, "units": units, "commit": commit(source)}


def _whole(source: Path, units: int, out: Path) -> dict[str, Any]:
    """Copy a whole model, its chat template made fit to ask with."""
    check(source, units)
    written = text_part.write(source, out)
    tokenizer = text_part.tokenizer_of(out)
    rows = json.loads((out / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    if rows < len(tokenizer):
        raise ValueError(f"{source}: its tokenizer has {len(tokenizer)} tokens, and its embeddings {rows} rows")
    extend_with_units(tokenizer, units).save_pretrained(out)  # some have added their units as tokens of no kind
    try:
        fixed = make_fit(out)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return {**written, "rows": rows, "first_unit_id": tokenizer.convert_tokens_to_ids(unit_token(0)), **fixed}


def check(source: Path, units: int) -> None:
    """Raise ValueError, one line, for a folder that is no whole model (src/model/text_part.py), or whose unit tokens
    are not <|0|> to <|units - 1|>."""
    text_part.check(source)
    vocabulary: dict[str, int] = text_part.tokenizer_of(source).get_vocab()
    found = {token for token in vocabulary if UNIT.fullmatch(token)}
    wanted = {unit_token(unit) for unit in range(units)}
    if found != wanted:
        last = max(vocabulary, key=lambda token: vocabulary[token])
        has = f"{len(found)} unit tokens of the form {unit_token(0)}"
        raise ValueError(
            f"{source}: its tokenizer has {has if found else f'no {has[2:]}'} (its last token is {last}); the units of "
            f"this row are {unit_token(0)} to {unit_token(units - 1)} (speech.quantizer.clusters={units})"
        )
