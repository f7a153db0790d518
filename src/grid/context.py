"""What a body knows of its surroundings: scratch space that outlives a killed attempt, and where to tell progress."""

import json
import os
import time
from pathlib import Path
from typing import Any


class Context:
    """Handed to a body as its last argument."""

    def __init__(self, work: Path, label: str, silent: bool = False) -> None:
        """`silent` (ranks other than 0): report() writes nothing."""
        self.work = work
        """Scratch folder. It survives a killed or failed attempt (put checkpoints here); publishing removes it."""
        self.label = label
        self._silent = silent
        self._numbers: dict[str, Any] = {}
        self._written = 0.0

    def report(self, **numbers: float | str) -> None:
        """Tell how far the step is: `done` of `total`, `loss`, `tokens_per_second` ... Cheap: call it often.

        Values are kept between calls, and written to `<work>/progress.json` at most four times a second.
        """
        self._numbers.update(numbers)
        now = time.monotonic()
        if self._silent or now - self._written < 0.25:
            return
        self._written = now
        target = progress_file(self.work)
        temporary = target.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._numbers, ensure_ascii=False), encoding="utf-8")
        os.replace(temporary, target)


def progress_file(work: Path) -> Path:
    """Where Context.report writes."""
    return work / "progress.json"


def read_progress(work: Path) -> dict[str, Any]:
    """The last reported numbers, empty if there are none."""
    try:
        numbers: dict[str, Any] = json.loads(progress_file(work).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return numbers
