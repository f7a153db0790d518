"""The published sets of spoken questions, each as rows {id, set, question, answers, audio}.

From the Hugging Face hub at one commit, or from a local copy in the same columns, Parquet or JSON lines. Nothing else
is read, so that no code of a dataset is ever run.
"""

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from src.data import jsonl
from src.speech.audio import resample

Row = dict[str, Any]


@dataclass(frozen=True)
class QuestionSet:
    """Where a set is published, and how its columns are called."""

    hub: str
    files: str
    """Pattern of its Parquet files in the repository."""
    split: str
    question: str
    answer: str
    audio: str


SETS = {
    "llama_questions": QuestionSet(
        "fixie-ai/llama-questions", "data/test-*.parquet", "test", "question", "answer", "audio"
    ),
    "web_questions": QuestionSet(
        "fixie-ai/spoken-web-questions", "data/test-*.parquet", "test", "question", "answers", "audio"
    ),
    "trivia_qa": QuestionSet(
        "fixie-ai/trivia_qa-audio",
        "rc.wikipedia/validation-*.parquet",
        "validation",
        "question",
        "answer",
        "question_audio",
    ),
}
"""300, 2,032 and 1,000 questions, read out. LLaMA-Questions: Nachmani et al. (2023), arXiv 2305.15255. WebQuestions:
Berant et al. (2013), "Semantic parsing on Freebase from question-answer pairs". TriviaQA: Joshi et al. (2017), arXiv
1705.03551."""


def load(name: str, revision: str | None = None, path: Path | None = None, audio: bool = True) -> Iterator[Row]:
    """The rows of a set, a key of SETS, one at a time: id, set, question, answers (every alias, the first one first),
    audio (float32 [samples] at 16 kHz; None where there is none, or with audio=False).

    revision: the commit of the hub's dataset, 40 hex digits, since a branch may move; only the split's files are
    fetched, to the hub's own cache. path: in place of it a .parquet or .jsonl file, or a folder that holds the hub's
    files or such files named after the split; the audio of a .jsonl file is a path relative to it.

    Raises ValueError, on the call or while reading, for what is missing or of another type.
    """
    if name not in SETS:
        raise ValueError(f"there is no question set {name!r}; there are {', '.join(SETS)}")
    published = SETS[name]
    if (revision is None) == (path is None):
        raise ValueError(f"question set {name}: give either the revision of {published.hub} or a local path")
    if path is not None:
        files = _local_files(path, published)
        if files[0].suffix == ".jsonl":
            return _from_jsonl(name, files, audio)
        return _from_parquet(name, str(path), audio, "parquet", {published.split: [*map(str, files)]}, streaming=True)
    if not re.fullmatch("[0-9a-f]{40}", str(revision)):
        raise ValueError(f"question set {name}: revision {revision!r} of {published.hub} is no commit of 40 hex digits")
    source = f"{published.hub} at {revision}"
    files_on_hub = {published.split: published.files}
    return _from_parquet(name, source, audio, published.hub, files_on_hub, revision=revision)


def check(name: str, path: Path) -> None:
    """Raise ValueError where a local copy of a set has no file, or the first one lacks a column."""
    import pyarrow
    import pyarrow.parquet

    published = SETS[name]
    file = _local_files(path, published)[0]
    if file.suffix == ".jsonl":
        for row in jsonl.read(file):
            return _require(f"{file}, line 1", published, row)
        return None
    try:
        columns = pyarrow.parquet.read_schema(file).names
    except pyarrow.ArrowException as error:
        raise ValueError(f"{file} is no Parquet file: {error}") from None
    return _require(str(path), published, columns)


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


def _local_files(path: Path, published: QuestionSet) -> list[Path]:
    if path.is_file() and path.suffix in (".parquet", ".jsonl"):
        return [path]
    split = published.split
    for pattern in (published.files, f"{split}*.parquet", f"{split}*.jsonl"):
        if files := sorted(path.glob(pattern)):
            return files
    raise ValueError(
        f"{path} is no question set: it must be a .parquet or .jsonl file, or a folder with {published.files}, "
        f"{split}*.parquet or {split}*.jsonl"
    )


def _from_parquet(name: str, source: str, audio: bool, dataset: str, files: Any, **options: Any) -> Iterator[Row]:
    import datasets

    published = SETS[name]
    if dataset == "parquet":
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # no word to the hub of a user's own files
    table: Any = datasets.load_dataset(dataset, data_files=files, split=published.split, **options)
    _require(source, published, table.column_names)
    hearable = audio and published.audio in table.column_names
    table = table.select_columns([published.question, published.answer, *([published.audio] if hearable else [])])
    if hearable and isinstance(table.features[published.audio], datasets.Audio):
        # the encoded bytes: decoding them needs torchcodec there
        table = table.cast_column(published.audio, datasets.Audio(decode=False))
    return _rows(name, ((f"{source}, row {i}", row) for i, row in enumerate(table)), audio, None)


def _from_jsonl(name: str, files: list[Path], audio: bool) -> Iterator[Row]:
    def lines() -> Iterator[tuple[str, Row]]:
        for file in files:
            try:
                for number, row in enumerate(jsonl.read(file), 1):
                    _require(f"{file}, line {number}", SETS[name], row)
                    yield f"{file}, line {number}", row
            except json.JSONDecodeError as error:
                raise ValueError(f"{file} is no JSON lines: {error}") from None

    return _rows(name, lines(), audio, files[0].parent)


def _require(source: str, published: QuestionSet, columns: Iterable[str]) -> None:
    columns = list(map(str, columns))
    for column in (published.question, published.answer):
        if column not in columns:
            raise ValueError(f"{source}: column {column!r} is missing; there are {', '.join(columns) or 'none'}")


def _rows(name: str, table: Iterable[tuple[str, Row]], audio: bool, folder: Path | None) -> Iterator[Row]:
    """Rows of our own out of (where it stands, row as published)."""
    published = SETS[name]
    for index, (where, row) in enumerate(table):
        question = row[published.question]
        if not isinstance(question, str) or not question.strip():
            raise ValueError(f"{where}: {published.question} is {question!r}, it must be text")
        try:
            answers = aliases(row[published.answer])
            samples = _samples(row.get(published.audio), folder) if audio else None
        except (ValueError, OSError, soundfile.LibsndfileError) as error:
            raise ValueError(f"{where}: {error}") from None
        yield {"id": f"{name}-{index}", "set": name, "question": question, "answers": answers, "audio": samples}


def _samples(audio: Any, folder: Path | None) -> npt.NDArray[np.float32] | None:
    """16 kHz mono out of encoded bytes, or of a file in the folder. Several channels are averaged."""
    if audio is None:
        return None
    content, file = (audio.get("bytes"), audio.get("path")) if isinstance(audio, Mapping) else (None, audio)
    encoded: Any = None
    if isinstance(content, bytes):
        encoded = io.BytesIO(content)
    elif folder and isinstance(file, str):
        encoded = folder / file
    else:
        raise ValueError("the audio has neither bytes nor, in a .jsonl file, a path")
    samples, rate = soundfile.read(encoded, dtype="float32", always_2d=True)
    return resample(samples.mean(axis=1), rate)
