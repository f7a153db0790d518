"""What the units of an artifact are: its file units.json."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Units:
    """Written by every step that leaves units, read by all that use them."""

    frame_rate: float
    """Frames a second."""
    clusters: int
    """Units are numbers from 0 to this one, less 1."""
    repeats: bool
    """A unit stands once for each of its frames, so that runs are durations; false: runs of a unit are one."""

    def write(self, folder: Path) -> None:
        (folder / "units.json").write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Units":
        return cls(**json.loads((folder / "units.json").read_text(encoding="utf-8")))
