"""The kinds of steps: one file a kind, named after it. src/grid/step.py says what a step is."""

import importlib
import pkgutil
from typing import Any

MODEL = ("torch", "transformers", "transformers.models.llama.modeling_llama")
"""Slow imports of every step that computes with a language model."""


def kinds() -> list[str]:
    """Names of all kinds of steps, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def kind_of(name: str) -> Any:
    """The class of a kind: the one that its file is for, named like it (`translate.py` has `Translate`)."""
    return getattr(importlib.import_module(f"{__name__}.{name}"), name.title().replace("_", ""))
