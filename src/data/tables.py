"""The files of a user, read as people have them: JSON lines, transcripts, Parquet, and the folders that hold them.

- A byte order mark, CRLF and blank lines are passed over. Text must be UTF-8: other encodings are refused by file and
  line, since nobody can tell Latin-1 from its relatives.
- Half of a surrogate pair is no character and becomes U+FFFD, the mark for what could not be read.
- Hidden files (macOS's `._name`) and folders are not among the files of a folder. All paths are taken literally.

Every error is a ValueError of one line that names the file, and the line or row where there is one.
"""

import glob
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

BOM = "\ufeff"
RIGHT = "each line must be one JSON object, in UTF-8"


def files(folder: Path, pattern: str) -> list[Path]:
    """The files below a folder that match a pattern, sorted, without hidden ones. A link to nothing is one of them:
    who reads it says so."""
    return [file for file in sorted(folder.glob(pattern)) if not file.name.startswith(".") and not file.is_dir()]


def literal(name: str) -> str:
    """A name for a pattern of `files`, in which it stands for itself."""
    return glob.escape(name)


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines that are not blank. Bytes that are not UTF-8 are left for `decoded` to refuse.

    Raises ValueError if the file cannot be read.
    """
    with _readable(file), file.open(encoding="utf-8", errors="surrogateescape") as opened:
        for number, line in enumerate(opened, 1):
            text = line.lstrip(BOM).rstrip("\n")
            if text and not text.isspace():
                yield number, text


def decoded(place: str, line: str) -> str:
    """The line. Raises ValueError, which begins with `place`, if it was not UTF-8."""
    try:
        if not line.isascii():
            line.encode()
    except UnicodeEncodeError as error:
        byte = ord(line[error.start]) & 0xFF
        raise ValueError(
            f"{place}: not UTF-8 (byte 0x{byte:02x}); if the file is Latin-1, `iconv -f latin1 -t utf-8` converts it"
        ) from None
    return line


def parsed(place: str, line: str) -> dict[str, Any]:
    """The JSON object of a line. Raises ValueError, which begins with `place`, if it is none."""
    try:
        row = json.loads(decoded(place, line))
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: not JSON ({error}): {RIGHT}") from None
    except RecursionError:
        raise ValueError(f"{place}: not JSON (too many brackets): {RIGHT}") from None
    if not isinstance(row, dict):
        raise ValueError(f"{place}: must be a JSON object, not {line[:60]}")
    return _without_halves(row) if "\\ud" in line.lower() else row


def json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of each line that is not blank; the place is "FILE, line N". Raises ValueError as `parsed` does."""
    for number, line in lines(file):
        place = f"{file}, line {number}"
        yield place, parsed(place, line)


def columns(file: Path) -> "pyarrow.Schema":
    """The columns of a Parquet file."""
    import pyarrow.parquet

    with _parquet(file), file.open("rb") as opened:
        return pyarrow.parquet.read_schema(opened)


def row_count(file: Path) -> int:
    """The number of rows of a Parquet file, from its footer."""
    import pyarrow.parquet

    with _parquet(file), file.open("rb") as opened:
        return int(pyarrow.parquet.read_metadata(opened).num_rows)


def batches(file: Path, wanted: Sequence[str], size: int) -> Iterator[list[list[Any]]]:
    """The wanted columns of a Parquet file, `size` rows at a time: a list of values for each column."""
    import pyarrow.parquet

    with _parquet(file), file.open("rb") as opened, pyarrow.parquet.ParquetFile(opened) as table:
        for batch in table.iter_batches(batch_size=size, columns=list(wanted)):
            yield [batch.column(name).to_pylist() for name in wanted]


def parquet_rows(file: Path, wanted: Sequence[str], size: int = 64) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of each row, with the wanted columns; the place is "FILE, row N", from 1."""
    number = 0
    for batch in batches(file, wanted, size):
        for values in zip(*batch, strict=True):
            number += 1
            yield f"{file}, row {number}", dict(zip(wanted, values, strict=True))


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """OSError of a file, raised as ValueError with its name."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror or error}") from None


@contextmanager
def _parquet(file: Path) -> Iterator[None]:
    """Errors of reading a Parquet file, raised as ValueError with its name."""
    import pyarrow

    with _readable(file):
        try:
            yield
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}: a text is not UTF-8 (byte 0x{error.object[error.start]:02x})") from None
        except (OSError, pyarrow.ArrowException) as error:
            if isinstance(error, OSError) and error.errno is not None:  # pyarrow's own have none
                raise
            first = (str(error).splitlines() or [""])[0]
            raise ValueError(f"{file} is no Parquet file, or not whole: {first}") from None


def _without_halves(value: Any) -> Any:
    """JSON values in which each half of a surrogate pair is U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_halves(one) for one in value]
    if isinstance(value, dict):
        return {_without_halves(key): _without_halves(one) for key, one in value.items()}
    return value
