"""Audio by its reference in a list of examples: a file, or a row of a Parquet file that holds encoded audio."""

import io
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from src.data import downloads
from src.speech.audio import NoAudio, read_audio

ROW = re.compile(r"(?P<file>.+\.parquet)#(?P<row>\d+)", re.DOTALL)
COLUMN = "audio"


def read(reference: str, folder: Path) -> npt.NDArray[np.float32]:
    """The audio [samples] at 16 kHz, mono, in [-1, 1], of a reference:

    - a path: absolute, or relative to `folder`, the artifact that names it; any format that libsndfile reads
    - FILE.parquet#ROW: the encoded bytes in that row (from 0) of the column `audio`; FILE as above, or
      hf://datasets/OWNER/NAME@COMMIT/PATH for one in the hub's cache

    Rows that are read one after another cost no more than their file: its row group stays in memory. Raises NoAudio if
    it is no audio (src/speech/audio.py) or its Parquet file is damaged, and another ValueError if it is not there.
    """
    import pyarrow

    row = ROW.fullmatch(reference)
    try:
        return read_audio(encoded(row["file"], int(row["row"]), folder) if row else folder / reference)
    except NoAudio as error:
        raise NoAudio(f"{reference} cannot be read: {error}") from None
    except (OSError, pyarrow.ArrowException) as error:
        damaged = not isinstance(error, OSError) or (row and error.errno is None)
        raise (NoAudio if damaged else ValueError)(f"{reference} cannot be read: {error}") from None


def encoded(file: str, row: int, folder: Path) -> io.BytesIO:
    """The bytes in a row of a Parquet file. Raises NoAudio if there are none, ValueError if there is no such row."""
    path = str(downloads.local(file) if file.startswith("hf://") else folder / file)
    starts = _starts(path)
    group = next((i for i in range(len(starts) - 1) if starts[i] <= row < starts[i + 1]), None)
    if group is None:
        raise ValueError(f"{file} has {starts[-1]} rows, and none with the number {row}")
    value = _row_group(path, group)[row - starts[group]].as_py()
    content = value.get("bytes") if isinstance(value, Mapping) else value
    if not content:
        raise NoAudio(f"{file}: row {row} holds no audio")
    return io.BytesIO(content)


@lru_cache(maxsize=64)
def _starts(path: str) -> list[int]:
    """The number of the first row in each row group of a file, and behind them the number of rows."""
    import pyarrow.parquet

    metadata = pyarrow.parquet.read_metadata(path)
    starts = [0]
    for group in range(metadata.num_row_groups):
        starts.append(starts[-1] + metadata.row_group(group).num_rows)
    return starts


@lru_cache(maxsize=2)
def _row_group(path: str, group: int) -> Any:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        return file.read_row_group(group, columns=[COLUMN])[COLUMN]
