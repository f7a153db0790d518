"""The kinds of steps: one file a kind, named after it. src/grid/step.py says what a step is."""

MODEL = ("torch", "transformers", "transformers.models.llama.modeling_llama")
"""Slow imports of every step that computes with a language model."""
