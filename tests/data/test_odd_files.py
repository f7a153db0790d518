"""Files as people have them: each is read right, or refused in one line that names it."""

import io
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from src.data import jsonl, librispeech, magpie, published, question_sets, recordings, tables
from src.data.settings import PublishedData, QuestionSet
from src.grid.typed import typed
from src.speech.audio import NoAudio, read_audio, seconds_of
from tests.data.published_files import make_everything, tone

TONE = tone(1.0)
Make = Callable[[Path], Any]


def wav(audio: np.ndarray, rate: int = 16_000, subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=kind, subtype=subtype)
    return file.getvalue()


def of_length(count: int) -> bytes:
    """A WAV whose header says that so many bytes follow."""
    content = wav(TONE)
    assert content[36:40] == b"data"
    return content[:4] + struct.pack("<I", count) + content[8:40] + struct.pack("<I", count) + content[44:]


def flac_of_unknown_length() -> bytes:
    """As an encoder leaves it that writes to a pipe: its 36 bits for the number of samples are 0."""
    content = bytearray(wav(TONE, kind="FLAC"))
    assert content[:4] == b"fLaC"
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return bytes(content)


def with_value(value: float) -> np.ndarray:
    return np.where(np.arange(len(TONE)) == 7, np.float32(value), TONE)


def stereo(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.stack([left, right], axis=1)


FLAC, MP3 = wav(TONE, kind="FLAC"), wav(np.tile(TONE, 4), subtype="MPEG_LAYER_III", kind="MP3")
AUDIO: dict[str, tuple[bytes, "np.ndarray | str"]] = {
    "16 bits.wav": (wav(TONE), TONE),
    "24 bits.wav": (wav(TONE, subtype="PCM_24"), TONE),
    "8 bits.wav": (wav(TONE, subtype="PCM_U8"), TONE),
    "mu-law.wav": (wav(TONE, subtype="ULAW"), TONE),
    "double.wav": (wav(TONE, subtype="DOUBLE"), TONE),
    "named_otherwise.wav": (FLAC, TONE),
    "length_told_as_4_GiB.wav": (of_length(0xFFFFFFFF), TONE),
    "length_told_as_2_GiB.wav": (of_length(0x7FFFFFFF), TONE),
    "length_not_told.flac": (flac_of_unknown_length(), TONE),
    "antiphase.wav": (wav(stereo(TONE, -TONE)), TONE),
    "antiphase, right is louder.wav": (wav(stereo(-0.9 * TONE, TONE)), TONE),
    "left is silent.wav": (wav(stereo(0 * TONE, TONE)), TONE / 2),
    "float at the scale of 16 bits.wav": (wav(TONE * 2**15, subtype="FLOAT"), TONE),
    "float that is too loud.wav": (wav(TONE * 5, subtype="FLOAT"), TONE * 5),
    "a [b] *?{c} %20 #1 ü'\n.wav": (wav(TONE), TONE),
    os.fsdecode(b"latin\xe9.wav"): (wav(TONE), TONE),
    "not a number.wav": (wav(with_value(np.nan), subtype="FLOAT"), "it holds samples that are no finite numbers"),
    "infinite.wav": (wav(with_value(np.inf), subtype="DOUBLE"), "it holds samples that are no finite numbers"),
    "float beyond.wav": (wav(TONE * 2**30, subtype="FLOAT"), "its samples reach 3.2212"),
    "length told as none.wav": (of_length(0), "it holds no sample"),
    "cut.flac": (FLAC[: len(FLAC) // 2], "Error : flac decoder lost sync"),
    "cut.mp3": (MP3[: len(MP3) // 2], "it ends after "),
    "text.wav": (b"hello", "Format not recognised"),
    "empty.wav": (b"", "Format not recognised"),
    "no header.raw": (wav(TONE)[44:], "samples without a header"),
    "slow.wav": (wav(TONE, rate=1), "its header tells 1 samples a second"),
    "fast.wav": (wav(TONE, rate=10_000_000), "its header tells 10000000 samples a second"),
}


@pytest.mark.parametrize("name", AUDIO)
def test_audio(tmp_path: Path, name: str) -> None:
    content, right = AUDIO[name]
    (tmp_path / name).write_bytes(content)
    if isinstance(right, str):
        with pytest.raises(NoAudio) as raised:
            recordings.read(name, tmp_path)
        assert str(raised.value).startswith(f"{name} cannot be read: {right}") and "\n" not in str(raised.value)
        return
    for source in (tmp_path / name, io.BytesIO(content)):
        samples = read_audio(source)
        assert samples.dtype == np.float32 and samples.shape == right.shape
        np.testing.assert_allclose(samples, right, atol=0.02)
    jsonl.write(tmp_path / "list", [{"audio": str(tmp_path / name)}])
    (row,) = jsonl.read(tmp_path / "list")
    np.testing.assert_array_equal(recordings.read(row["audio"], tmp_path), samples)
    assert seconds_of(tmp_path / name) == pytest.approx(1.0)


def test_blocks_are_joined_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_audio(io.BytesIO(FLAC))
    monkeypatch.setattr("src.speech.audio.BLOCK", 1000)
    np.testing.assert_array_equal(read_audio(io.BytesIO(FLAC)), whole)
    assert seconds_of(io.BytesIO(flac_of_unknown_length())) == 1.0


ONE, TWO = '{"question": "où?", "answer": "là"}', '{"question": "b", "answer": "c"}'
BOTH = [("où?", "là"), ("b", "c")]
JSON_LINES: dict[str, tuple[bytes, "list[tuple[str, str]] | str"]] = {
    "byte order mark": (f"\ufeff{ONE}\n{TWO}\n".encode(), BOTH),
    "two files joined, each with its mark": (f"\ufeff{ONE}\n\ufeff{TWO}".encode(), BOTH),
    "CRLF": (f"{ONE}\r\n{TWO}\r\n".encode(), BOTH),
    "blank lines": (f"\n  \n{ONE}\n\t\n\r\n{TWO}\n\n".encode(), BOTH),
    "no line break at the end": (f"{ONE}\n{TWO}".encode(), BOTH),
    "an extra column, of any type": (f'{ONE[:-1]}, "n": [1, null]}}\n{TWO}'.encode(), BOTH),
    "line separators": ('{"question": "a\u2028b\x85c", "answer": "d"}'.encode(), [("a\u2028b\x85c", "d")]),
    "an escaped pair": (b'{"question": "\\ud83d\\ude00", "answer": "d"}', [("\U0001f600", "d")]),
    "half a pair": (b'{"question": "a\\ud83d b", "answer": "\\uDE00c"}', [("a\ufffd b", "\ufffdc")]),
    "Latin-1": (f"{TWO}\n{ONE}".encode("latin-1"), "{file}, line 2: not UTF-8 (byte 0xf9); if the file is Latin-1"),
    "UTF-16": (ONE.encode("utf-16"), "{file}, line 1: not UTF-8 (byte 0xff)"),
    "half a pair in bytes": (b'{"question": "\xed\xa0\xbd", "answer": "d"}', "{file}, line 1: not UTF-8 (byte 0xed)"),
    "cut": (f"{TWO}\n{ONE[:9]}".encode(), "{file}, line 2: not JSON "),
    "null": (f"{TWO}\n\nnull\n".encode(), "{file}, line 3: must be a JSON object, not null"),
    "a row of null": (b'{"question": null, "answer": null}', "{file}, line 1: question is None, it must be text"),
    "an answer of null": (b'{"question": "a", "answer": null}', "{file}, line 1: None is no answer"),
    "a list": (f"[{TWO}]".encode(), "{file}, line 1: must be a JSON object, not ["),
    "brackets": (b"[" * 100_000, "{file}, line 1: not JSON (too many brackets)"),
    "zeros": (bytes(40), "{file}, line 1: not JSON "),
    "commas": (b"question,answer\na,b\n", "{file}, line 1: not JSON "),
    "empty": (b"", "it holds no question"),
}  # fmt: skip


@pytest.mark.parametrize("name", JSON_LINES)
def test_json_lines(tmp_path: Path, name: str) -> None:
    content, right = JSON_LINES[name]
    file = tmp_path / f"{name}.jsonl"
    file.write_bytes(content)

    def read() -> list[tuple[str, str]]:
        rows = question_sets.load("mine", QuestionSet(path=str(file)), file)
        return [(row["question"], row["answers"][0]) for row in rows]

    if isinstance(right, str):
        with pytest.raises(ValueError) as raised:
            read()
        assert str(raised.value).startswith(right.format(file=file)) and "\n" not in str(raised.value)
    else:
        assert read() == right
        jsonl.write(tmp_path / "again", ({"text": text} for pair in right for text in pair))
        assert [row["text"] for row in jsonl.read(tmp_path / "again")] == [text for pair in right for text in pair]


TRANSCRIPTS: dict[str, tuple[bytes, "dict[str, str] | str"]] = {
    "mark, CRLF, blank lines": ("\ufeff1-2-0 ÜBER\r\n\r\n1-2-1 THE LION\r\n".encode(), {"0": "über", "1": "the lion"}),
    "tabs for spaces": (b"1-2-0\tTHE\tLION\n1-2-1 \t A\n", {"0": "the lion", "1": "a"}),
    "line separators": ("1-2-0 A\u2028B\x0bC\n1-2-1 D\n".encode(), {"0": "a b c", "1": "d"}),
    "no text": (b"1-2-0\n1-2-1 D\n", {"0": "", "1": "d"}),
    "Latin-1": ("1-2-0 ÜBER\n".encode("latin-1"), "{file}, line 1: not UTF-8 (byte 0xdc)"),
    "not there": (b"\n", {"0": "", "1": ""}),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcripts(tmp_path: Path, name: str) -> None:
    content, right = TRANSCRIPTS[name]
    chapter = tmp_path / "train [1]*" / "1" / "2"
    chapter.mkdir(parents=True)
    for number in range(2):
        (chapter / f"1-2-{number}.flac").write_bytes(FLAC)
        (chapter / f"._1-2-{number}.flac").write_bytes(b"\x00\x05\x16\x07")  # macOS's
    (file := chapter / "1-2.trans.txt").write_bytes(content)
    (chapter / "._1-2.trans.txt").write_bytes(b"\x00\x05\x16\x07\xb0")
    parts = librispeech.parts(tmp_path, "train [1]*", str)
    if isinstance(right, str):
        with pytest.raises(ValueError) as raised:
            list(librispeech.read(parts, lambda *_: None))
        assert str(raised.value).startswith(right.format(file=file)) and "\n" not in str(raised.value)
        return
    found = list(librispeech.read(parts, lambda *_: None))
    assert {one.id.removeprefix("1-2-"): one.text for one in found} == right
    assert [one.fault for one in found] == ["" if one.text else "no transcript" for one in found]


def parquet(folder: Path, **files: "pyarrow.Table | bytes") -> Path:
    for name, content in files.items():
        file = folder / f"{name}.parquet"
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            pyarrow.parquet.write_table(content, file)
    return folder


def table(**columns: Any) -> pyarrow.Table:
    return pyarrow.table(columns)


def as_bytes(made: pyarrow.Table) -> bytes:
    pyarrow.parquet.write_table(made, file := io.BytesIO())
    return file.getvalue()


def bad_text() -> pyarrow.Array:
    """A column of text that is not UTF-8."""
    return pyarrow.Array.from_buffers(
        pyarrow.string(), 1, [None, pyarrow.py_buffer(struct.pack("<ii", 0, 2)), pyarrow.py_buffer(b"a\xe9")]
    )


def linked(folder: Path) -> Path:
    (folder / "b.parquet").symlink_to(folder / "nowhere")
    return parquet(folder, a=GOOD)


def with_folder(folder: Path) -> Path:
    (folder / "b.parquet").mkdir()
    return parquet(folder, a=GOOD)


GOOD = table(input=["a"], output=["b"])
CATEGORIES, LARGE = pyarrow.array(["a"]).dictionary_encode(), pyarrow.array(["a"], pyarrow.large_string())
TABLES: dict[str, tuple[Make, "list[tuple[str, str]] | str"]] = {
    "another order, and an extra column": (
        lambda f: parquet(f, a=GOOD, b=table(n=[1], output=["d"], input=["c"])), [("a", "b"), ("c", "d")]),
    "an empty shard": (lambda f: parquet(f, a=GOOD, b=GOOD.slice(0, 0)), [("a", "b")]),
    "rows of null": (lambda f: parquet(f, a=table(input=[None, "a"], output=[None, "b"])), [("", ""), ("a", "b")]),
    "columns of null alone": (lambda f: parquet(f, a=table(input=[None], output=[None])), [("", "")]),
    "numbers for texts": (lambda f: parquet(f, a=table(input=[1], output=["b"])), [("", "b")]),
    "categories": (lambda f: parquet(f, a=GOOD.set_column(0, "input", CATEGORIES)), [("a", "b")]),
    "large texts": (lambda f: parquet(f, a=GOOD.set_column(0, "input", LARGE)), [("a", "b")]),
    "macOS's": (lambda f: parquet(f, a=GOOD, **{"._a": b"\x00\x05\x16\x07"}), [("a", "b")]),
    "a folder of that name": (with_folder, [("a", "b")]),
    "nothing in a file": (lambda f: parquet(f, a=GOOD, b=b""), "{folder}/b.parquet is no Parquet file, or not whole"),
    "cut": (lambda f: parquet(f, a=as_bytes(GOOD)[:-9]), "{folder}/a.parquet is no Parquet file, or not whole"),
    "a pointer of Git LFS": (lambda f: parquet(f, a=b"version https://"), "{folder}/a.parquet is no Parquet file"),
    "a link to nothing": (linked, "{folder}/b.parquet: No such file"),
    "Latin-1": (lambda f: parquet(f, a=table(input=bad_text(), output=["b"])), "{folder}/a.parquet: a text is not"),
    "other columns": (lambda f: parquet(f, a=GOOD, b=table(c=["d"])), "{folder}/b.parquet: column 'input' or"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables(tmp_path: Path, name: str) -> None:
    make, right = TABLES[name]
    folder = tmp_path / "a [b] *?{c} %20 ü"
    folder.mkdir()
    make(folder)
    if isinstance(right, str):
        with pytest.raises(ValueError) as raised:
            list(magpie.texts(magpie.find(folder), categories=False))
        assert str(raised.value).startswith(right.format(folder=folder)) and "\n" not in str(raised.value)
    else:
        found = list(magpie.texts(magpie.find(folder), categories=False))
        assert [(asked, said) for asked, said, _ in found] == right
        assert magpie.count(magpie.find(folder)) == len(right)


def test_bad_recordings_are_counted_and_end_no_set(tmp_path: Path, context: Any) -> None:
    """Of speech and of questions: what cannot be decoded is left out, a file that is gone is an error."""
    files = tmp_path / "a [b] %20 ü"
    config = make_everything(files, [(f"he said {n}", tone(0.4, 200 + n)) for n in range(9)], [("so", tone(0.4))] * 3)
    flacs = sorted((files / "LibriSpeech" / "train-clean-100").rglob("*.flac"))
    bad = [content for content, right in AUDIO.values() if isinstance(right, str)]
    for file, content in zip(flacs, (bad[3], bad[6], bad[9]), strict=False):  # no sample, text, one a second
        file.write_bytes(content)
    rows = [{"question": f"what is {n}", "answer": "x", "audio": f"{n}.wav"} for n in range(9)]
    (files / "own").mkdir()
    for n in range(9):
        (files / "own" / f"{n}.wav").write_bytes(wav(TONE) if n > 3 else bad[n])
    (files / "own" / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config["questions"] = {"mine": {"path": str(files / "own")}}
    settings = typed(PublishedData, config, "data")
    out = tmp_path / "out"
    out.mkdir()
    summary = published.write(settings, out, context)
    assert summary["data"]["asr"] == {"kept": 6, "dropped": {"empty audio": 1, "unreadable audio": 2}}
    assert summary["data"]["eval_qa/mine"] == {"kept": 5, "dropped": {"unreadable audio": 4}}
    assert [row["id"] for row in jsonl.read(out / "eval_qa.jsonl")] == [f"mine-{n}" for n in range(4, 9)]
    (files / "own" / "8.wav").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"^data\.questions\.mine: the audio of 5 of 9 questions is unreadable"):
        published.write(settings, out, context)
    (files / "own" / "8.wav").unlink()
    with pytest.raises(ValueError, match=r"^data\.questions\.mine: .*test\.jsonl, line 9: 8\.wav cannot be read"):
        published.write(settings, out, context)


def test_files_of_a_folder_are_sorted_and_literal(tmp_path: Path) -> None:
    for name in ("b[1].txt", "a.txt", "b1.txt", ".hidden.txt", "._a.txt"):
        (tmp_path / name).write_text("")
    assert [file.name for file in tables.files(tmp_path, "*.txt")] == ["a.txt", "b1.txt", "b[1].txt"]
    assert [file.name for file in tables.files(tmp_path, tables.literal("b[1]") + "*")] == ["b[1].txt"]
