"""Rows that a user gives, in a JSONL file or as a dataset on the hub, each with its place for messages."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.data import tables

SHOWN_PROBLEMS = 20


def is_local(source: str | Path) -> bool:
    """Whether a source of prompts is a file or folder here, and not the name of a dataset on the hub.

    Raises FileNotFoundError if it is neither.
    """
    if Path(source).exists():
        return True
    if isinstance(source, str) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(?<!\.jsonl)(?<!\.json)", source):
        return False
    raise FileNotFoundError(f"{source}: no such file, nor the name of a dataset on the hub such as google/IFEval")


def read_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(place, row) for each line of a JSONL file (src/data/tables.py), where place is "path:line".

    Raises ValueError with one line for each line that is not a JSON object, or if there are no rows.
    """
    rows, problems = [], []
    for number, line in tables.lines(path):
        place = f"{path}:{number}"
        try:
            rows.append((place, tables.parsed(place, line)))
        except ValueError as error:
            problems.append(str(error))
    raise_problems(problems)
    if not rows:
        raise ValueError(f"{path}: is empty; each line must be one JSON object")
    return rows


def hub_rows(
    source: str, config: str | None = None, revision: str | None = None, files: str | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """(place, row) for each row of a dataset on the hub: its train split, or the files that a pattern names.

    Raises ValueError if they cannot be loaded.
    """
    import datasets

    try:
        rows = datasets.load_dataset(source, config, data_files=files, split="train", revision=revision)
    except Exception as error:  # whatever the hub, its client or a parser of theirs meets
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{source} could not be loaded from the hub ({type(error).__name__}: {first}); a copy of it can be given "
            "by its path"
        ) from error
    name = " ".join(filter(None, (source, config, files)))
    return [(f"{name}, row {number}", dict(row)) for number, row in enumerate(rows)]


def raise_problems(problems: Sequence[str]) -> None:
    """Raise one ValueError with a line for each problem, if there are any; at most the first 20 are written out."""
    if len(problems) > SHOWN_PROBLEMS:
        problems = [*problems[:SHOWN_PROBLEMS], f"and {len(problems) - SHOWN_PROBLEMS} more problems"]
    if problems:
        raise ValueError("\n".join(problems))
