"""What a check finds: figures, some beside the plan's estimate, and criteria that it meets or misses.

Imports no torch: who starts the checks needs none.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

WITHIN = 0.15
"""How far a measured figure may be from its estimate, as a share of the estimate."""
PASSED, FAILED, UNTOLD = "passed", "failed", "only a GPU can tell"

Send = Callable[[Mapping[str, Any]], None]


class Findings:
    """Sends each figure and criterion at once, so that a check that is cut short leaves what it has."""

    def __init__(self, send: Send, told: bool):
        """told: whether speed and memory mean anything: at the true size, on a GPU."""
        self.send, self.told = send, told

    def figure(self, name: str, value: float | None, unit: str) -> None:
        """A measured number."""
        self.send({"figure": {"name": name, "value": _rounded(value), "unit": unit}})

    def gpu_figure(self, name: str, value: float, unit: str) -> None:
        """A measured number that is one of a GPU alone: left out elsewhere."""
        if self.told:
            self.figure(name, value, unit)

    def beside(self, name: str, value: float, unit: str, estimate: float | None, judged: bool = True) -> None:
        """A measured number beside its estimate, with their ratio. judged: whether it must be within WITHIN of it.

        estimate: None where it cannot be had, as for a GPU of unknown speed: then only the number is told.
        """
        near: bool | None = None
        if self.told:
            figure = {"name": name, "value": _rounded(value), "unit": unit}
            if estimate:
                figure |= {"estimate": _rounded(estimate), "ratio": round(value / estimate, 3)}
                near = abs(value / estimate - 1) <= WITHIN
            self.send({"figure": figure})
        elif estimate:
            self.send({"figure": {"name": name, "estimate": _rounded(estimate), "unit": unit}})
        if judged:
            self.criterion(f"{name}: within {WITHIN:.0%} of the estimate", near)

    def criterion(self, name: str, met: bool | None) -> None:
        """met: None where only a GPU can tell."""
        self.send({"criterion": name, "met": None if met is None else bool(met)})


def _rounded(value: float | None) -> float | None:
    """Five significant digits; None for what is not finite, which JSON does not have."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")


@dataclass
class Line:
    """What is written of a check."""

    check: str
    about: str
    figures: list[Mapping[str, Any]] = field(default_factory=list)
    criteria: dict[str, bool | None] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    ended: bool = False

    def take(self, event: Mapping[str, Any]) -> None:
        """Add what a check or its process has sent."""
        if "figure" in event:
            self.figures.append(event["figure"])
        elif "criterion" in event:
            self.criteria[event["criterion"]] = event["met"]
        elif "machine" in event:
            self.machine = event["machine"]
        elif "end" in event:
            self.error, self.ended = event["end"], True

    @property
    def result(self) -> str:
        """FAILED where it did not end or misses a criterion, UNTOLD where none of its criteria could be told."""
        if self.error or not self.ended or False in self.criteria.values():
            return FAILED
        return PASSED if True in self.criteria.values() else UNTOLD

    def written(self, seconds: float, quick: bool, date: str) -> dict[str, Any]:
        """Of JSON types."""
        error = self.error or (None if self.ended else "its process ended before the check did")
        return {
            "check": self.check,
            "about": self.about,
            "result": self.result,
            **({"error": error} if error else {}),
            "figures": self.figures,
            "criteria": {name: UNTOLD if met is None else met for name, met in self.criteria.items()},
            **self.machine,
            "quick": quick,
            "date": date,
            "seconds": round(seconds, 1),
        }
