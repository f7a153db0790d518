"""Instructions with responses (Magpie), and what is drawn of them: spoken questions, and texts to replay.

Parquet files (the hub's data/train-*.parquet) or JSON lines with the columns input, output and, where categories are
excluded, task_category; instruction and response will do for the first two, as Magpie's later sets call them. They are
read once, row after row; only what may still be drawn is kept in memory.

A row is known by its instruction, normalized: of rows that ask the same, one is drawn at most, and it is the same one
whatever the order of files and rows. Rows that ask what is asked in an evaluation are left out.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.data import tables
from src.data.draw import Lowest, rank
from src.data.settings import TextSource

NAMES = (("input", "output"), ("instruction", "response"))
CATEGORY = "task_category"
SPEAKABLE = re.compile(r"[A-Za-z0-9À-ÖØ-öø-ÿ\s.,;:!?'\"()‘’“”…–—$%&/-]*")
"""What can be read aloud: letters of Western European languages, digits, punctuation and a few signs. It excludes code,
markup, formulas and other scripts."""
LINK = re.compile(r"https?:|www\.", re.IGNORECASE)

Texts = tuple[str, str, str]
"""Instruction, response, category ("" where there is none)."""


@dataclass
class Drawn:
    """Rows by list, lowest rank first, and what became of all the others."""

    sqa: list[dict[str, Any]]
    pool: list[dict[str, Any]]
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    """List -> reason -> rows."""


def normalized(text: str) -> str:
    """The words of a text alone, in lower case: what makes two instructions the same."""
    return " ".join(re.findall(r"\w+", text.lower()))


def find(path: Path) -> list[Path]:
    """The files of a local copy: a .parquet or .jsonl file, or a folder. Raises ValueError if there are none."""
    if path.is_file() and path.suffix in (".parquet", ".jsonl"):
        return [path]
    for pattern in ("data/train-*.parquet", "train*.parquet", "*.parquet", "train*.jsonl", "*.jsonl"):
        if files := tables.files(path, pattern):
            return files
    raise ValueError(
        f"{path} holds no texts: it must be a .parquet or .jsonl file, or a folder with data/train-*.parquet, "
        "*.parquet or *.jsonl"
    )


def draw(
    files: Sequence[Path], settings: TextSource, seed: int, held: Collection[str], progress: Callable[[int], None]
) -> Drawn:
    """The rows for spoken questions and those to replay from, none of them in both.

    held: normalized questions and prompts of the evaluation. progress(rows) is told how many were read.
    Raises ValueError for a file that lacks a column, or if no row is left for a list.
    """
    asked = settings.sqa_examples or 0
    spoken, pooled = Lowest(asked), Lowest(settings.pool_texts + asked)
    reasons: dict[str, Counter[str]] = {"sqa": Counter(), "pool": Counter()}
    read = passed_sqa = passed_pool = 0
    for instruction, response, category in texts(files, bool(settings.excluded_categories)):
        instruction, response = instruction.strip(), response.strip()
        key = normalized(instruction)
        reason = "empty" if not key or not response else "asked in the evaluation" if key in held else ""
        row = json.dumps([instruction, response], ensure_ascii=False).encode()
        if fault := reason or _unspoken(instruction, response, category, settings):
            reasons["sqa"][fault] += 1
        else:
            passed_sqa += 1
            spoken.offer(rank(seed, "sqa", key), row)
        if reason or len(instruction.split()) + len(response.split()) > settings.pool_max_words:
            reasons["pool"][reason or f"longer than {settings.pool_max_words} words"] += 1
        else:
            passed_pool += 1
            pooled.offer(rank(seed, "pool", key), row)
        read += 1
        if read % 1000 == 0:
            progress(read)
    sqa = [json.loads(row) for row in spoken.items()]
    taken = {normalized(instruction) for instruction, _ in sqa}
    rest = (json.loads(row) for row in pooled.items())
    pool = [row for row in rest if normalized(row[0]) not in taken][: settings.pool_texts]
    for name, kept, passed in (("sqa", sqa, passed_sqa), ("pool", pool, passed_pool)):
        if not kept and (name == "pool" or asked):
            because = "; ".join(f"{reason}: {count}" for reason, count in reasons[name].items()) or "there are none"
            if passed:
                because = f"sqa takes {len(sqa)}: lower data.text.sqa_examples={asked}"
            raise ValueError(f"of the {read} rows of {files[0].parent}, none is left for {name} ({because})")
        if passed > len(kept):
            reasons[name]["not drawn, or the same instruction again"] = passed - len(kept)
    return Drawn(
        # A question is spoken, and its transcript ends at the first blank line of a response.
        [{"id": f"sqa-{_digest(asked)}", "question": " ".join(asked.split()), "answer": said} for asked, said in sqa],
        [
            {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
            for asked, said in pool
        ],
        {name: dict(sorted(counts.items())) for name, counts in reasons.items()},
    )


def _digest(instruction: str) -> str:
    return f"{rank(0, 'id', normalized(instruction)):016x}"


def _unspoken(instruction: str, response: str, category: str, settings: TextSource) -> str:
    """Why a row cannot be a spoken question with its answer; empty if it can."""
    if category in settings.excluded_categories:
        return f"category {category}"
    if len(instruction.split()) > settings.max_input_words:
        return f"question longer than {settings.max_input_words} words"
    if len(response.split()) > settings.max_output_words:
        return f"answer longer than {settings.max_output_words} words"
    for text in (instruction, response):
        if not SPEAKABLE.fullmatch(text) or LINK.search(text):
            return "not to be read aloud (code, markup, links, other scripts)"
    return ""


def count(files: Sequence[Path]) -> int:
    """How many rows the files have."""
    return sum(
        tables.row_count(file) if file.suffix == ".parquet" else sum(1 for _ in tables.lines(file)) for file in files
    )


def texts(files: Sequence[Path], categories: bool) -> Iterator[Texts]:
    """The rows of the files. Raises ValueError, which names the file, for a column that is missing; with `categories`,
    task_category is one that must be there."""
    for file in files:
        yield from (_from_parquet if file.suffix == ".parquet" else _from_jsonl)(file, categories)


def _columns(where: str, there: Collection[str], categories: bool) -> list[str]:
    pair = next((pair for pair in NAMES if set(pair) <= set(there)), None)
    if pair is None or (categories and CATEGORY not in there):
        wanted = f"{CATEGORY!r}" if pair else "'input' or 'output'"
        without = ", or set data.text.excluded_categories=[]" if pair else ""
        raise ValueError(f"{where}: column {wanted} is missing; there are {', '.join(there) or 'none'}{without}")
    return [*pair, *([CATEGORY] if categories else [])]


def _texts(values: Sequence[Any]) -> Texts:
    instruction, response, category = (value if isinstance(value, str) else "" for value in (*values, "")[:3])
    return instruction, response, category


def _from_parquet(file: Path, categories: bool) -> Iterator[Texts]:
    names = tables.columns(file).names
    for batch in tables.batches(file, _columns(str(file), names, categories), size=1024):
        yield from map(_texts, zip(*batch, strict=True))


def _from_jsonl(file: Path, categories: bool) -> Iterator[Texts]:
    for place, row in tables.json_lines(file):
        yield _texts([row[column] for column in _columns(place, row, categories)])
