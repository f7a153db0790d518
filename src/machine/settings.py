"""What the user tells of the machine and of the data, so that a plan can be sized. Imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from src.checks import positive, require
from src.grid.errors import ConfigError

PEAK_TFLOPS = {
    "V100": 125,
    "A10": 125,
    "A40": 149.7,
    "RTX A6000": 154.8,
    "RTX 4090": 165.2,
    "L40S": 362,
    "A100": 312,
    "H100": 989,
    "H200": 989,
}
"""Dense 16-bit tensor operations a second, in 10^12, from NVIDIA's data sheets."""
BANDWIDTH_GB = {
    "V100": 900,
    "A10": 600,
    "A40": 696,
    "RTX A6000": 768,
    "RTX 4090": 1008,
    "L40S": 864,
    "A100": 2039,
    "H100": 3350,
    "H200": 4800,
}
"""Memory bandwidth in GB a second, from NVIDIA's data sheets: A100 of 80 GB, H100 and H200 as SXM."""


@dataclass(frozen=True)
class Gpu:
    """The GPU of one training process: a row's `gpu`, or `hydra.launcher.gpu`. None: not known."""

    name: str | None = None
    """One of PEAK_TFLOPS, or a longer name that contains one."""
    memory_gb: float | None = None
    """GiB."""

    def __post_init__(self) -> None:
        positive(self, "memory_gb")

    @classmethod
    def of(cls, launcher: Mapping[str, Any] | None, row: Mapping[str, Any] | None) -> "Gpu":
        """The launcher's GPU; a field that is null there is the row's.

        Raises ConfigError where the launcher names another GPU than the row, and not how much memory it has.
        """
        own = {key: value for key, value in (launcher or {}).items() if value is not None}
        other = {key: value for key, value in (row or {}).items() if value is not None}
        same = own.get("name") in (None, other.get("name"))
        if not same and "memory_gb" in other and "memory_gb" not in own:
            raise ConfigError(f"hydra.launcher.gpu.memory_gb is null; it must be that of the {own['name']}, for "
                              f"gpu.memory_gb={other['memory_gb']:g} is of the {other.get('name')}")  # fmt: skip
        return cls(**{**other, **own})

    @property
    def peak_tflops(self) -> float | None:
        """The peak of the longest name in PEAK_TFLOPS that is part of this one's ("NVIDIA A100-SXM4-80GB")."""
        return None if self._known is None else PEAK_TFLOPS[self._known]

    @property
    def bandwidth_gb(self) -> float | None:
        """The memory bandwidth of the same name."""
        return None if self._known is None else BANDWIDTH_GB[self._known]

    @property
    def _known(self) -> str | None:
        known = [name for name in PEAK_TFLOPS if self.name and name.lower() in self.name.lower()]
        return max(known, key=len) if known else None


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Sizes of a set of examples, as the plan assumes them until the store has counted."""

    examples: int
    """All of them, those too that are longer than a stage takes."""
    lengths: tuple[float, ...]
    """Tokens of the shortest, and so on in equal steps up to the longest: of ten parts with as many examples each, say,
    eleven numbers. Within a part they are taken to be evenly spread."""
    learned: float
    """The share of an example's tokens that is learned: its response, which stands at the end."""

    def __post_init__(self) -> None:
        positive(self, "examples")
        require(0 < self.learned <= 1, "learned", self.learned, "above 0 and at most 1")
        ascending = len(self.lengths) > 1 and self.lengths[0] > 0 and sorted(self.lengths) == list(self.lengths)
        require(ascending, "lengths", list(self.lengths), "two or more numbers above 0, none below the last")


@dataclass(frozen=True, kw_only=True)
class ExpectedAnswers:
    """What a task asks and what is answered, as the plan assumes it."""

    examples: int
    prompt: int
    """Tokens of a prompt in the model's chat format, the mean."""
    answer: int
    """Tokens of an answer, the mean."""

    def __post_init__(self) -> None:
        positive(self, "examples", "prompt", "answer")
