"""The published layouts, written as tiny files with real audio and read back."""

import dataclasses
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from src.data import jsonl, own_questions, question_sets
from src.data.question_sets import aliases, pinned
from src.data.settings import ClosedDomain, QuestionSet
from src.grid.errors import ConfigError
from src.grid.typed import typed
from src.speech.audio import read_audio
from tests.conftest import TINY_CORPUS
from tests.data.published_files import SETS

TONE = np.sin(np.arange(800) / 5).astype(np.float32) / 2
ROWS: dict[str, list[dict[str, Any]]] = {
    "llama_questions": [
        {"question": "What is the capital of France?", "answer": "Paris"},
        {"question": "Which planet has rings?", "answer": "Saturn"},
    ],
    "web_questions": [
        {"url": "http://a", "question": "what does he do?", "answers": ["Singer", "Actor", "Singer"]},
        {"url": "http://b", "question": "where is it?", "answers": ["Rome"]},
    ],
    "trivia_qa": [
        {
            "question": "Who wrote it?",
            "question_id": "tc_2",
            "question_source": "http://c",
            "entity_pages": {"doc_source": ["x"], "title": ["T"], "wiki_context": ["long"]},
            "answer": {
                "aliases": ["Sinclair Lewis", "Lewis"],
                "normalized_aliases": ["sinclair lewis", "lewis"],
                "matched_wiki_entity_name": "",
                "normalized_value": "sinclair lewis",
                "type": "WikipediaEntity",
                "value": "Sinclair Lewis",
            },
        },
    ],
}
READ = {
    "llama_questions": [["Paris"], ["Saturn"]],
    "web_questions": [["Singer", "Actor"], ["Rome"]],
    "trivia_qa": [["Sinclair Lewis", "Lewis", "sinclair lewis", "lewis"]],
}


def load(name: str, path: Path, audio: bool = True) -> Any:
    return question_sets.load(name, SETS[name], path, audio)


def encoded(rate: int = 16_000, channels: int = 1, kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.stack([TONE] * channels, axis=1), rate, format=kind)
    return file.getvalue()


def publish(folder: Path, name: str, rows: list[dict], **sound: Any) -> Path:
    """A repository as it is on the hub: Parquet with an audio column, and a card that names its splits."""
    import datasets

    published = SETS[name]
    file = folder / published.files.replace("*", "00000-of-00001")
    file.parent.mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_list(
        [{**row, published.audio: {"bytes": encoded(**sound), "path": f"{i}.wav"}} for i, row in enumerate(rows)]
    ).cast_column(published.audio, datasets.Audio(sampling_rate=16_000))
    table.to_parquet(file)
    table.to_parquet(file.with_name("train-00000-of-00001.parquet"))
    splits = ("train", published.split)
    (folder / "README.md").write_text(
        "---\ndataset_info:\n  splits:\n"
        + "".join(f"  - name: {split}\n    num_bytes: 1\n    num_examples: {len(rows)}\n" for split in splits)
        + "configs:\n- config_name: default\n  data_files:\n"
        + "".join(f"  - split: {split}\n    path: {file.parent.name}/{split}-*\n" for split in splits)
        + "---\n"
    )
    return file


@pytest.fixture(autouse=True)
def _no_torchcodec(monkeypatch):
    """Audio must be read where torchcodec is not installed."""
    monkeypatch.setitem(sys.modules, "torchcodec", None)


def check(rows: list[dict], name: str) -> None:
    assert [row["id"] for row in rows] == [f"{name}-{i}" for i in range(len(rows))]
    assert [row["question"] for row in rows] == [row["question"] for row in ROWS[name]]
    assert [row["answers"] for row in rows] == READ[name]
    for row in rows:
        assert row["set"] == name
        assert row["audio"].dtype == np.float32
        np.testing.assert_allclose(row["audio"], TONE, atol=1e-4)


@pytest.mark.parametrize("name", SETS)
def test_published_layout_from_a_copy_of_the_repository(tmp_path, name):
    file = publish(tmp_path, name, ROWS[name])
    check(list(load(name, path=tmp_path)), name)
    check(list(load(name, path=file)), name)
    assert [row["audio"] for row in load(name, path=file, audio=False)] == [None] * len(ROWS[name])


def test_other_rates_channels_and_codecs_become_16_khz_mono(tmp_path):
    sounds: list[dict[str, Any]] = [{"rate": 48_000}, {"channels": 2, "kind": "FLAC"}, {"rate": 24_000, "kind": "MP3"}]
    for sound in sounds:
        publish(tmp_path, "llama_questions", ROWS["llama_questions"][:1], **sound)
        (row,) = load("llama_questions", path=tmp_path)
        assert row["audio"].ndim == 1 and row["audio"].dtype == np.float32
        length = len(TONE) * 16_000 / sound.get("rate", 16_000)
        assert len(row["audio"]) == pytest.approx(length, rel=0.05) or sound.get("kind") == "MP3"
        assert 0.2 < np.abs(row["audio"]).max() < 0.7


def write_lines(file: Path, rows: list[dict]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_json_lines_with_audio_files_beside_them(tmp_path):
    (tmp_path / "clips").mkdir()
    for i in range(2):
        (tmp_path / "clips" / f"{i}.wav").write_bytes(encoded())
    rows = [{**row, "audio": f"clips/{i}.wav"} for i, row in enumerate(ROWS["web_questions"])]
    file = write_lines(tmp_path / "test.jsonl", rows)
    check(list(load("web_questions", path=file)), "web_questions")
    check(list(load("web_questions", path=tmp_path)), "web_questions")
    write_lines(file, [{**row, "audio": {"path": row["audio"]}} for row in rows])
    check(list(load("web_questions", path=file)), "web_questions")


def test_text_alone(tmp_path):
    import pyarrow
    import pyarrow.parquet

    file = write_lines(tmp_path / "validation.jsonl", ROWS["trivia_qa"])
    (row,) = load("trivia_qa", path=file)
    assert row == {
        "id": "trivia_qa-0",
        "set": "trivia_qa",
        "question": "Who wrote it?",
        "answers": READ["trivia_qa"][0],
        "audio": None,
    }
    table = pyarrow.Table.from_pylist(ROWS["llama_questions"])
    pyarrow.parquet.write_table(table, tmp_path / "test.parquet")
    assert [row["answers"] for row in load("llama_questions", path=tmp_path)] == READ["llama_questions"]


def test_plain_bytes_are_audio_too(tmp_path):
    """A column of another writer, without the metadata of `datasets`."""
    import pyarrow
    import pyarrow.parquet

    rows = [{**row, "audio": {"bytes": encoded(), "path": None}} for row in ROWS["llama_questions"]]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "test-0.parquet")
    check(list(load("llama_questions", path=tmp_path)), "llama_questions")


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Paris", ["Paris"]),
        (["a", "b", "a", " "], ["a", "b"]),
        ({"value": "A", "aliases": ["A", "B"], "normalized_aliases": ["b"]}, ["A", "B", "b"]),
        ({"value": "A", "aliases": None}, ["A"]),
        ({"aliases": ["B"]}, ["B"]),
    ],
)
def test_aliases(answer, found):
    assert aliases(answer) == found


@pytest.mark.parametrize("answer", ["", [], None, 4, ["a", 4], {"value": ""}, {"text": "a"}, {"value": 4}])
def test_no_answer_is_refused(answer):
    with pytest.raises(ValueError, match=r"is no answer|holds no answer"):
        aliases(answer)


def refused(message: str, *arguments, **options) -> None:
    with pytest.raises(ValueError, match=message) as error:
        list(load(*arguments, **options))
    assert "\n" not in str(error.value)


def test_a_folder_without_the_set_is_named(tmp_path):
    refused(r"is no question set: it must be a \.parquet or \.jsonl file, or a folder with rc\.wikipedia/validation-",
            "trivia_qa", path=tmp_path)  # fmt: skip
    refused("is no question set", "trivia_qa", path=tmp_path / "none.parquet")


def test_missing_columns_are_named(tmp_path):
    publish(tmp_path, "llama_questions", [{"question": "q", "text": "a"}])
    lacking = r"\.parquet: column 'answer' is missing; there are question, text, audio$"
    refused(f"^{tmp_path}/.*{lacking}", "llama_questions", path=tmp_path)
    file = write_lines(tmp_path / "lines" / "test.jsonl", [ROWS["web_questions"][0], {"url": "u", "answers": ["a"]}])
    refused(f"^{file}, line 2: column 'question' is missing; there are url, answers$", "web_questions", path=file)


def test_what_cannot_be_read_is_named(tmp_path):
    good = ROWS["llama_questions"][0]
    for bad, message in [
        ({**good, "answer": []}, "line 2: .* holds no answer"),
        ({**good, "question": ""}, "line 2: question is '', it must be text"),
        ({**good, "audio": "none.wav"}, r"line 2: .*none\.wav"),
        ({**good, "audio": 4}, "line 2: the audio has neither bytes nor, in a .jsonl file, a path"),
    ]:
        file = write_lines(tmp_path / "test.jsonl", [good, bad])
        refused(message, "llama_questions", path=file)
    file.write_text('{"question": ')
    refused(r"test\.jsonl, line 1: not JSON ", "llama_questions", path=file)


def own_set(folder: Path, count: int = 3) -> Path:
    """JSON lines of one's own: every other question is read out, at 44.1 kHz in stereo."""
    rows = []
    for i in range(count):
        row = {"question": f"Where is the {'red ' * i}lion?", "answer": ["Paris", "in Paris"]}
        if i % 2 == 0:
            (folder / f"{i}.wav").write_bytes(encoded(rate=44_100, channels=2))
            row["audio"] = f"{i}.wav"
        rows.append(row)
    return write_lines(folder / "mine.jsonl", rows)


def test_a_set_of_ones_own_stands_beside_those_of_the_closed_domain(tmp_path, tiny_corpus):
    mine = QuestionSet(title="Mine", path=str(own_set(tmp_path)))
    (tmp_path / "corpus").mkdir()
    own_questions.write(pinned({"mine": mine}), tiny_corpus, tmp_path / "corpus")
    rows = list(jsonl.read(tmp_path / "corpus" / "eval_qa.jsonl"))
    assert rows[:-3] == list(jsonl.read(tiny_corpus / "eval_qa.jsonl"))
    assert [row["question"] for row in rows[-3:]] == [
        "where is the lion", "where is the red lion", "where is the red red lion"
    ]  # fmt: skip
    assert all(row["set"] == "mine" and row["answers"] == ["Paris", "in Paris"] for row in rows[-3:])
    assert [row.get("audio") for row in rows[-3:]] == ["audio/mine-0.flac", None, "audio/mine-2.flac"]
    assert len(read_audio(tmp_path / "corpus" / "audio" / "mine-0.flac")) == pytest.approx(800 * 16_000 / 44_100, abs=2)
    for name in own_questions.EVALUATED:
        assert (tiny_corpus / name).samefile(tmp_path / "corpus" / name)


def test_an_edited_file_is_another_set_and_a_title_is_none(tmp_path, tiny_corpus):
    mine = QuestionSet(path=str(own_set(tmp_path)))
    first = pinned({"mine": mine})
    assert pinned({"mine": dataclasses.replace(mine, title="Mine")}) == first
    (tmp_path / "0.wav").write_bytes(encoded(rate=22_050))
    second = pinned({"mine": mine})
    assert second != first, "audio counts"
    own_set(tmp_path, count=4)
    assert pinned({"mine": mine}) not in (first, second)
    with pytest.raises(ValueError, match=r"^data\.questions\.mine: .*mine\.jsonl has changed since the plan was made"):
        own_questions.write(first, tiny_corpus, tmp_path)


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (None, {}, "none.jsonl is no question set"),
        ([], {}, "it holds no question"),
        ([{"question": "a"}], {}, "line 1: column 'answer' is missing; there are question"),
        ([{"question": "a", "answer": "b", "n": 1}] * 2, {"id": "n"}, "line 2: n is '1', as in a row before it"),
        ([{"question": "a", "answer": "b", "n": "../x"}], {"id": "n"}, "line 1: n is '../x', it must be letters"),
        ([{"question": "a", "answer": []}], {}, "line 1: .* holds no answer"),
        ([{"question": "a", "answer": "b", "audio": "none.wav"}], {}, "line 1: .*none.wav: No such file or"),
    ],
)
def test_what_is_wrong_is_told_when_the_plan_is_made(tmp_path, rows, columns, message):
    path = tmp_path / "none.jsonl" if rows is None else write_lines(tmp_path / "mine.jsonl", rows)
    with pytest.raises(ConfigError, match=rf"^data\.questions\.mine\.path: .*{message}") as error:
        pinned({"mine": QuestionSet(path=str(path), **columns)})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "told", "message"),
    [
        ("mine", {"path": "x", "colour": "red"}, r"data\.questions\.mine\.colour is no setting"),
        ("mine", {"title": "Mine"}, r"data\.questions\.mine\.path is None; it must be a file or folder, or hub"),
        ("mine", {"hub": "a/b", "revision": "main"}, r"data\.questions\.mine\.revision is 'main'; it must be a commit"),
        ("my-set", {"path": "x"}, r"data\.questions\.my-set is .*; it must be a name of letters"),
        ("people", {"path": "x"}, r"data\.questions\.people is .*; it must be called otherwise"),
    ],
)
def test_settings_that_are_wrong(name, told, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        typed(ClosedDomain, {**TINY_CORPUS, "questions": {name: told}}, "data")


def test_a_question_that_the_closed_domain_cannot_speak(tmp_path, tiny_corpus):
    file = write_lines(tmp_path / "mine.jsonl", [{"question": "Is 7 prime?", "answer": "yes"}])
    with pytest.raises(ValueError, match=r"^data\.questions\.mine: 'Is 7 prime\?' cannot be spoken: write it in words"):
        own_questions.write(pinned({"mine": QuestionSet(path=str(file))}), tiny_corpus, tmp_path)
