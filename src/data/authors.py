"""The training examples that the paper's authors have published, with units and interleaving done.

| list | data set | columns |
|---|---|---|
| asr.jsonl | ls960_interleaves | discrete_unit, transcription |
| tts.jsonl | the same | transcription, interleaf: words with their units, `he<|17|><|4|> said<|9|>` |
| sqa.jsonl | Magpie_rank{R}_chunk{C}_interleaves | input_unit, input_pseudo, output_pseudo, output_7306_interleaf |

So their code reads them (ForgetSLM, train/stages.py and train/data.py, which also leaves out rows by task_category).
The lists have the form of a step `units`. The column `instruction` is not read: the instructions are this project's
own, which are those that the models are asked with.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data import jsonl, magpie, tables
from src.data.prompts import UNIT, units_of
from src.data.settings import ReadyUnits
from src.data.unit_format import Units

if TYPE_CHECKING:
    from src.grid.context import Context

Row = dict[str, Any]
COLUMNS = {
    "speech": ("discrete_unit", "transcription", "interleaf"),
    "questions": ("input_unit", "input_pseudo", "output_pseudo", "output_7306_interleaf"),
}
CHUNK = re.compile(r"Magpie_rank(\d+)_chunk(\d+)_interleaves")
RUN = re.compile(rf"(?:{UNIT.pattern}\s*)+")
FRAME_RATE = 50.0
"""Units a second of XLSR2-1B-v2. A unit stands once for each frame."""


class NoExample(ValueError):
    """A row of which no example can be made; the message is the reason."""


def write(
    settings: ReadyUnits, excluded: Collection[str], clusters: int, out: Path, context: "Context"
) -> dict[str, Any]:
    """Write asr.jsonl, tts.jsonl, sqa.jsonl and units.json into `out`; returns how many rows were kept and dropped.

    excluded: values of task_category that are left out of sqa. clusters: units are numbers below it. Raises ValueError,
    one line that names the setting, for files that are missing or lack a column, and if half of a list or more cannot
    be used.
    """
    data: dict[str, Any] = {}
    for name, (source, _) in LISTS.items():
        dropped: Counter[str] = Counter()
        setting = f"data.units.{source}.path"
        try:
            found = files(getattr(settings, source).folder)
            examples = _examples(name, found, excluded if name == "sqa" else (), clusters, dropped)
            jsonl.write(out / f"{name}.jsonl", examples)
            total = magpie.count(found)
            unfit = sum(count for reason, count in dropped.items() if not reason.startswith(magpie.CATEGORY))
            if 2 * unfit >= total - (dropped.total() - unfit):
                reasons = "; ".join(f"{reason}: {count}" for reason, count in dropped.items()) or "there are none"
                raise ValueError(f"of {total} rows for {name}, {total - dropped.total()} can be used ({reasons})")
        except ValueError as error:
            raise ValueError(f"{setting}: {error}") from None
        data[name] = {"kept": total - dropped.total(), "dropped": dict(sorted(dropped.items()))}
        context.report(doing=name, done=len(data), total=len(LISTS))
    Units(FRAME_RATE, clusters, repeats=True).write(out)
    return {"data": data}


def files(folder: Path) -> list[Path]:
    """The files of a copy: of the data set in the folder, or of every Magpie_rank{R}_chunk{C}_interleaves in it, in the
    order of their numbers. Raises ValueError if there are none."""
    parts = folder.iterdir() if folder.is_dir() else ()
    chunks = sorted((tuple(map(int, found.groups())), part) for part in parts if (found := CHUNK.fullmatch(part.name)))
    return [file for _, part in chunks for file in magpie.find(part)] if chunks else magpie.find(folder)


def check(source: str, folder: Path, categories: bool) -> None:
    """Raise ValueError for files that are missing or lack a column. source: speech or questions."""
    for file in files(folder):
        names = tables.columns(file).names if file.suffix == ".parquet" else next(tables.json_lines(file), ("", {}))[1]
        _require(str(file), source, names, categories)


def _require(place: str, source: str, names: Collection[str], categories: bool) -> list[str]:
    wanted = [*COLUMNS[source], *([magpie.CATEGORY] if categories and source == "questions" else [])]
    for column in wanted:
        if column not in names:
            raise ValueError(f"{place}: column {column!r} is missing; there are {', '.join(names) or 'none'}")
    return wanted


def _examples(
    name: str, found: Sequence[Path], excluded: Collection[str], clusters: int, dropped: Counter[str]
) -> Iterator[Row]:
    source, make = LISTS[name]
    number = 0
    for file in found:
        if file.suffix == ".parquet":
            rows = tables.parquet_rows(file, _require(str(file), source, tables.columns(file).names, bool(excluded)))
        else:
            rows = tables.json_lines(file)
        for place, row in rows:
            if file.suffix != ".parquet":
                _require(place, source, row, bool(excluded))
            number += 1
            try:
                if excluded and row[magpie.CATEGORY] in excluded:
                    raise NoExample(f"{magpie.CATEGORY} {row[magpie.CATEGORY]}")
                yield {"id": f"{name}-{number}", **make(row, clusters)}
            except NoExample as reason:
                dropped[str(reason)] += 1


def _asr(row: Row, clusters: int) -> Row:
    return _whole(row["transcription"], row["discrete_unit"], clusters)


def _tts(row: Row, clusters: int) -> Row:
    return _interleaved(row["transcription"], row["interleaf"], clusters)


def _sqa(row: Row, clusters: int) -> Row:
    return {
        "question": _whole(row["input_pseudo"], row["input_unit"], clusters),
        "answer": _interleaved(row["output_pseudo"], row["output_7306_interleaf"], clusters),
    }


def _whole(text: Any, units: Any, clusters: int) -> Row:
    text = _text(text)
    return {"text": text, "words": [text], "units": [_units(units, clusters)]}


def _interleaved(text: Any, interleaved: Any, clusters: int) -> Row:
    """A text with its words, each an expression between two runs of units, and the run behind it."""
    content = _text(interleaved)
    words, units, start = [], [], 0
    for run in RUN.finditer(content):
        words.append(content[start : run.start()].strip())
        units.append(_units(list(units_of(run[0])), clusters))
        start = run.end()
    if not units:
        raise NoExample("no units")
    if rest := content[start:].strip():
        words.append(rest)
        units.append([])
    return {"text": _text(text), "words": words, "units": units}


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise NoExample("no text")
    return value.strip()


def _units(value: Any, clusters: int) -> list[int]:
    if not isinstance(value, list) or not value:
        raise NoExample("no units")
    if not all(isinstance(unit, int) and 0 <= unit < clusters for unit in value):
        raise NoExample(f"units that are no numbers below {clusters}")
    return value


LISTS: dict[str, tuple[str, Callable[[Row, int], Row]]] = {
    "asr": ("speech", _asr),
    "tts": ("speech", _tts),
    "sqa": ("questions", _sqa),
}
"""List -> the setting of its source, and what makes an example of a row."""
