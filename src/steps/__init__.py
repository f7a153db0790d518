"""The kinds of steps: one file a kind, named after it. src/grid/step.py says what a step is."""

import pkgutil

MODEL = ("torch", "transformers", "transformers.models.llama.modeling_llama")
"""Slow imports of every step that computes with a language model."""


def kinds() -> list[str]:
    """Names of all kinds of steps, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))
