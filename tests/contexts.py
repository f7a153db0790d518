"""The context of a step body, for tests that look at what is reported."""

from pathlib import Path
from typing import Any

from src.grid.context import Context


class Recorded(Context):
    """A real one that remembers its reports."""

    def __init__(self, work: Path, attempt: int = 1) -> None:
        work.mkdir(parents=True, exist_ok=True)
        super().__init__(work, "test", attempt=attempt)
        self.reports: list[dict[str, Any]] = []

    def report(self, **numbers: float | str) -> None:
        """Keep them all."""
        self.reports.append(numbers)
