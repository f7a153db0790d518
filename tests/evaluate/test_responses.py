"""What a model whose every response is known leaves, before anything is scored."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from src.data import jsonl
from src.evaluate import checkers, generate, responses
from src.evaluate.asking import Asking, Decoding
from src.grid.context import reached
from src.grid.errors import ConfigError
from src.grid.typed import typed
from src.steps.generate import Generate
from tests.contexts import Recorded
from tests.evaluate.conftest import Given

CONFIG = {
    "tasks": ["t2t", "ifeval", "sqa", "asr", "tts"],
    "max_new_tokens": {"t2t": 8, "ifeval": 12, "sqa": 24, "asr": 8, "tts": 16},
    "decoding": {"temperature": 0.0, "top_k": 50, "seed": 0},
    "batch_tokens": 200,
    "listen": 1,
    "asr_examples": 2,
    "tts_examples": 2,
}


def run(config: dict[str, Any], artifacts: dict[str, Path], out: Path, context: Any) -> dict[str, Any]:
    """Run the step on these artifacts: role -> folder."""
    steps = {role: Given(role=role) for role in artifacts}
    asking = {name: value for name, value in config.items() if name != "tasks"}
    step = typed(Generate, {"tasks": config["tasks"], "config": asking, **steps}, "evaluate")
    return step.run({steps[role]: folder for role, folder in artifacts.items()}, out, context)


@pytest.fixture
def result(artifacts, speech, context, tmp_path) -> Path:
    summary = run(CONFIG, artifacts, tmp_path, context)
    lost = summary.pop("rounding")
    assert summary == {"t2t": 4, "ifeval": 3, "sqa": 4, "asr": 2, "tts": 2}
    assert 0 <= lost["kl"] < 1e-9 and lost["tokens"] > 50 and lost["dtype"] == "float32"
    return tmp_path


def rows_of(folder: Path, task: str) -> list[dict]:
    return [row for row in jsonl.read(folder / "responses.jsonl") if row["task"] == task]


def test_every_response_is_kept_whole(result):
    rows = list(jsonl.read(result / "responses.jsonl"))
    assert [row["task"] for row in rows] == ["t2t"] * 4 + ["ifeval"] * 3 + ["sqa"] * 4 + ["asr"] * 2 + ["tts"] * 2
    assert rows[0] == {
        "task": "t2t",
        "id": "places-0",
        "set": "places",
        "prompt": "what is capital one",
        "response": "paris",
        "text": "paris",
        "words": "paris",
    }
    assert {key: rows[4][key] for key in ("id", "prompt", "words")} == {
        "id": 0, "prompt": "two colors with no comma", "words": "red blue",
    }  # fmt: skip
    assert rows[7] == {
        "task": "sqa",
        "id": "places-0",
        "set": "places",
        "prompt": "<|2|><|12|><|3|><|13|><|1|><|16|><|4|><|14|>",
        "question": "what is capital one",
        "response": "what is capital one \n\n paris \n\n paris <|0|> <|5|>",
        "text": "what is capital one \n\n paris \n\n paris <|0|> <|5|>",
        "words": "what is capital one \n\n paris \n\n paris",
        "units": [0, 5],
        "heard": "paris",
    }
    assert rows[11] == {
        "task": "asr",
        "id": "eval-0",
        "prompt": "please repeat the following words: <|0|><|5|><|3|><|13|><|4|><|9|>",
        "reference": "paris is red",
        "response": "paris is blue",
        "text": "paris is blue",
        "words": "paris is blue",
    }
    assert (rows[13]["reference"], rows[13]["words"]) == ("paris is red", "paris is red")
    assert rows[13]["units"] == [0, 5, 3, 13, 4, 9]
    assert rows[13]["heard"] == "paris is red"


def test_nothing_is_scored(result):
    verdicts = {"answers", "correct", "strict", "loose", "correct_s2t", "correct_s2s", "well_formed", "errors"}
    assert all(not verdicts & row.keys() for row in jsonl.read(result / "responses.jsonl"))


def test_first_spoken_answers_are_kept_as_audio(result):
    assert sorted(path.name for path in (result / "audio").iterdir()) == ["beasts-0.flac", "places-0.flac"]
    samples, rate = soundfile.read(result / "audio" / "places-0.flac")
    assert (len(samples), rate) == (2, 16000)


def test_settings_say_what_was_asked(result):
    settings = json.loads((result / "settings.json").read_text())
    assert {key: settings[key] for key in CONFIG} == CONFIG
    assert settings["instruction"]["asr"] == "please repeat the following words:"


def test_same_model_same_bytes(result, artifacts, speech, context, tmp_path_factory):
    again = tmp_path_factory.mktemp("again")
    run(CONFIG, artifacts, again, Recorded(tmp_path_factory.mktemp("work")))
    for name in ("settings.json", "responses.jsonl", "audio/places-0.flac"):
        assert (again / name).read_bytes() == (result / name).read_bytes()


def test_progress_ends_at_the_total(result, context):
    done = [report["done"] for report in context.reports]
    assert done == sorted(done)
    assert context.reports[-1] == {"done": 21, "total": 21}


def test_text_tasks_need_no_speech(artifacts, context, tmp_path):
    config = {key: CONFIG[key] for key in ("max_new_tokens", "decoding", "batch_tokens")}
    inputs = {role: artifacts[role] for role in ("model", "base", "corpus")}
    summary = run({**config, "tasks": ["t2t", "ifeval"]}, inputs, tmp_path, context)
    assert (summary["t2t"], summary["ifeval"], summary.keys()) == (4, 3, {"t2t", "ifeval", "rounding"})
    assert not (tmp_path / "audio").exists()
    assert list(json.loads((tmp_path / "settings.json").read_text())) == [
        "tasks", "max_new_tokens", "decoding", "batch_tokens", "dtype", "instruction"
    ]  # fmt: skip


def test_the_base_is_asked_as_itself(artifacts, context, tmp_path):
    config = {key: CONFIG[key] for key in ("max_new_tokens", "decoding", "batch_tokens")}
    inputs = {"model": artifacts["base"], "base": artifacts["base"], "corpus": artifacts["corpus"]}
    summary = run({**config, "tasks": ["t2t"]}, inputs, tmp_path, context)
    assert summary["t2t"] == 4 and summary["rounding"]["kl"] == 0
    assert not any(row["response"] in ("paris", "rome", "lions", "bears") for row in rows_of(tmp_path, "t2t"))


def test_units_that_the_vocoder_does_not_have_are_left_out(artifacts, speech, context, tmp_path, monkeypatch):
    class Small:
        clusters = 6

        def __call__(self, units):
            assert len(units) and max(units) < 6
            return np.array(units, np.float32) / 24

    monkeypatch.setattr("src.speech.load.vocoder", lambda folder: Small())
    run(CONFIG, artifacts, tmp_path, context)
    heard = {row["id"]: row["heard"] for row in rows_of(tmp_path, "sqa")}
    assert heard == {"places-0": "paris", "places-1": "", "beasts-0": "", "beasts-1": ""}


def test_sampling_is_a_setting(artifacts, context, tmp_path):
    def answers(seed: int) -> list[str]:
        config = {**CONFIG, "tasks": ["t2t"], "decoding": {"temperature": 4.0, "top_k": 20, "seed": seed}}
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        out.mkdir()
        run(config, artifacts, out, Recorded(out / "work"))
        return [row["response"] for row in rows_of(out, "t2t")]

    assert answers(1) == answers(1) != answers(2)


@pytest.mark.parametrize(("at_once", "lost"), [(1, 0), (3, 1), (512, 1)])
def test_a_killed_evaluation_asks_only_what_has_no_answer_yet(
    at_once, lost, result, artifacts, speech, tmp_path_factory, monkeypatch
):
    """Responses are kept two by two, or when all of a call are there: of five, the one to the first instruction is lost
    where its call has others."""

    class Killed(Exception):
        pass

    def killing(*asked):
        for row in answered(*asked):
            if len(attempts) == 1 and len(attempts[0]) == 5:
                raise Killed
            attempts[-1].append(row)
            yield row

    attempts: list[list] = [[]]
    answered = generate.continuous.answered
    out, work = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("work")
    monkeypatch.setattr(responses, "ASKED_AT_ONCE", at_once)
    monkeypatch.setattr(generate, "TOLD_AT_ONCE", 2)
    monkeypatch.setattr(generate.continuous, "answered", killing)
    with pytest.raises(Killed):
        run(CONFIG, artifacts, out, Recorded(work))
    assert not list(out.iterdir()) and reached(work) >= 3
    attempts.append([])
    context = Recorded(work, attempt=2)
    run(CONFIG, artifacts, out, context)
    assert [len(rows) for rows in attempts] == [5, 15 - 5 + lost]
    for name in ("settings.json", "responses.jsonl", "audio/places-0.flac", "audio/beasts-0.flac"):
        assert (out / name).read_bytes() == (result / name).read_bytes()
    assert context.reports[-1] == {"done": 21, "total": 21}


def test_what_is_drawn_does_not_depend_on_how_many_are_asked_at_once(artifacts, tmp_path_factory, monkeypatch):
    config = {**CONFIG, "tasks": ["t2t"], "decoding": {"temperature": 4.0, "top_k": 20, "seed": 1}}
    found = []
    for at_once in (512, 1):
        out = tmp_path_factory.mktemp("out")
        monkeypatch.setattr(responses, "ASKED_AT_ONCE", at_once)
        run(config, artifacts, out, Recorded(out / "work"))
        found.append((out / "responses.jsonl").read_bytes())
    assert found[0] == found[1]


def test_data_that_the_checkers_need_is_asked_for_before_anything_is_generated(
    artifacts, context, tmp_path, monkeypatch
):
    """A set with an instruction that counts sentences, on a machine where nltk has no data."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    asked = {
        "key": 7,
        "prompt": "two sentences",
        "instruction_id_list": ["length_constraints:number_sentences"],
        "kwargs": [{"num_sentences": 2, "relation": "at least"}],
    }
    jsonl.write(corpus / "eval_ifeval.jsonl", [asked])
    checkers.load()
    monkeypatch.setattr("nltk.data.path", [])
    inputs = {"model": tmp_path / "there is none", "base": tmp_path / "nor here", "corpus": corpus}
    with pytest.raises(FileNotFoundError, match=r"punkt_tab.*\(key 7 is the first\)"):
        run({**CONFIG, "tasks": ["ifeval"]}, inputs, tmp_path, context)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ["t2t", "sing"]}, "tasks is 'sing'; it must be out of t2t, ifeval, sqa, asr, tts"),
        ({"max_new_tokens": {"t2t": 8}}, "max_new_tokens.ifeval is not set"),
        ({"max_new_tokens": {"t2t": 0}}, "max_new_tokens.t2t is 0; it must be greater than 0"),
        ({"decoding": {"temperature": -1.0}}, "decoding.temperature is -1.0; it must be at least 0"),
        ({"batch_tokens": 0}, "batch_tokens is 0; it must be greater than 0"),
        ({"listen": -1}, "listen is -1; it must be at least 0"),
    ],
)
def test_wrong_settings_are_named(change, message, artifacts, context, tmp_path):
    with pytest.raises(ConfigError, match=message):
        run({**CONFIG, **change}, artifacts, tmp_path, context)


def test_a_task_without_examples_is_named(artifacts, speech, context, tmp_path):
    with pytest.raises(ValueError, match="no example to evaluate asr on"):
        run({**CONFIG, "asr_examples": 0}, artifacts, tmp_path, context)


def test_the_label_is_the_models():
    corpus, model = Given(role="corpus"), Given(role="train-sqa-replay")
    config = Asking(max_new_tokens={"t2t": 8}, decoding=Decoding(), batch_tokens=200)
    step = Generate(tasks=("t2t",), config=config, model=model, base=model, corpus=corpus)
    assert step.label == "generate-sqa-replay"
