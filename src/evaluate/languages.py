"""IFEval in other languages: translated prompts, scored by the same checkers as the English ones.

After the evaluation of Finnish by Zosa, Komulainen and Pyysalo, "Got compute, but no data: Lessons from post-training a
Finnish LLM", sections 5 and 6: prompts that ask for a response in a certain language are left out (of the 541, 510
remain), what counts is the strict score at instruction level, and beside it stands the share of the responses that
langdetect takes for the language. The checkers remain the English ones: they split sentences by its rules, and
english_capital and english_lowercase go on asking for English.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

from src.evaluate.ifeval_prompts import Example
from src.evaluate.statistics import accuracy

RESPONSE_LANGUAGE = "language:response_language"


def comparable(examples: Iterable[Example]) -> list[Example]:
    """The examples that do not ask for a response in a certain language."""
    return [example for example in examples if RESPONSE_LANGUAGE not in example["instruction_id_list"]]


def detect(response: str) -> str | None:
    """The language that langdetect takes a response for (its code, as "fi"), None if it finds none in it."""
    import langdetect

    langdetect.DetectorFactory.seed = 0
    try:
        return langdetect.detect(response)
    except langdetect.LangDetectException:
        return None


def share_in(language: str, responses: Sequence[str]) -> dict[str, Any]:
    """The share of the responses that are in a language: value, n, standard error."""
    return accuracy([detect(response) == language for response in responses])


def require_known(language: str) -> None:
    """Raise ValueError if langdetect does not know a language by this code."""
    from langdetect.detector_factory import PROFILES_DIRECTORY

    known = sorted(os.listdir(PROFILES_DIRECTORY))
    if language not in known:
        raise ValueError(f"there is no language {language!r}; langdetect knows {', '.join(known)}")
