"""Verifiable instructions, scored by lm-evaluation-harness's own IFEval checkers.

Strict: the response as it is. Loose: any of eight variants of it (first or last line off, asterisks off) passes.
Verdicts are repeatable: language detection is seeded, and so is the draw of a random letter in which the official
checker of letter_frequency ends when it is asked for something that is not a letter.
"""

import contextlib
import importlib.util
import os
import random
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """Whether each instruction of a prompt was followed, in the prompt's order."""

    strict: tuple[bool, ...]
    loose: tuple[bool, ...]


def judge(example: Mapping[str, Any], response: str) -> Verdict:
    """Check a response against an example in IFEval's schema: key, prompt, instruction_id_list, kwargs.

    Raises ValueError for an instruction that the checkers do not know, RuntimeError where one needs nltk data that is
    not there.
    """
    checkers = _checkers()
    for name in example["instruction_id_list"]:
        if name not in checkers.instructions_registry.INSTRUCTION_DICT:
            raise ValueError(f"IFEval prompt {example['key']}: unknown instruction {name}")
    fields = {name: example[name] for name in ("key", "instruction_id_list", "prompt", "kwargs")}
    made = checkers.InputExample(**fields)
    state = random.getstate()
    try:
        random.seed(f"ifeval-{example['key']}")
        strict = checkers.test_instruction_following_strict(made, response)
        random.seed(f"ifeval-{example['key']}")
        loose = checkers.test_instruction_following_loose(made, response)
    except LookupError as error:
        raise RuntimeError(
            f"IFEval prompt {example['key']} ({', '.join(example['instruction_id_list'])}) needs nltk's punkt_tab: "
            "get it with `python -m nltk.downloader punkt_tab`, or point NLTK_DATA to it"
        ) from error
    finally:
        random.setstate(state)
    return Verdict(tuple(strict.follow_instruction_list), tuple(loose.follow_instruction_list))


@cache
def _checkers() -> ModuleType:
    """lm-evaluation-harness's `ifeval/utils.py`, imported without a download and without what it does not need."""
    with _no_download(), _without("sklearn", "scipy", "pandas"), _bare_package("lm_eval.tasks"):
        from lm_eval.tasks.ifeval import utils
    from langdetect import DetectorFactory

    DetectorFactory.seed = 0
    return utils


@contextlib.contextmanager
def _no_download() -> Iterator[None]:
    """The module downloads nltk's punkt_tab when it is imported, where LOCAL_RANK is 0 or not set."""
    rank = os.environ.get("LOCAL_RANK")
    os.environ["LOCAL_RANK"] = "1"
    try:
        yield
    finally:
        if rank is None:
            del os.environ["LOCAL_RANK"]
        else:
            os.environ["LOCAL_RANK"] = rank


@contextlib.contextmanager
def _without(*packages: str) -> Iterator[None]:
    """nltk imports these where they are installed, and does without them where not: a second saved each time."""
    hidden = [package for package in packages if package not in sys.modules]
    for package in hidden:
        sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


@contextlib.contextmanager
def _bare_package(name: str) -> Iterator[None]:
    """Import below a package without running its `__init__`, which would import `datasets` and the task manager."""
    if name in sys.modules:
        yield
        return
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ImportError(f"{name} is not installed")
    package = ModuleType(name)
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules[name] = package
    try:
        yield
    finally:
        del sys.modules[name]
