"""Verdicts against lm-evaluation-harness's own scoring, and an import that reaches for nothing."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from src.evaluate import ifeval

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "ifeval" / "input_data.jsonl"


def example(*instructions: tuple[str, dict], key: int = 1, prompt: str = "say something") -> dict:
    return {
        "key": key,
        "prompt": prompt,
        "instruction_id_list": [name for name, _ in instructions],
        "kwargs": [kwargs for _, kwargs in instructions],
    }


NO_COMMA: tuple[str, dict] = ("punctuation:no_comma", {})
QUOTES: tuple[str, dict] = ("startend:quotation", {})
KEYWORD: tuple[str, dict] = ("keywords:existence", {"keywords": ["red"]})


def test_each_instruction_has_its_verdict():
    assert ifeval.judge(example(NO_COMMA, KEYWORD), "red and blue").strict == (True, True)
    assert ifeval.judge(example(NO_COMMA, KEYWORD), "green, blue").strict == (False, False)
    assert ifeval.judge(example(KEYWORD, NO_COMMA), "red, blue").strict == (True, False)


def test_empty_response_follows_nothing():
    assert ifeval.judge(example(NO_COMMA), " \n") == ifeval.Verdict((False,), (False,))


def test_loose_forgives_a_first_line_and_asterisks():
    verdict = ifeval.judge(example(QUOTES), 'Here it is:\n"red"')
    assert verdict == ifeval.Verdict((False,), (True,))
    assert ifeval.judge(example(QUOTES), '*"red"*').loose == (True,)


def test_unset_arguments_are_as_absent():
    with_none = ("keywords:existence", {"keywords": ["red"], "letter": None, "num_words": None})
    assert ifeval.judge(example(with_none), "red").strict == (True,)


def test_unknown_instruction_is_named():
    with pytest.raises(ValueError, match="IFEval prompt 7: unknown instruction colors:red"):
        ifeval.judge(example(("colors:red", {}), key=7), "red")


def test_chance_is_fixed_and_leaves_no_trace():
    """The official checker draws a random letter for '#'."""
    drawn = example(("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": "at least"}))
    responses = [letter * 3 for letter in "abcdefghijklmnopqrstuvwxyz"]
    random.seed(0)
    state = random.getstate()
    first = [ifeval.judge(drawn, response) for response in responses]
    assert random.getstate() == state
    random.seed(123)
    assert [ifeval.judge(drawn, response) for response in responses] == first
    assert sum(verdict.strict[0] for verdict in first) == 1, "one and the same letter for every response"


def test_language_detection_is_repeatable():
    asked = example(("language:response_language", {"language": "de"}))
    mixed = "das ist the red and die blaue blue house"
    assert len({ifeval.judge(asked, mixed) for _ in range(20)}) == 1


IMPORT = """
import socket, sys
def refuse(*arguments, **options):
    raise AssertionError("network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import os
from src.evaluate import ifeval
ifeval._checkers()
print(os.environ.get("LOCAL_RANK"), [name for name in ("datasets", "sklearn", "pandas") if name in sys.modules])
from lm_eval.tasks import TaskManager
import sklearn.svm
"""


def test_import_reaches_for_nothing(tmp_path):
    """Without nltk data, without a network; and what is kept out of the import can be imported afterwards."""
    environment = {"PATH": "", "NLTK_DATA": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", IMPORT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "None []\n"


def test_missing_nltk_data_is_explained(monkeypatch):
    ifeval._checkers()
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    asked = example(("change_case:capital_word_frequency", {"capital_frequency": 1, "capital_relation": "at least"}))
    with pytest.raises(RuntimeError, match=r"IFEval prompt 1 .*nltk\.downloader punkt_tab"):
        ifeval.judge(asked, "RED and BLUE")


@pytest.mark.skipif(not OFFICIAL.is_file(), reason="the official prompts are not here")
def test_verdicts_are_the_official_ones_on_the_official_prompts():
    from langdetect import DetectorFactory

    utils = ifeval._checkers()
    needs_data = {"length_constraints:number_sentences", "change_case:capital_word_frequency"}
    compared = 0
    for line in OFFICIAL.read_text().splitlines():
        asked = json.loads(line)
        if needs_data & set(asked["instruction_id_list"]) or asked["key"] in (1122, 1129):
            continue
        for response in (asked["prompt"], asked["prompt"].upper(), ""):
            DetectorFactory.seed = 0
            official = utils.process_results(asked, [response])
            ours = ifeval.judge(asked, response)
            assert list(ours.strict) == official["inst_level_strict_acc"]
            assert list(ours.loose) == official["inst_level_loose_acc"]
            compared += 1
    assert compared > 1200
