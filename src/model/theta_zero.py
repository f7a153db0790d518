"""theta_0 of a published text model: its text part, with the units in its vocabulary."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.model import text_part
from src.model.hub_files import commit
from src.model.settings import PublishedModel
from src.model.template import make_fit
from src.model.vocabulary import extend

if TYPE_CHECKING:
    from src.grid.context import Context


def write(settings: PublishedModel, units: int, out: Path, context: "Context") -> dict[str, Any]:
    """Write theta_0 as `out/model`, in the type of the published weights; a summary of what was done.

    units: how many unit tokens its vocabulary gets. Raises ValueError where the model cannot be had, is none that can
    be trained, or is another than the plan was made with (settings.architecture, settings.text_tokens).
    """
    plain = context.work / "plain"
    shutil.rmtree(plain, ignore_errors=True)
    try:
        source = text_part.fetch(settings.pretrained, settings.revision)
        context.report(done=0, total=2)
        written = text_part.write(source, plain)
    except ValueError as error:
        raise ValueError(f"model.pretrained: {error}") from error
    agree(plain, settings.architecture or {})
    context.report(done=1, total=2)
    grown = extend(
        plain, out / "model", units, settings.initialization, settings.seed, settings.pad_to_multiple_of
    )
    shutil.rmtree(plain)
    planned = settings.text_tokens
    if planned not in (None, grown["text_tokens"]):
        raise ValueError(f"model.text_tokens={planned}: the tokenizer of {settings.pretrained} has "
                         f"{grown['text_tokens']}")  # fmt: skip
    try:
        fixed = make_fit(out / "model")
    except ValueError as error:
        raise ValueError(f"model.pretrained={settings.pretrained}: {error}") from error
    context.report(done=2, total=2)
    return {**written, **grown, "commit": commit(source), **fixed}


def agree(folder: Path, planned: Mapping[str, Any]) -> None:
    """Raise ValueError where the model in `folder` has another architecture than the plan was made with."""
    found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key, value in planned.items():
        if key in found and found[key] != value:
            raise ValueError(f"model.architecture.{key}={value}: the model that was fetched has {found[key]}")
