"""Examples on disk: the tokens that the tokenizer itself makes come back from Arrow, and the same bytes each time."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from src.data import jsonl, prompts
from src.data.unit_format import Units
from src.grid.context import Context, read_progress
from src.grid.typed import typed
from src.model.chat import IGNORE, Chat, Example
from src.stages import SETS
from src.train import examples
from src.train.examples import Held, Selection, Stored, Writer
from src.train.methods import Role
from src.train.settings import Optimization
from tests.conftest import TINY_OPTIMIZATION


def example(learned: list[bool]) -> Example:
    ids = list(range(7, 7 + len(learned)))
    return Example(ids, [i if mine else IGNORE for i, mine in zip(ids, learned, strict=True)])


@pytest.mark.parametrize("role", ["asr", "tts", "sqa", "text"])
def test_stored_examples_are_the_chat_s(
    role: str, tiny_examples: dict[str, Path], tiny_base: Path, tiny_corpus: Path, tiny_units: Path
) -> None:
    file = tiny_corpus / "pool.jsonl" if role == "text" else tiny_units / f"{role}.jsonl"
    talks = list(SETS[role].conversations(file, 0))
    expected = Chat(AutoTokenizer.from_pretrained(tiny_base / "model")).encode(talks)
    stored = Stored(tiny_examples[role])
    assert len(stored) == len(expected) > 0
    assert stored[:] == expected and stored[-1] == expected[-1]
    assert stored.lengths.tolist() == [len(example.ids) for example in expected]


def test_the_files_are_what_datasets_reads(tiny_examples: dict[str, Path]) -> None:
    (file,) = tiny_examples["asr"].iterdir()
    theirs, ours = datasets.Dataset.from_file(str(file)), Stored(tiny_examples["asr"])
    assert theirs["ids"][:] == [example.ids for example in ours]
    for row, mine in zip(theirs, ours, strict=True):
        spans = [range(*bounds) for bounds in np.array(row["spans"]).reshape(-1, 2)]
        assert [i for span in spans for i in span] == [i for i, label in enumerate(mine.labels) if label != IGNORE]


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=30), min_size=1, max_size=12), st.integers(1, 5))
def test_any_labels_come_back_from_any_number_of_files(learned: list[list[bool]], at_once: int) -> None:
    import tempfile

    made = [example(row) for row in learned]
    with tempfile.TemporaryDirectory() as folder:
        with Writer(Path(folder), file_tokens=20) as writer:
            for i in range(0, len(made), at_once):
                writer.add(made[i : i + at_once])
        stored = Stored(Path(folder))
        assert stored[:] == made
        for longest in (1, 4, 30):
            few = [sum(label != IGNORE for label in row.labels[1:longest]) for row in made]
            assert stored.learned(longest).tolist() == Held(made).learned(longest).tolist() == few
            for too_long in ("drop", "cut"):
                settings = typed(Optimization, TINY_OPTIMIZATION | {"max_length": longest, "too_long": too_long})
                fits = [too_long == "cut" or len(row.ids) <= longest for row in made]
                wanted = [i for i, (fit, count) in enumerate(zip(fits, few, strict=True)) if fit and count]
                assert stored.usable(settings).tolist() == Held(made).usable(settings).tolist() == wanted
        tokens = [len(row.ids) for row in made]
        assert len(list(Path(folder).iterdir())) <= 1 + sum(tokens) // 20
        assert (writer.lengths, writer.tokens, writer.learned) == (tokens, sum(tokens), sum(map(sum, learned)))


def test_a_selection_is_its_rows_in_order(tiny_examples: dict[str, Path]) -> None:
    asr, text = Stored(tiny_examples["asr"]), Stored(tiny_examples["text"])
    chosen = Selection([(asr, [3, 1], Role.CROSS_ENTROPY), (text, [], Role.METHOD), (text, [0, 5, 5], Role.BOTH)], 999)
    assert list(chosen) == [asr[3], asr[1], text[0], text[5], text[5]]
    assert chosen[-1] == text[5] and chosen[1:3] == [asr[1], text[0]]
    assert chosen.lengths.tolist() == [len(example.ids) for example in chosen]
    assert chosen.roles.tolist() == [1, 1, 3, 3, 3] and chosen.origins.tolist() == [0, 0, 2, 2, 2]
    learned = [sum(label != IGNORE for label in example.labels) for example in chosen]
    assert chosen.learned.tolist() == learned
    cut = Selection([(asr, [3, 1], Role.CROSS_ENTROPY)], len(asr[1].ids) - 2)
    assert cut[1] == Example(asr[1].ids[:-2], asr[1].labels[:-2]) and cut.lengths[1] == len(asr[1].ids) - 2
    assert cut.learned[1] == sum(label != IGNORE for label in asr[1].labels[:-2])


def test_the_same_bytes_each_time_and_progress(
    tiny_base: Path, tiny_units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "CHUNK", 7)
    outs = [tmp_path / "one", tmp_path / "two"]
    for out in outs:
        out.mkdir()
        file = tiny_units / "asr.jsonl"
        talks = SETS["asr"].conversations(file, 5)
        summary = examples.tokenize(talks, file, tiny_base, out, Context(tmp_path, "examples"))
    (file,) = outs[0].iterdir()
    assert file.read_bytes() == (outs[1] / file.name).read_bytes()
    lengths = Stored(outs[0]).lengths
    assert summary["examples"] == len(lengths) == 40 and summary["tokens"] == lengths.sum()
    assert summary["longest"] == lengths.max() and summary["mean"] == pytest.approx(lengths.mean(), abs=0.05)
    learned = sum(label != IGNORE for example in Stored(outs[0]) for label in example.labels)
    assert summary["learned_tokens"] == learned
    assert summary["data"] == {"asr": {"kept": 40, "dropped": {}}}
    assert read_progress(tmp_path)["total"] == 40


def test_frames_that_repeat_stay_where_units_are_frames(tiny_base: Path, tmp_path: Path) -> None:
    def tokens(repeats: bool) -> list[str]:
        folder, out = tmp_path / f"units-{repeats}", tmp_path / f"out-{repeats}"
        folder.mkdir()
        out.mkdir()
        Units(frame_rate=50.0, clusters=12, repeats=repeats).write(folder)
        row = {"id": "a", "text": "red fox", "words": ["red", "fox"], "units": [[1, 1], [1, 2]]}
        jsonl.write(folder / "asr.jsonl", [row])
        file = folder / "asr.jsonl"
        talks = SETS["asr"].conversations(file, 0)
        examples.tokenize(talks, file, tiny_base, out, Context(tmp_path, "examples"))
        tokenizer = AutoTokenizer.from_pretrained(tiny_base / "model")
        found = tokenizer.convert_ids_to_tokens(Stored(out)[0].ids)
        return [token for token in found if prompts.UNIT.fullmatch(token)]

    assert tokens(repeats=True) == ["<|1|>", "<|1|>", "<|1|>", "<|2|>"]
    assert tokens(repeats=False) == ["<|1|>", "<|1|>", "<|2|>"]


def test_the_response_to_a_question_keeps_its_line_breaks(tmp_path: Path) -> None:
    Units(frame_rate=50.0, clusters=12, repeats=True).write(tmp_path)
    question = {"text": "Which one?", "words": ["Which one?"], "units": [[3, 3]]}
    answer = {"text": "Red.\nOr not.", "words": ["Red.", "Or not."], "units": [[1], [2]]}
    (tmp_path / "sqa.jsonl").write_text(json.dumps({"id": "a", "question": question, "answer": answer}) + "\n")
    (talk,) = SETS["sqa"].conversations(tmp_path / "sqa.jsonl", 0)
    response = "Which one?\n\nRed.\nOr not.\n\nRed.<|1|> Or not.<|2|>"
    assert [turn["content"] for turn in talk] == ["<|3|><|3|>", response]


def test_instructions_are_drawn_by_the_seed(tiny_units: Path) -> None:
    made = (SETS["tts"].conversations(tiny_units / "tts.jsonl", seed) for seed in (0, 0, 1))
    asked = [[talk[0]["content"] for talk in talks] for talks in made]
    assert asked[0] == asked[1] != asked[2]
    assert all(any(text.startswith(i) for i in prompts.TTS_INSTRUCTIONS) for text in asked[0])


def test_a_source_without_rows_is_named(tiny_base: Path, tmp_path: Path) -> None:
    file = tmp_path / "pool.jsonl"
    file.write_text("")
    with pytest.raises(ValueError, match=r"pool\.jsonl has no rows"):
        talks = SETS["text"].conversations(file, 0)
        examples.tokenize(talks, file, tiny_base, tmp_path, Context(tmp_path, "examples"))
    with pytest.raises(ValueError, match="has no examples"):
        Stored(tmp_path)
