"""The section `evaluate` of the configuration, and what the steps get of it."""

import subprocess
import sys
from typing import Any

import pytest

from src.evaluate.asking import Asking, Decoding
from src.evaluate.settings import Evaluate
from src.grid.errors import ConfigError
from src.grid.typed import typed

SECTION: dict[str, Any] = {
    "max_new_tokens": {"tts": 5, "t2t": 1, "ifeval": 2, "sqa": 3, "asr": 4},
    "decoding": {"temperature": 0.5},
    "matching": "has_answer",
    "wer_normalization": "whisper",
    "batch_tokens": 100,
    "listen": 4,
    "asr_examples": 6,
    "tts_examples": 7,
    "lm_eval": {"tasks": ["piqa"], "limit": 2, "include_path": None},
}


def test_text_tasks_know_nothing_of_the_settings_of_speech() -> None:
    section = typed(Evaluate, SECTION, "evaluate")
    decoding = Decoding(temperature=0.5)
    text = Asking(max_new_tokens={"t2t": 1, "ifeval": 2}, decoding=decoding, batch_tokens=100)
    assert section.asking(("t2t", "ifeval")) == text and list(text.max_new_tokens) == ["t2t", "ifeval"]
    assert section.scoring(("t2t", "ifeval")).wer_normalization == "basic"
    spoken = section.asking(("t2t", "asr"))
    assert (spoken.listen, spoken.asr_examples, spoken.tts_examples) == (4, 6, 7)
    assert section.scoring(("t2t", "asr")).wer_normalization == "whisper"


def test_what_every_task_of_the_harness_is_told_leaves_their_names_out() -> None:
    options = typed(Evaluate, SECTION, "evaluate").lm_eval.options
    assert vars(options) == {"num_fewshot": None, "limit": 2.0, "batch_size": 1, "apply_chat_template": True}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"matching": "near"}, "evaluate.matching is 'near'; it must be one of contiguous, has_answer, substrings"),
        ({"wer_normalization": "x"}, "evaluate.wer_normalization is 'x'; it must be basic or whisper"),
        ({"asr_examples": 0}, "evaluate.asr_examples is 0; it must be greater than 0"),
        ({"listen": -1}, "evaluate.listen is -1; it must be at least 0"),
        ({"decoding": {"top_k": -1}}, "evaluate.decoding.top_k is -1; it must be at least 0 (0: all tokens)"),
        ({"max_new_tokens": {"t2t": 1}}, "evaluate.max_new_tokens is {'t2t': 1}; it must be a number for each of t2t"),
        (
            {"max_new_tokens": SECTION["max_new_tokens"] | {"sqa": 0}},
            "evaluate.max_new_tokens.sqa is 0; it must be greater than 0",
        ),
        (
            {"lm_eval": {"tasks": ["piqa", "piqa"]}},
            "evaluate.lm_eval.tasks is ['piqa', 'piqa']; it must be a list that names each task once",
        ),
        (
            {"lm_eval": {"include_path": "nowhere"}},
            "evaluate.lm_eval.include_path is 'nowhere'; it must be a folder with task files",
        ),
        ({"lm_eval": {"num_fewshot": -1}}, "evaluate.lm_eval.num_fewshot is -1; it must be at least 0"),
        ({"lm_eval": {"limit": 1.5}}, "evaluate.lm_eval.limit is 1.5; it must be a whole number above 0, a share"),
        ({"lm_eval": {"batch_size": 0}}, "evaluate.lm_eval.batch_size is 0; it must be greater than 0"),
    ],
)
def test_a_wrong_setting_is_one_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        typed(Evaluate, {**SECTION, **change}, "evaluate")
    assert str(raised.value).startswith(said) and "\n" not in str(raised.value)


def test_a_plan_loads_no_library_for_the_evaluation() -> None:
    code = """
import sys
from src.evaluate import settings
from src.steps import generate, harness, score
print(sorted({"torch", "numpy", "transformers", "datasets", "jiwer", "lm_eval", "nltk"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
