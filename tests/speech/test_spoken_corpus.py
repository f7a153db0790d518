import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.data import jsonl
from src.data.unit_format import Units
from src.grid.errors import ConfigError
from src.grid.typed import typed
from src.speech.audio import read_audio, write_audio
from src.speech.quantizer import load_quantizer
from src.speech.settings import LISTS, UnitsConfig
from src.speech.spoken_corpus import speak_corpus
from tests.speech.conftest import PHRASES, quiet_context


def rows(speech: dict[str, Path], name: str) -> list[dict[str, Any]]:
    return list(jsonl.read(speech["units"] / f"{name}.jsonl"))


def check(part: dict[str, Any], text: str) -> None:
    assert part["text"] == text and part["words"] == text.split()
    assert len(part["units"]) == len(part["words"]) and all(part["units"])
    for own in part["units"]:
        assert all(0 <= unit < 24 for unit in own)
        assert all(a != b for a, b in itertools.pairwise(own))


def test_every_list_has_units_for_its_words(speech: dict[str, Path]) -> None:
    for name in ("asr", "tts", "eval_asr"):
        source = list(jsonl.read(speech["corpus"] / f"{name}.jsonl"))
        assert [(row["id"], row["text"]) for row in rows(speech, name)] == [(r["id"], r["text"]) for r in source]
        for row in rows(speech, name):
            check(row, row["text"])
    for row, asked in zip(rows(speech, "sqa"), jsonl.read(speech["corpus"] / "sqa.jsonl"), strict=True):
        check(row["question"], asked["question"])
        check(row["answer"], asked["answer"])
    for row, asked in zip(rows(speech, "eval_qa"), jsonl.read(speech["corpus"] / "eval_qa.jsonl"), strict=True):
        assert (row["id"], row["set"]) == (asked["id"], asked["set"]) and "answers" not in row
        check(row["question"], asked["question"])


def test_the_artifact_says_what_its_units_are(speech: dict[str, Path]) -> None:
    assert Units.read(speech["units"]) == Units(frame_rate=50.0, clusters=24, repeats=False)


def test_synthesis_shares_the_utterances_of_recognition(speech: dict[str, Path]) -> None:
    asr, tts = rows(speech, "asr"), rows(speech, "tts")
    assert tts[0] == asr[0]
    assert tts[1]["text"] == "two lion"


def test_audio_of_the_first_questions_is_kept(speech: dict[str, Path]) -> None:
    kept = sorted(path.name for path in (speech["units"] / "audio").iterdir())
    assert kept == ["q-0.flac", "q-1.flac"], "one of each set"
    encoder, quantizer = load_quantizer(speech["quantizer"])
    units = quantizer(encoder(read_audio(speech["units"] / "audio" / "q-0.flac")))
    written = [unit for own in rows(speech, "eval_qa")[0]["question"]["units"] for unit in own]
    assert set(units.tolist()) == set(written), "the kept audio is what was encoded"


def test_lists_do_not_change_one_another(speech: dict[str, Path], tmp_path: Path) -> None:
    """Without recognition sentences, the questions sound the same."""
    corpus, out = tmp_path / "corpus", tmp_path / "units"
    corpus.mkdir()
    out.mkdir()
    for path in speech["corpus"].glob("*.jsonl"):
        jsonl.write(corpus / path.name, [] if path.stem == "asr" else jsonl.read(path))
    speak_corpus(UnitsConfig(keep_audio=0), LISTS, corpus, speech["quantizer"], out, quiet_context(tmp_path))
    assert (out / "sqa.jsonl").read_bytes() == (speech["units"] / "sqa.jsonl").read_bytes()
    assert not (out / "audio").exists()


def test_a_question_that_is_read_out_is_not_spoken(speech: dict[str, Path], tmp_path: Path) -> None:
    """Its units are those of its audio, runs once; the questions beside it stay as they are."""
    corpus, out = tmp_path / "corpus", tmp_path / "units"
    out.mkdir()
    shutil.copytree(speech["corpus"], corpus)
    audio = np.load(speech["quantizer"] / "audio.npy")[:8000]
    write_audio(corpus / "audio" / "mine-0.flac", audio)
    asked = list(jsonl.read(corpus / "eval_qa.jsonl"))
    own = {"id": "mine-0", "set": "mine", "question": "who is this?", "answers": ["x"], "audio": "audio/mine-0.flac"}
    jsonl.write(corpus / "eval_qa.jsonl", [*asked, own])
    speak_corpus(UnitsConfig(keep_audio=1), LISTS, corpus, speech["quantizer"], out, quiet_context(tmp_path))
    *others, mine = jsonl.read(out / "eval_qa.jsonl")
    assert others == rows(speech, "eval_qa")
    encoder, quantizer = load_quantizer(speech["quantizer"])
    expected = [int(unit) for unit, _ in itertools.groupby(quantizer(encoder(audio)))]
    assert mine["question"] == {"text": "who is this?", "words": ["who is this?"], "units": [expected]}
    kept, given = (read_audio(folder / "audio" / "mine-0.flac") for folder in (out, corpus))
    np.testing.assert_allclose(kept, given, atol=2 / 32768)  # two steps of 16 bits


def test_progress_is_reported(speech: dict[str, Path], tmp_path: Path) -> None:
    reports: list[dict[str, float]] = []
    context = quiet_context(tmp_path)
    context.report = lambda **numbers: reports.append(numbers)
    summary = speak_corpus(UnitsConfig(), LISTS, speech["corpus"], speech["quantizer"], tmp_path, context)
    assert reports[-1]["done"] == reports[-1]["total"] == len(PHRASES) + 2 + 2 + 3 + 3
    assert summary["units_per_word"] > 1


def test_bad_settings() -> None:
    with pytest.raises(ConfigError, match=r"units\.keep_audio is -1"):
        typed(UnitsConfig, {"keep_audio": -1}, "units")
