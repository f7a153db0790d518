"""IFEval's checkers out of lm-evaluation-harness, imported when they are needed and without what they do not need."""

import contextlib
import importlib.util
import logging
import os
import random
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave the global random state as it was: the checkers draw from it."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def build(name: str, kwargs: Mapping[str, Any] | None) -> None:
    """Build an instruction as the official scorer does before it checks a response: without falsy arguments."""
    instruction = load().instructions_registry.INSTRUCTION_DICT[name](name)
    instruction.build_description(**{argument: value for argument, value in (kwargs or {}).items() if value})


@cache
def load() -> ModuleType:
    """lm-evaluation-harness's `ifeval/utils.py`, imported without a download and without what it does not need."""
    with _no_download(), _without("sklearn", "scipy", "pandas"), _bare_package("lm_eval.tasks"):
        from lm_eval.tasks.ifeval import utils
    from langdetect import DetectorFactory

    DetectorFactory.seed = 0
    # A response without a language counts as followed; each would be logged as an error, in full.
    logging.getLogger("lm_eval.tasks.ifeval.instructions").setLevel(logging.CRITICAL)
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
    """Hide packages while nltk is imported. It does without them, which saves a second each time."""
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
