"""How a model is asked, and from what. Imports no torch: a plan is checked with these settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from src.checks import positive, require, seed

SPEECH = ("listen", "asr_examples", "tts_examples")
"""Settings that only spoken tasks read."""


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen."""

    temperature: float = 0.0
    """0: always the likeliest token."""
    top_k: int = 50
    """Above temperature 0, a token is drawn from this many likeliest ones; 0: from all."""
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.temperature >= 0, "temperature", self.temperature, "at least 0 (0: greedy)")
        require(self.top_k >= 0, "top_k", self.top_k, "at least 0 (0: all tokens)")
        seed(self)


Dtype = Literal["float32", "float16", "bfloat16"]
"""The type of a model's weights and arithmetic while it is evaluated."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How many examples a model is asked, and how long it may answer."""

    max_new_tokens: Mapping[str, int]
    """Task -> tokens of the longest response."""
    decoding: Decoding
    batch_tokens: int
    """Most tokens of a batch of generation: rows x (longest prompt + longest response)."""
    dtype: Dtype = "float32"
    """Of a model's weights and arithmetic. What narrow types cost is in the manifest (src/model/rounding.py)."""
    listen: int = 0
    """Spoken answers kept as audio, of each question set."""
    asr_examples: int = 0
    tts_examples: int = 0

    def __post_init__(self) -> None:
        for task, number in self.max_new_tokens.items():
            require(number > 0, f"max_new_tokens.{task}", number, "greater than 0")
        positive(self, "batch_tokens")
        for name in SPEECH:
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")

    @property
    def torch_dtype(self) -> Any:
        """torch's type of that name."""
        import torch

        return getattr(torch, self.dtype)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Folders of the artifacts that responses are made from."""

    model: Path
    base: Path
    """The base model, which has the tokenizer; the model itself may be this one."""
    corpus: Path
    units: Path | None = None
    """The speech of the examples as units. Spoken tasks alone need it, the vocoder and the recognizer."""
    vocoder: Path | None = None
    recognizer: Path | None = None
