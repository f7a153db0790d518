"""The whole evaluation of a model whose every response is known."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from src.data import jsonl
from src.evaluate.evaluate import run

CONFIG = {
    "tasks": ["t2t", "ifeval", "sqa", "asr", "tts"],
    "max_new_tokens": {"t2t": 8, "ifeval": 12, "sqa": 24, "asr": 8, "tts": 16},
    "decoding": {"temperature": 0.0, "top_k": 50, "seed": 0},
    "matching": "contiguous",
    "batch_tokens": 200,
    "listen": 1,
    "asr_examples": 2,
    "tts_examples": 2,
}


@pytest.fixture
def result(artifacts, speech, context, tmp_path) -> Path:
    run(CONFIG, artifacts, tmp_path, context)
    return tmp_path


def scores_of(folder: Path) -> dict:
    return json.loads((folder / "scores.json").read_text())["scores"]


def test_scores_are_what_the_responses_deserve(result):
    scores = scores_of(result)
    values = {key: score["value"] for key, score in scores.items()}
    assert values == {
        "qa/places/t2t": 1.0,
        "qa/beasts/t2t": 1.0,
        "ifeval/prompt_strict": pytest.approx(1 / 3),
        "ifeval/instruction_strict": 0.25,
        "ifeval/prompt_loose": pytest.approx(1 / 3),
        "ifeval/instruction_loose": 0.25,
        "qa/places/s2t": 0.5,
        "qa/beasts/s2t": 0.5,
        "qa/places/s2s": 1.0,
        "qa/beasts/s2s": 0.5,
        "wer/question": 0.0,
        "form/well_formed": 0.75,
        "wer/asr": pytest.approx(2 / 6),
        "wer/tts": 0.0,
    }
    assert scores["qa/beasts/s2s"] == {"value": 0.5, "n": 2, "standard_error": pytest.approx(math.sqrt(0.25 / 2))}
    assert scores["ifeval/instruction_strict"]["n"] == 4
    assert scores["ifeval/instruction_strict"]["clusters"] == 3
    assert (scores["wer/asr"]["substitutions"], scores["wer/asr"]["deletions"]) == (1, 1)


def test_every_example_is_kept_whole(result):
    rows = list(jsonl.read(result / "responses.jsonl"))
    assert [row["task"] for row in rows] == ["t2t"] * 4 + ["ifeval"] * 3 + ["sqa"] * 4 + ["asr"] * 2 + ["tts"] * 2
    good, broken = rows[7], rows[8]
    assert good == {
        "task": "sqa",
        "id": "places-0",
        "set": "places",
        "prompt": "<|2|><|12|><|3|><|13|><|1|><|16|><|4|><|14|>",
        "question": "what is capital one",
        "response": "what is capital one \n\n paris \n\n paris <|0|> <|5|>",
        "answers": ["paris"],
        "transcript": "what is capital one",
        "text_answer": "paris",
        "units": [0, 5],
        "well_formed": True,
        "heard": "paris",
        "correct_s2t": True,
        "correct_s2s": True,
    }
    assert (broken["well_formed"], broken["heard"], broken["correct_s2t"]) == (False, "rome", False)
    assert rows[5]["strict"] == [False, False]
    assert rows[11] == {
        "task": "asr",
        "id": "eval-0",
        "prompt": "please repeat the following words: <|0|><|5|><|3|><|13|><|4|><|9|>",
        "response": "paris is blue",
        "reference": "paris is red",
        "transcript": "paris is blue",
    }
    assert rows[13]["units"] == [0, 5, 3, 13, 4, 9]
    assert rows[13]["heard"] == "paris is red"


def test_first_spoken_answers_are_kept_as_audio(result):
    assert sorted(path.name for path in (result / "audio").iterdir()) == ["beasts-0.flac", "places-0.flac"]
    samples, rate = soundfile.read(result / "audio" / "places-0.flac")
    assert (len(samples), rate) == (2, 16000)


def test_settings_say_what_was_done(result):
    settings = json.loads((result / "scores.json").read_text())["settings"]
    assert {key: settings[key] for key in CONFIG} == CONFIG
    assert settings["instruction"]["asr"] == "please repeat the following words:"


def test_same_model_same_bytes(result, artifacts, speech, context, tmp_path_factory):
    again = tmp_path_factory.mktemp("again")
    run(CONFIG, artifacts, again, context)
    for name in ("scores.json", "responses.jsonl", "audio/places-0.flac"):
        assert (again / name).read_bytes() == (result / name).read_bytes()


def test_progress_ends_at_the_total(result, context):
    done = [report["done"] for report in context.reports]
    assert done == sorted(done)
    assert context.reports[-1] == {"done": 21, "total": 21}


def test_text_tasks_need_no_speech(artifacts, context, tmp_path):
    config = {key: CONFIG[key] for key in ("max_new_tokens", "decoding", "matching", "batch_tokens")}
    inputs = {role: artifacts[role] for role in ("model", "corpus")}
    summary = run({**config, "tasks": ["t2t", "ifeval"]}, inputs, tmp_path, context)
    assert summary["qa/places/t2t"] == 1.0
    assert not (tmp_path / "audio").exists()
    assert [key for key in scores_of(tmp_path) if "t2t" not in key and "ifeval" not in key] == []


def test_units_that_the_vocoder_does_not_have_are_left_out(artifacts, speech, context, tmp_path, monkeypatch):
    class Small:
        clusters = 6

        def __call__(self, units):
            assert len(units) and max(units) < 6
            return np.array(units, np.float32) / 24

    monkeypatch.setattr(sys.modules["src.speech.vocoder"], "load_vocoder", lambda folder: Small())
    run(CONFIG, artifacts, tmp_path, context)
    assert scores_of(tmp_path)["qa/places/s2s"]["value"] == 0.5
    heard = {row["id"]: row["heard"] for row in jsonl.read(tmp_path / "responses.jsonl") if row["task"] == "sqa"}
    assert heard == {"places-0": "paris", "places-1": "", "beasts-0": "", "beasts-1": ""}


def test_sampling_is_a_setting(artifacts, context, tmp_path):
    def responses(seed: int) -> list[str]:
        config = {**CONFIG, "tasks": ["t2t"], "decoding": {"temperature": 4.0, "top_k": 20, "seed": seed}}
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        out.mkdir()
        run(config, artifacts, out, context)
        return [row["response"] for row in jsonl.read(out / "responses.jsonl")]

    assert responses(1) == responses(1) != responses(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ["t2t", "sing"]}, "no task 'sing'"),
        ({"matching": "exact"}, "evaluate.matching=exact"),
        ({"max_new_tokens": {"t2t": 8}}, "evaluate.max_new_tokens.ifeval"),
        ({"decoding": {"temperature": -1.0}}, "decoding.temperature=-1.0"),
        ({"asr_examples": 0}, "no example to evaluate asr on"),
    ],
)
def test_wrong_settings_are_named(change, message, artifacts, speech, context, tmp_path):
    with pytest.raises(ValueError, match=message):
        run({**CONFIG, **change}, artifacts, tmp_path, context)
