"""Responses that are known, scored; no model is needed for that."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.proportion import proportion_confint

from src.data import jsonl
from src.evaluate import qa
from src.evaluate.ifeval import breakdown, chance, check
from src.evaluate.scoring import Scoring
from src.grid.errors import ConfigError
from src.grid.typed import typed
from src.steps.score import Score
from tests.evaluate.conftest import Given

CONFIG = {"tasks": ["t2t", "ifeval", "sqa", "asr", "tts"], "matching": "contiguous", "wer_normalization": "basic"}
ASKED = {
    "tasks": CONFIG["tasks"],
    "decoding": {"temperature": 0.0, "top_k": 50, "seed": 0},
    "instruction": {"asr": "please repeat the following words:"},
}
QUESTIONS = [  # id, answers, response in text, response to the spoken question, units of its answer, what is heard
    ("places-0", ["paris"], "It is Paris.", "what is capital one\n\nparis\n\nparis<|0|><|5|>", [0, 5], "paris"),
    ("places-1", ["rome"], "milan", "what is capital two\n\nrome<|1|><|6|>", [1, 6], "rome"),
    ("beasts-0", ["forty-two", "42"], "42 of them", "what is one\n\nlions\n\nlions<|2|>", [2], "lions"),
    ("beasts-1", ["bears"], "forbears", "what is animal two\n\nthe bears\n\nred<|4|><|9|>", [4, 9], ""),
]
SPOKEN = ["what is capital one", "what is capital two", "what is animal one", "what is animal two"]
INSTRUCTIONS = [
    ("no comma", ["punctuation:no_comma"], [{}], "red blue"),
    ("no comma, blue", ["punctuation:no_comma", "keywords:existence"], [{}, {"keywords": ["blue"]}], "red, green"),
    ("quotation", ["startend:quotation"], [{}], '* "red" *'),
    ("no comma, red", ["punctuation:no_comma", "keywords:existence"], [{}, {"keywords": ["red"]}], "red, green"),
]
SENTENCES = ["Paris is red!", "lions is blue", "two bears"]


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """The artifacts of a corpus and of a generation."""
    responses, corpus = tmp_path / "responses", tmp_path / "corpus"
    responses.mkdir()
    corpus.mkdir()

    def answered(task: str, id: object, text: str, words: str | None = None, **more: object) -> dict:
        said = {"response": text + "<|eot_id|>", "text": text, "words": text if words is None else words}
        return {"task": task, "id": id, "prompt": f"prompt {id}", **said, **more}

    rows = [answered("t2t", id, text, set=id[:6]) for id, _, text, *_ in QUESTIONS]
    rows += [answered("ifeval", key, response) for key, (*_, response) in enumerate(INSTRUCTIONS)]
    for (id, _, _, text, units, heard), question in zip(QUESTIONS, SPOKEN, strict=True):
        rows.append(answered("sqa", id, text, set=id[:6], question=question, units=units, heard=heard))
    said = ["paris is  blue", "lions blue", "two bears"]
    rows += [answered("asr", f"s{i}", said[i], reference=text) for i, text in enumerate(SENTENCES)]
    rows += [
        answered("tts", f"s{i}", "", reference=text, units=[1], heard=text.lower() if i else "paris is quite red")
        for i, text in enumerate(SENTENCES)
    ]
    jsonl.write(responses / "responses.jsonl", rows)
    (responses / "settings.json").write_text(json.dumps(ASKED))
    asked = [{"id": id, "set": id[:6], "question": "?", "answers": answers} for id, answers, *_ in QUESTIONS]
    jsonl.write(corpus / "eval_qa.jsonl", asked[::-1])
    jsonl.write(corpus / "eval_ifeval.jsonl", examples())
    return {"responses": responses, "corpus": corpus}


def examples() -> list[dict]:
    return [
        {"key": key, "prompt": prompt, "instruction_id_list": names, "kwargs": kwargs}
        for key, (prompt, names, kwargs, _) in enumerate(INSTRUCTIONS)
    ]


@pytest.fixture
def result(inputs, context, tmp_path) -> Path:
    return scored(CONFIG, inputs, context, tmp_path / "scored")


def scored(config: dict, inputs: dict[str, Path], context: Any, out: Path) -> Path:
    out.mkdir()
    steps = {role: Given(role=role) for role in inputs}
    rules = {name: value for name, value in config.items() if name != "tasks"}
    step = typed(Score, {"tasks": config["tasks"], "config": rules, **steps}, "evaluate")
    summary = step.run({steps[role]: folder for role, folder in inputs.items()}, out, context)
    assert summary == {key: score["value"] for key, score in read(out, "scores.json")["scores"].items()}
    return out


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


def test_scores_are_what_the_responses_deserve(result):
    scores = read(result, "scores.json")["scores"]
    assert {key: score["value"] for key, score in scores.items()} == {
        "qa/places/t2t": 0.5,
        "qa/beasts/t2t": 0.5,
        "ifeval/prompt_strict": 0.25,
        "ifeval/instruction_strict": pytest.approx(2 / 6),
        "ifeval/prompt_loose": 0.5,
        "ifeval/instruction_loose": 0.5,
        "qa/places/s2t": 1.0,
        "qa/beasts/s2t": 0.5,
        "qa/places/s2s": 1.0,
        "qa/beasts/s2s": 0.0,
        "wer/question": pytest.approx(1 / 16),
        "form/well_formed": 0.75,
        "wer/asr": pytest.approx(2 / 8),
        "wer/tts": pytest.approx(1 / 8),
    }
    assert scores["ifeval/instruction_strict"]["n"] == 6 and scores["ifeval/instruction_strict"]["clusters"] == 4
    assert {key: scores["wer/asr"][key] for key in ("n", "words", "substitutions", "deletions", "insertions")} == {
        "n": 3, "words": 8, "substitutions": 1, "deletions": 1, "insertions": 0,
    }  # fmt: skip


def test_accuracies_have_wilsons_interval(result):
    scores = read(result, "scores.json")["scores"]
    for key in ("qa/places/s2s", "qa/beasts/s2t", "ifeval/prompt_strict", "ifeval/prompt_loose", "form/well_formed"):
        right = round(scores[key]["value"] * scores[key]["n"])
        expected = proportion_confint(right, scores[key]["n"], method="wilson")
        assert scores[key]["interval"] == pytest.approx(expected, abs=1e-12), key


def test_word_errors_and_instructions_have_a_bootstrap_interval(result):
    """Against scipy's BCa, which draws by other random numbers."""
    rows = list(jsonl.read(result / "responses.jsonl"))
    strict = [row["strict"] for row in rows if row["task"] == "ifeval"]
    asr = [row for row in rows if row["task"] == "asr"]
    parts = {
        "ifeval/instruction_strict": ([sum(each) for each in strict], [len(each) for each in strict]),
        "wer/asr": ([row["errors"] for row in asr], [row["words_counted"] for row in asr]),
    }
    scores = read(result, "scores.json")["scores"]
    for key, (of, whole) in parts.items():
        expected = scipy.stats.bootstrap(
            (of, whole), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True, vectorized=True, rng=0
        ).confidence_interval
        assert scores[key]["interval"] == pytest.approx(tuple(expected), abs=0.03), key
    assert all("interval" in score for score in scores.values())


def test_prompts_that_agree_still_leave_something_open(inputs, context, tmp_path):
    """None of four prompts followed: that does not prove that none ever is."""
    file = inputs["responses"] / "responses.jsonl"
    rows = [{**row, "words": ""} for row in jsonl.read(file) if row["task"] == "ifeval"]
    jsonl.write(file, rows)
    scores = read(scored({**CONFIG, "tasks": ["ifeval"]}, inputs, context, tmp_path / "out"), "scores.json")["scores"]
    for score in scores.values():
        assert score["value"] == 0
        assert score["interval"] == pytest.approx(proportion_confint(0, 4, method="wilson"), abs=1e-12)


def test_one_utterance_has_no_interval(inputs, context, tmp_path):
    file = inputs["responses"] / "responses.jsonl"
    jsonl.write(file, [row for row in jsonl.read(file) if row["task"] == "asr"][:1])
    out = scored({**CONFIG, "tasks": ["asr"]}, inputs, context, tmp_path / "out")
    score = read(out, "scores.json")["scores"]["wer/asr"]
    assert (score["interval"], score["standard_error"]) == (None, None)


def test_references_without_words_are_scored(inputs, context, tmp_path):
    """One of three adds its insertions; where none has a word, there is no such score, and no error."""
    file = inputs["responses"] / "responses.jsonl"
    rows = list(jsonl.read(file))
    for empty, values in ((["s1"], {"wer/asr": pytest.approx(3 / 5)}), (["s0", "s1", "s2"], {})):
        changed = [{**row, "reference": "?!"} if row["id"] in empty else row for row in rows]
        jsonl.write(file, changed)
        out = scored({**CONFIG, "tasks": ["asr"]}, inputs, context, tmp_path / f"without-{len(empty)}")
        assert {key: score["value"] for key, score in read(out, "scores.json")["scores"].items()} == values
        counted = {row["id"]: (row["errors"], row["words_counted"]) for row in jsonl.read(out / "responses.jsonl")}
        assert counted["s1"] == (2, 0)


def test_every_response_has_its_verdict(result, inputs):
    raw = list(jsonl.read(inputs["responses"] / "responses.jsonl"))
    rows = list(jsonl.read(result / "responses.jsonl"))
    assert [row["task"] for row in rows] == ["t2t"] * 4 + ["ifeval"] * 4 + ["sqa"] * 4 + ["asr"] * 3 + ["tts"] * 3
    added = [
        {key: value for key, value in row.items() if key not in before} for row, before in zip(rows, raw, strict=True)
    ]
    assert all(row[key] == before[key] for row, before in zip(rows, raw, strict=True) for key in before)
    assert added[2] == {"answers": ["forty-two", "42"], "correct": True}
    assert [row["correct"] for row in rows[:4]] == [True, False, True, False]
    names = ["punctuation:no_comma", "keywords:existence"]
    assert added[5] == {"instructions": names, "strict": [False, False], "loose": [False, False]}
    assert (added[6]["strict"], added[6]["loose"]) == ([False], [True])
    assert added[8] == {
        "answers": ["paris"],
        "transcript": "what is capital one",
        "text_answer": "paris",
        "well_formed": True,
        "correct_s2t": True,
        "correct_s2s": True,
        "errors": 0,
        "words_counted": 4,
    }
    assert (added[9]["well_formed"], added[9]["correct_s2t"], added[10]["errors"]) == (False, True, 1)
    assert added[12] == {"transcript": "paris is blue", "errors": 1, "words_counted": 3}
    assert added[15] == {"errors": 1, "words_counted": 3}


def test_totals_are_those_of_the_rows(result):
    rows = list(jsonl.read(result / "responses.jsonl"))
    scores = read(result, "scores.json")["scores"]
    for task, key in (("asr", "wer/asr"), ("tts", "wer/tts"), ("sqa", "wer/question")):
        errors, words = np.sum([(row["errors"], row["words_counted"]) for row in rows if row["task"] == task], axis=0)
        assert scores[key]["value"] == pytest.approx(errors / words) and scores[key]["words"] == words


def test_breakdown_is_that_of_the_verdicts(result):
    verdicts = [check(example, response) for example, (*_, response) in zip(examples(), INSTRUCTIONS, strict=True)]
    told = read(result, "breakdown.json")["ifeval"]
    assert told == {**breakdown(examples(), verdicts), "chance": chance(examples())}
    assert told["group"]["punctuation"]["strict"]["value"] == pytest.approx(1 / 3)


def test_settings_say_how_it_was_asked_and_scored(result):
    assert read(result, "scores.json")["settings"] == {**ASKED, **CONFIG}


def test_another_rule_and_another_normalization_give_other_scores(inputs, context, tmp_path):
    lenient = scored({**CONFIG, "matching": "substrings"}, inputs, context, tmp_path / "lenient")
    strict = scored({**CONFIG, "matching": "has_answer"}, inputs, context, tmp_path / "strict")
    values = [read(out, "scores.json")["scores"]["qa/beasts/t2t"]["value"] for out in (lenient, strict)]
    assert values == [1.0, 0.5]
    file = inputs["responses"] / "responses.jsonl"
    rows = [{**row, "reference": "two colours", "words": "2 colours"} for row in jsonl.read(file)]
    jsonl.write(file, rows)
    values = []
    for name in ("basic", "whisper"):
        out = scored({**CONFIG, "tasks": ["asr"], "wer_normalization": name}, inputs, context, tmp_path / name)
        values.append(read(out, "scores.json")["scores"]["wer/asr"]["value"])
    assert values == [0.5, 0.0]


def test_same_responses_same_bytes(result, inputs, context, tmp_path):
    again = scored(CONFIG, inputs, context, tmp_path / "again")
    for name in ("scores.json", "responses.jsonl", "breakdown.json"):
        assert (again / name).read_bytes() == (result / name).read_bytes()


def test_text_alone(inputs, context, tmp_path):
    out = scored({"tasks": ["t2t"], "matching": "contiguous"}, inputs, context, tmp_path / "out")
    assert list(read(out, "scores.json")["scores"]) == ["qa/places/t2t", "qa/beasts/t2t"]
    assert read(out, "breakdown.json") == {}
    assert read(out, "scores.json")["settings"] == {**ASKED, "tasks": ["t2t"], "matching": "contiguous"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matching": "exact"}, f"matching is 'exact'; it must be one of {', '.join(qa.RULES)}"),
        ({"wer_normalization": "none"}, "wer_normalization is 'none'; it must be basic or whisper"),
        ({"tasks": ["t2t", "sing"]}, "tasks is 'sing'; it must be out of t2t, ifeval, sqa, asr, tts"),
    ],
)
def test_wrong_settings_are_named(change, message, inputs, context, tmp_path):
    with pytest.raises(ConfigError, match=message):
        scored({**CONFIG, **change}, inputs, context, tmp_path / "out")


def test_a_task_without_responses_is_named(inputs, context, tmp_path):
    jsonl.write(inputs["responses"] / "responses.jsonl", [])
    with pytest.raises(ValueError, match="no response to score t2t on"):
        scored(CONFIG, inputs, context, tmp_path / "out")


def test_the_label_is_that_of_the_responses():
    responses, corpus = Given(role="generate-sqa-replay"), Given(role="corpus")
    step = Score(tasks=("t2t",), config=Scoring(matching="contiguous"), responses=responses, corpus=corpus)
    assert step.label == "score-sqa-replay"


def test_a_response_to_another_corpus_is_refused(inputs, context, tmp_path):
    jsonl.write(inputs["corpus"] / "eval_qa.jsonl", [{"id": "places-0", "answers": ["paris"]}])
    with pytest.raises(ValueError, match=r"'places-1' \(t2t\), which is not in the corpus's eval_qa.jsonl"):
        scored(CONFIG, inputs, context, tmp_path / "out")


def test_scoring_loads_no_model_library(inputs, tmp_path):
    folders = {role: str(path) for role, path in inputs.items()}
    code = f"""
import pathlib, sys, types
import src.evaluate.preload
from src.evaluate.score import score
from src.evaluate.scoring import Scoring
folders = {{role: pathlib.Path(folder) for role, folder in {folders}.items()}}
context = types.SimpleNamespace(report=lambda **numbers: None)
out = pathlib.Path({str(tmp_path)!r})
score({CONFIG["tasks"]}, Scoring(matching="contiguous"), **folders, out=out, context=context)
print(sorted({{"torch", "transformers", "datasets", "sklearn"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert (tmp_path / "scores.json").exists()
