"""What the report reads of the tasks."""

import subprocess
import sys

from src import tasks


def test_keys_name_their_column_and_question_set() -> None:
    found = {
        key: (column.title, tasks.set_of(key)) if (column := tasks.find(key)) else None
        for key in ("qa/my set/t2t", "qa/a/s2s", "ifeval/prompt_strict", "wer/tts", "lm_eval/qa/t2t", "qa//t2t", "qa/a")
    }
    assert found == {
        "qa/my set/t2t": ("T2T", "my set"), "qa/a/s2s": ("S2S", "a"), "ifeval/prompt_strict": ("IFEval prompt", ""),
        "wer/tts": ("WER TTS", ""), "lm_eval/qa/t2t": None, "qa//t2t": None, "qa/a": None,
    }  # fmt: skip


def test_word_errors_are_better_when_low_and_text_models_have_no_speech() -> None:
    assert {column.key for column in tasks.COLUMNS if column.direction == "down"} == {
        "wer/question", "wer/asr", "wer/tts",
    }  # fmt: skip
    assert (tasks.TEXT_ABILITIES, tasks.SPOKEN_ABILITIES) == (("t2t", "ifeval"), ("s2t", "s2s"))


def test_they_are_read_without_heavy_imports() -> None:
    code = "import sys, src.tasks; print([m for m in ('torch', 'numpy', 'omegaconf') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
