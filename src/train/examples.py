"""The examples of a stage, tokenized once: written by a step of their own, mapped into memory by every training.

An artifact holds Arrow files, in the format that `datasets.Dataset.from_file` reads, with a row for each example:

    ids     list<int32>  its tokens
    spans   list<int32>  where the tokens that are learned begin and end: begin, end, begin, end ...
    length  int32        its number of tokens
"""

import itertools
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from transformers import AutoTokenizer

from src.grid.context import Context
from src.model.chat import IGNORE, Chat, Example
from src.stages import Conversation
from src.train.methods import Role
from src.train.settings import Optimization

CHUNK = 2048
"""Conversations that are tokenized, written and found together."""
FILE_TOKENS = 2**27
"""Tokens after which a new file begins: 512 MiB."""

SCHEMA = pa.schema([("ids", pa.list_(pa.int32())), ("spans", pa.list_(pa.int32())), ("length", pa.int32())])


def tokenize(
    conversations: Iterator[Conversation], file: Path, base: Path, out: Path, context: Context
) -> dict[str, Any]:
    """Write the examples of the conversations into `out`; returns their counts.

    file: the list that the conversations are made of, one line each. base: the artifact of the base model.
    Raises ValueError where there are none.
    """
    total = _lines(file)
    if not total:
        raise ValueError(f"{file} has no rows: there is nothing to train on")
    chat = Chat(AutoTokenizer.from_pretrained(base / "model"))
    with Writer(out) as writer:
        while chunk := list(itertools.islice(conversations, CHUNK)):
            writer.add(chat.encode(chunk))
            context.report(done=len(writer.lengths), total=total, tokens=writer.tokens)
    lengths = np.array(writer.lengths)
    return {
        "examples": len(lengths),
        "tokens": int(lengths.sum()),
        "learned_tokens": writer.learned,
        "longest": int(lengths.max()),
        "mean": round(float(lengths.mean()), 1),
        "data": {file.stem: {"kept": len(lengths), "dropped": {}}},
    }


class Writer:
    """Writes examples, some thousand at a time, into the Arrow files of a folder."""

    def __init__(self, out: Path, file_tokens: int = FILE_TOKENS):
        self.out, self.file_tokens = out, file_tokens
        self.lengths: list[int] = []
        self.tokens = self.learned = 0
        self._files = 0
        self._left = 0
        self._stream: pa.ipc.RecordBatchStreamWriter | None = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def add(self, examples: Sequence[Example]) -> None:
        lengths = [len(example.ids) for example in examples]
        spans = [_spans(example.labels) for example in examples]
        if self._stream is None or self._left <= 0:
            if self._stream is not None:
                self._stream.close()
            self._stream = pa.ipc.new_stream(str(self.out / f"examples-{self._files:05d}.arrow"), SCHEMA)
            self._files += 1
            self._left = self.file_tokens
        columns = [_lists([np.array(example.ids, np.int32) for example in examples]), _lists(spans),
                   pa.array(lengths, pa.int32())]  # fmt: skip
        self._stream.write_batch(pa.record_batch(columns, schema=SCHEMA))
        self.lengths += lengths
        self.tokens += sum(lengths)
        self.learned += sum(int(span[1::2].sum() - span[::2].sum()) for span in spans)
        self._left -= sum(lengths)


class Lazy(Sequence[Example]):
    """Examples that are made when they are asked for."""

    lengths: np.ndarray
    """Tokens of each."""

    @abstractmethod
    def one(self, i: int) -> Example:
        """The example at a place from 0 up."""

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, i: int) -> Example: ...
    @overload
    def __getitem__(self, i: slice) -> list[Example]: ...
    def __getitem__(self, i: int | slice) -> Example | list[Example]:
        if isinstance(i, slice):
            return [self.one(j) for j in range(*i.indices(len(self)))]
        return self.one(range(len(self))[i])


class Origin(Lazy):
    """Examples of one origin, whatever their lengths."""

    @abstractmethod
    def learned(self, longest: int) -> np.ndarray:
        """How many of the first `longest` tokens of each are learned; never the first one, which nothing predicts."""

    def usable(self, settings: Optimization) -> np.ndarray:
        """The places of those that a training with these settings takes, ascending: by `too_long` those that are not
        longer than `max_length`, or those in which something is left to learn when they are cut there."""
        taken = self.learned(settings.max_length) > 0
        if settings.too_long == "drop":
            taken &= self.lengths <= settings.max_length
        return np.flatnonzero(taken)


class Held(Origin):
    """Examples in memory."""

    def __init__(self, examples: Sequence[Example]):
        self._examples = examples
        self.lengths = np.array([len(example.ids) for example in examples], np.int64)

    def learned(self, longest: int) -> np.ndarray:
        counts = [sum(label != IGNORE for label in example.labels[1:longest]) for example in self._examples]
        return np.array(counts, np.int64)

    def one(self, i: int) -> Example:
        return self._examples[i]


class Stored(Origin):
    """The examples of an artifact. Only the lengths and what is asked for are read from disk."""

    def __init__(self, folder: Path):
        files = sorted(folder.glob("*.arrow"))
        if not files:
            raise ValueError(f"{folder} has no examples (*.arrow)")
        table = pa.concat_tables(pa.ipc.open_stream(pa.memory_map(str(file))).read_all() for file in files)
        self.lengths = table["length"].to_numpy()
        self._ids, self._spans = table["ids"].chunks, table["spans"].chunks
        self._ends = list(itertools.accumulate(len(chunk) for chunk in self._ids))

    def learned(self, longest: int) -> np.ndarray:
        counts = []
        for chunk in self._spans:
            spans = np.diff(chunk.offsets.to_numpy()) // 2
            begins, ends = chunk.flatten().to_numpy().reshape(-1, 2).clip(1, longest).T
            rows = np.repeat(np.arange(len(chunk)), spans)
            counts.append(np.bincount(rows, weights=ends - begins, minlength=len(chunk)).astype(np.int64))
        return np.concatenate(counts)

    def one(self, i: int) -> Example:
        chunk = bisect_right(self._ends, i)
        row = i - (self._ends[chunk - 1] if chunk else 0)
        ids: list[int] = self._ids[chunk][row].as_py()
        labels = [IGNORE] * len(ids)
        bounds = self._spans[chunk][row].as_py()
        for start, end in zip(bounds[::2], bounds[1::2], strict=True):
            labels[start:end] = ids[start:end]
        return Example(ids, labels)


class Selection(Lazy):
    """Some rows of several sets, one set after the other; what is longer than `longest` is cut there."""

    learned: np.ndarray
    """The learned tokens of each."""
    roles: np.ndarray
    """The Role of each."""
    origins: np.ndarray
    """The number of the set that each is of, as in `parts`."""

    def __init__(self, parts: Sequence[tuple[Origin, Sequence[int] | np.ndarray, Role]], longest: int):
        sizes = [len(rows) for _, rows, _ in parts]
        taken = [np.asarray(rows, np.int64) for _, rows, _ in parts]
        self.longest = longest
        self._sets = [each for each, _, _ in parts]
        self.origins = np.repeat(np.arange(len(parts)), sizes)
        self._row = np.concatenate(taken)
        whole = [each.lengths[rows] for each, rows in zip(self._sets, taken, strict=True)]
        self.lengths = np.minimum(np.concatenate(whole), longest)
        learned = [each.learned(longest)[rows] for each, rows in zip(self._sets, taken, strict=True)]
        self.learned = np.concatenate(learned)
        self.roles = np.repeat([int(role) for _, _, role in parts], sizes)

    def one(self, i: int) -> Example:
        example = self._sets[self.origins[i]][int(self._row[i])]
        return Example(example.ids[: self.longest], example.labels[: self.longest])


def _lines(file: Path) -> int:
    with file.open("rb") as opened:
        return sum(block.count(b"\n") for block in _blocks(opened))


def _blocks(opened: Any) -> Iterator[bytes]:
    while block := opened.read(2**22):
        yield block


def _spans(labels: Sequence[int]) -> np.ndarray:
    """Where the runs of labelled tokens begin and end."""
    learned = np.zeros(len(labels) + 2, np.int8)
    learned[1:-1] = np.array(labels) != IGNORE
    return np.flatnonzero(np.diff(learned)).astype(np.int32)


def _lists(rows: Sequence[np.ndarray]) -> pa.ListArray:
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(rows)))
