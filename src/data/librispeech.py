"""The utterances of a split of read speech, in the layouts in which LibriSpeech is found.

- its own folders: SPLIT/SPEAKER/CHAPTER/ID.flac (or .wav) beside SPEAKER-CHAPTER.trans.txt, whose lines are "ID TEXT"
- the hub's Parquet files: all/SPLIT/*.parquet with the columns audio {bytes, path}, text and id
- JSON lines: SPLIT.jsonl with audio (a path, relative to the file or absolute), text and, if it likes, id

No audio is decoded and none is copied: an utterance has a reference (src/data/recordings.py) and, from the header of
its audio, a duration. What cannot be used is there with the reason. The text is lower-cased, since LibriSpeech's own is
upper-case alone.
"""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from src.data import tables

THREADS = 16
"""Headers read at once: the files are small and may lie on a network's disk."""
LINES = 512
"""Lines of a .jsonl file that one thread takes at a time."""

AUDIO = (".flac", ".wav")
"""Audio beside a transcript; of two files with one name the first kind counts."""
CHAPTERS = "*/*/*.trans.txt"
"""Transcripts in the folder of a split."""

Name = Callable[[Path], str]
"""How a file is called in references."""


@dataclass(frozen=True)
class Utterance:
    id: str
    text: str
    audio: str
    """Its reference."""
    seconds: float
    fault: str = ""
    """Why it cannot be used, in plain words; empty where it can."""


Part = Callable[[], list[Utterance]]


def parts(folder: Path, split: str, name: Name) -> list[Part]:
    """A split in pieces, each of which reads the headers of some of its utterances when it is called.

    Raises ValueError if the folder does not have the split in any of the layouts, or a file lacks a column.
    """
    root, pattern = find(folder, split)
    files = tables.files(root, pattern)
    if pattern.endswith(".parquet"):
        return [partial(_from_parquet, file, name) for file in files if _checked(file)]
    if pattern.endswith(".trans.txt"):
        chapters = (chapter for chapter in root.glob(pattern.removesuffix("/*.trans.txt")) if chapter.is_dir())
        return [partial(_from_chapter, chapter, name) for chapter in sorted(chapters)]
    return [part for file in files for part in _lines(file, name)]


def find(folder: Path, split: str) -> tuple[Path, str]:
    """Where a split is: a folder, and a pattern of files below it. No more than one of them is looked into.

    Raises ValueError if the folder does not have the split in any of the layouts, or that file lacks a column.
    """
    spellings = list(dict.fromkeys((split, split.replace("-", "."), split.replace(".", "-"))))
    for root in _roots(folder):
        for spelling in spellings:
            chapters = f"{tables.literal(spelling)}/{CHAPTERS}"
            for pattern in (*_patterns(spelling, "parquet"), chapters, *_patterns(spelling, "jsonl")):
                if (found := tables.files(root, pattern)) and (found[0].suffix != ".parquet" or _checked(found[0])):
                    return root, pattern
    dashed, dotted = split.replace(".", "-"), split.replace("-", ".")
    raise ValueError(
        f"{folder} does not have the split {split}: neither {dashed}/SPEAKER/CHAPTER/*.trans.txt (LibriSpeech's own "
        f"folders), nor all/{dotted}/*.parquet (the hub's files), nor {dashed}.jsonl; {_instead(folder, spellings)}"
    )


def _roots(folder: Path) -> list[Path]:
    return [folder, folder / "LibriSpeech", folder / "all", folder / "data"]


def _patterns(split: str, suffix: str) -> tuple[str, ...]:
    name = tables.literal(split)
    return f"{name}.{suffix}", f"{name}-[0-9]*.{suffix}", f"{name}/*.{suffix}"


def _instead(folder: Path, spellings: Sequence[str]) -> str:
    """What is there in the place of a split."""
    for root in _roots(folder):
        for spelling in spellings:
            for suffix in AUDIO:
                if next((root / spelling).glob(f"*/*/*{suffix}"), None):
                    return f"in {root / spelling} there are {suffix} files, but no .trans.txt beside them"
    if folder.name in spellings or next(folder.glob(CHAPTERS), None):
        return f"it is a split itself, as it seems, and what holds the splits is asked for: {folder.parent}"
    found = {_split(place) for root in _roots(folder) if root.is_dir() for place in root.iterdir()} - {""}
    return f"the splits that it has are {', '.join(sorted(found))}" if found else "it has no split at all"


def _split(place: Path) -> str:
    """The split that a file or a folder is, as it would be named; empty if it is none."""
    if place.suffix in (".parquet", ".jsonl") and place.is_file():
        return re.sub(r"-\d.*", "", place.stem)
    return place.name if any(next(place.glob(pattern), None) for pattern in (CHAPTERS, "*.parquet", "*.jsonl")) else ""


def read(parts: Sequence[Part], progress: Callable[[int, int], None]) -> Iterator[Utterance]:
    """The utterances of the parts, in order. progress(done, total) is told of the parts."""
    with ThreadPoolExecutor(THREADS) as pool:
        for done, found in enumerate(pool.map(lambda part: part(), parts), 1):
            progress(done, len(parts))
            yield from found


def _utterance(id: str, text: str | None, audio: str, source: Path | BinaryIO | None) -> Utterance:
    """`source`: a file or a stream to read the header from; None if there is no audio."""
    from src.speech.audio import NoAudio, seconds_of

    text = " ".join(text.lower().split()) if isinstance(text, str) else ""
    fault, seconds = "", 0.0
    if source is None:
        fault = "no audio"
    elif not text:
        fault = "no transcript"
    else:
        try:
            seconds = round(length := seconds_of(source), 4)
        except (OSError, NoAudio):
            fault = "unreadable audio"
        else:
            fault = "" if length else "empty audio"
    id = id.encode("utf-8", "backslashreplace").decode()  # of a file whose name is not UTF-8
    return Utterance(id, text, audio, seconds, fault)


def _from_chapter(chapter: Path, name: Name) -> list[Utterance]:
    files = tables.files(chapter, "*")
    texts = {}
    for transcript in (file for file in files if file.name.endswith(".trans.txt")):
        for number, line in tables.lines(transcript):
            id, *text = tables.decoded(f"{transcript}, line {number}", line).split(maxsplit=1)
            texts[id] = text[0] if text else ""
    audio = {file.stem: file for suffix in reversed(AUDIO) for file in files if file.suffix == suffix}
    return [
        _utterance(id, texts.get(id), name(audio[id]) if id in audio else "", audio.get(id))
        for id in sorted(texts.keys() | audio.keys())
    ]


def _checked(file: Path) -> bool:
    """True. Raises ValueError for a file without the columns."""
    import pyarrow

    columns = tables.columns(file)
    for column in ("audio", "text"):
        if column not in columns.names:
            raise ValueError(f"{file}: column {column!r} is missing; there are {', '.join(columns.names)}")
    encoded = columns.field("audio").type
    if not pyarrow.types.is_struct(encoded) or encoded.get_field_index("bytes") < 0:
        raise ValueError(f"{file}: column 'audio' is {encoded}; it must hold the encoded bytes, as {{bytes, path}}")
    return True


def _from_parquet(file: Path, name: Name) -> list[Utterance]:
    found: list[Utterance] = []
    columns = [column for column in ("audio", "text", "id") if column in tables.columns(file).names]
    for _, row in tables.parquet_rows(file, columns):
        content = (row["audio"] or {}).get("bytes")
        id = str(row.get("id") or f"{file.parent.name}-{file.stem}-{len(found)}")
        source = io.BytesIO(content) if content else None
        found.append(_utterance(id, row["text"], f"{name(file)}#{len(found)}", source))
    return found


def _lines(file: Path, name: Name) -> Iterator[Part]:
    numbered = list(tables.lines(file))
    for start in range(0, len(numbered), LINES):
        yield partial(_from_lines, file, numbered[start : start + LINES], name)


def _from_lines(file: Path, lines: Sequence[tuple[int, str]], name: Name) -> list[Utterance]:
    found = []
    for number, line in lines:
        place = f"{file}, line {number}"
        row = tables.parsed(place, line)
        for column in ("audio", "text"):
            if column not in row:
                raise ValueError(f"{place}: {column!r} is missing; a line has audio, text and maybe id")
        audio = row["audio"].get("path") if isinstance(row["audio"], dict) else row["audio"]
        source = file.parent / str(audio or "")
        id = str(row.get("id") or f"{file.stem}-{number}")
        found.append(_utterance(id, row["text"], name(source), source if source.is_file() else None))
    return found
