"""Question sets of anyone's: texts with answers, read out or not, each as rows {id, set, question, answers, audio}.

docs/question_sets.md describes the form. Files alone are read, Parquet or JSON lines, so that no code of a dataset is
ever run. Imports nothing heavy: a plan checks local files with it.
"""

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from src.data import tables
from src.data.settings import QuestionSet
from src.grid.errors import ConfigError

Row = dict[str, Any]
ID = re.compile(r"[\w.-]+")


def pinned(sets: Mapping[str, QuestionSet]) -> dict[str, QuestionSet]:
    """The sets as a step's settings: with the checksum of what a local path holds, and without the title, which changes
    no result. Raises ConfigError, which names data.questions.NAME.path, for a local copy that is missing or wrong."""
    found = {}
    for name, one in sets.items():
        content = None
        if one.path is not None:
            try:
                content = checksum(one, check(name, one))
            except ValueError as error:
                raise ConfigError(f"data.questions.{name}.path: {str(error).splitlines()[0]}") from None
        found[name] = replace(one, title="", content=content)
    return found


def checksum(settings: QuestionSet, files: Iterable[Path]) -> str:
    """SHA-256 (hex) of the files of a set, and of the audio files that its JSON lines name. Raises ValueError, which
    names file and line, for an audio file that cannot be read."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
        if file.suffix == ".jsonl":
            for place, row in tables.json_lines(file):
                audio = _audio_file(row.get(settings.audio))
                if audio is not None:
                    try:
                        content = (file.parent / audio).read_bytes()
                    except OSError as error:
                        raise ValueError(f"{place}: {file.parent / audio}: {error.strerror}") from None
                    digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def unchanged(settings: QuestionSet, path: Path) -> None:
    """Raise ValueError where the files in `path` are not those of the plan."""
    if settings.content is not None and checksum(settings, local_files(path, settings)) != settings.content:
        raise ValueError(f"{path} has changed since the plan was made: launch the grid again")


def keep_audio(row: Row, out: Path) -> Row:
    """A row of `load` for eval_qa.jsonl: its audio goes to `out`/audio, where there is some."""
    from src.speech.audio import write_audio

    told = {key: value for key, value in row.items() if key != "audio"}
    if row["audio"] is None:
        return told
    audio = f"audio/{row['id']}.flac"
    write_audio(out / audio, row["audio"])
    return {**told, "audio": audio}


def counted(kept: int, unheard: Sequence[str], not_drawn: int = 0) -> dict[str, Any]:
    """What a summary says of a set. unheard: why the audio of each row that was left out is unreadable.

    Raises ValueError if that is more than half of them: then something else is wrong than a few files.
    """
    if len(unheard) > kept:
        of = kept + len(unheard)
        raise ValueError(f"the audio of {len(unheard)} of {of} questions is unreadable, as first of {unheard[0]}")
    dropped = {"not drawn": not_drawn, "unreadable audio": len(unheard)}
    return {"kept": kept, "dropped": {reason: count for reason, count in dropped.items() if count}}


def check(name: str, settings: QuestionSet, place: Path | None = None) -> list[Path]:
    """The files of a local copy (place: another than settings.path). Raises ValueError, one line, where there are none,
    one lacks a column, or JSON lines are not what they must be; what is in the rows of Parquet, a step finds."""
    files = local_files(place or local_path(settings), settings)
    if files[0].suffix == ".jsonl":
        for _ in _rows(name, settings, _lines(files, settings), None):
            pass
        return files
    rows = 0
    for file in files:
        _require(str(file), settings, tables.columns(file).names)
        rows += tables.row_count(file)
    if not rows:
        raise ValueError(f"{files[0].parent} holds no question")
    return files


def load(name: str, settings: QuestionSet, path: Path, audio: bool = True) -> Iterator[Row]:
    """The rows of a set, one at a time: id, set, question, answers (every alias, the first one first), audio (float32
    [samples] at 16 kHz; None where there is none, or with audio=False). A row whose audio is there and cannot be heard
    has the reason as `fault`.

    path: a .parquet or .jsonl file, or a folder with the files of settings.files or such files named after the split;
    the audio of a .jsonl file is a path relative to it. Raises ValueError, on the call or while reading, for what is
    missing or of another type, for an id that is there twice, and for a set without rows.
    """
    files = local_files(path, settings)
    if files[0].suffix == ".jsonl":
        return _rows(name, settings, _lines(files, settings), files[0].parent if audio else None, audio)
    return _rows(name, settings, _from_parquet(files, settings, audio), None, audio)


def local_path(settings: QuestionSet) -> Path:
    """Where a set with a local copy lies."""
    return Path(str(settings.path)).expanduser().absolute()


def local_files(path: Path, settings: QuestionSet) -> list[Path]:
    """The files of a set in `path`: itself, or what a folder holds. Raises ValueError if there are none."""
    if path.is_file() and path.suffix in (".parquet", ".jsonl"):
        return [path]
    split = tables.literal(settings.split)
    patterns = [pattern for pattern in (settings.files, f"{split}*.parquet", f"{split}*.jsonl") if pattern]
    for pattern in patterns:
        if files := tables.files(path, pattern):
            return files
    raise ValueError(
        f"{path} is no question set: it must be a .parquet or .jsonl file, or a folder with {', '.join(patterns[:-1])} "
        f"or {patterns[-1]}"
    )


def aliases(answer: Any) -> list[str]:
    """Every answer once, in order, of a published `answer`: a string, a list of them, or TriviaQA's mapping of value,
    aliases and normalized_aliases. Raises ValueError if it is something else, or holds none."""
    if isinstance(answer, Mapping):
        found = [answer.get("value"), *(answer.get("aliases") or ()), *(answer.get("normalized_aliases") or ())]
        found = [one for one in found if one is not None]
    else:
        found = [answer] if isinstance(answer, str) else answer
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"{answer!r} is no answer: it must be text, a list of texts, or value and aliases")
    found = [one for one in dict.fromkeys(found) if one.strip()]
    if not found:
        raise ValueError(f"{answer!r} holds no answer")
    return found


def _from_parquet(files: list[Path], settings: QuestionSet, audio: bool) -> Iterator[tuple[str, Row]]:
    for file in files:
        there = tables.columns(file).names
        _require(str(file), settings, there)
        wanted = dict.fromkeys([settings.question, settings.answer, *([settings.id] if settings.id else [])])
        hearable = audio and settings.audio in there
        yield from tables.parquet_rows(file, [*wanted, *([settings.audio] if hearable else [])])


def _lines(files: list[Path], settings: QuestionSet) -> Iterator[tuple[str, Row]]:
    for file in files:
        for place, row in tables.json_lines(file):
            _require(place, settings, row)
            yield place, row


def _require(source: str, settings: QuestionSet, columns: Iterable[str]) -> None:
    columns = list(map(str, columns))
    for column in (settings.question, settings.answer, *([settings.id] if settings.id else [])):
        if column not in columns:
            raise ValueError(f"{source}: column {column!r} is missing; there are {', '.join(columns) or 'none'}")


def _rows(
    name: str, settings: QuestionSet, table: Iterable[tuple[str, Row]], folder: Path | None, audio: bool = False
) -> Iterator[Row]:
    """Rows of our own out of (where it stands, row as published). folder: where audio files are."""
    seen: set[str] = set()
    for index, (where, row) in enumerate(table):
        question = row[settings.question]
        if not isinstance(question, str) or not question.strip():
            raise ValueError(f"{where}: {settings.question} is {question!r}, it must be text")
        own = str(row[settings.id]) if settings.id else str(index)
        if ID.fullmatch(own) is None:
            raise ValueError(f"{where}: {settings.id} is {own!r}, it must be letters, digits, dots and hyphens")
        if own in seen:
            raise ValueError(f"{where}: {settings.id} is {own!r}, as in a row before it")
        seen.add(own)
        try:
            answers = aliases(row[settings.answer])
            heard: Row = _heard(row.get(settings.audio), folder) if audio else {"audio": None}
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if "fault" in heard:
            heard["fault"] = f"{where}: {heard['fault']}"
        yield {"id": f"{name}-{own}", "set": name, "question": question, "answers": answers, **heard}
    if not seen:
        raise ValueError("it holds no question")


def _audio_file(audio: Any) -> str | None:
    """The path that a JSON line gives as audio."""
    found = audio.get("path") if isinstance(audio, Mapping) else audio
    return found if isinstance(found, str) else None


def _heard(audio: Any, folder: Path | None) -> Row:
    """`audio` of a row, 16 kHz mono out of encoded bytes or a file in the folder, and `fault` if that cannot be heard.

    Raises ValueError for what is not there, or of another type.
    """
    from src.speech.audio import NoAudio, read_audio

    if audio is None:
        return {"audio": None}
    content = audio.get("bytes") if isinstance(audio, Mapping) else audio
    try:
        if isinstance(content, bytes):
            return {"audio": read_audio(io.BytesIO(content))}
        if folder and (file := _audio_file(audio)):
            return {"audio": read_audio(folder / file)}
    except NoAudio as error:
        return {"audio": None, "fault": str(error)}
    except OSError as error:
        raise ValueError(f"{audio} cannot be read: {error}") from None
    raise ValueError("the audio has neither bytes nor, in a .jsonl file, a path")
