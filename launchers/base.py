"""What a grid wants of a scheduler of jobs, in one class.

A scheduler is one folder here, `launchers/NAME/`, and one file `conf/hydra/launcher/NAME.yaml` with `scheduler: NAME`.
The folder's `__init__.py` has a subclass under the name `Scheduler`. The launcher finds it by its name; src.status,
src.logs, src.cancel and src.retry find it by the name that the submission noted.
"""

import importlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from launchers.resources import Resources, Settings
from src.checks import check_setting
from src.grid.place import Place
from src.machine.finding import Finding

DEPENDENCY = "Dependency"
"""The reason of a job that waits for other jobs."""


class SchedulerError(Exception):
    """The scheduler does not answer, or refuses what was asked: one line, in its own words."""


@dataclass(frozen=True)
class Queued:
    """A job as its scheduler knows it."""

    id: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    word: str
    """The scheduler's own word for the state."""
    reason: str = ""
    """Why it waits (DEPENDENCY: for other jobs), or how it ended; "" if the scheduler does not say."""

    @property
    def alive(self) -> bool:
        """Whether it runs or may still run."""
        return self.state in ("waiting", "running")


@dataclass(frozen=True)
class Request:
    """Jobs to be queued, which differ only by what they run."""

    name: str
    functions: Sequence[Callable[[], None]]
    """What each of the jobs calls, once in each of its tasks; can be pickled. src/grid/job.py lists the exit codes."""
    resources: Resources
    tasks: int
    """Tasks of each job, spread evenly over resources.nodes."""
    after_success: Sequence[str]
    """Jobs that have to succeed before; if one does not, these are cancelled."""
    after_end: Sequence[str]
    """Jobs that have to be over before, however they ended."""
    grid: Path
    """The grid's folder."""
    code: Path
    """What has to be on PYTHONPATH of the jobs."""


class Scheduler(ABC):
    """A scheduler of jobs. It holds no state: what was submitted stands in the grid's folder."""

    name: ClassVar[str]
    """Name of its folder in launchers/."""
    title: ClassVar[str]
    """As messages call it."""
    commands: ClassVar[tuple[str, ...]] = ()
    """What has to be on the PATH where jobs are submitted."""
    settings: ClassVar[type[Settings]] = Settings
    """What hydra.launcher is checked against."""
    most: ClassVar[int] = 1
    """Jobs that one Request may have."""

    def lacking(self) -> list[str]:
        """The commands that are not on the PATH."""
        return [command for command in self.commands if shutil.which(command) is None]

    @abstractmethod
    def submit(self, request: Request, settings: Settings, patience: float) -> list[str]:
        """Queue the jobs; the ids in order. `settings` is of the class `self.settings`.

        Raises ConfigError if the scheduler refuses, or is away for more than `patience` seconds.
        """

    @abstractmethod
    def state(self, jobs: Iterable[str], patience: float = 0.0) -> dict[str, Queued]:
        """The jobs that the scheduler still knows, by id. Raises SchedulerError after `patience` seconds without it."""

    def past(self, jobs: Iterable[str]) -> dict[str, Queued]:
        """How jobs ended that state() knows no more, as far as there are records of it."""
        return {}

    @abstractmethod
    def cancel(self, jobs: Iterable[str], patience: float = 0.0) -> None:
        """End the jobs; those that are over already are no error. Raises SchedulerError."""

    @abstractmethod
    def output(self, grid: Path, job: str) -> list[Path]:
        """The files with what the job printed around its steps; those that are not there yet may be left out."""

    @abstractmethod
    def place(self) -> Place | None:
        """Which job, which start of it and which rank this process is; None outside of the scheduler's jobs."""

    def findings(self, launcher: Mapping[str, Any]) -> list[Finding]:
        """What else src.doctor says, where the commands are there. launcher: the composed hydra.launcher."""
        return []


def scheduler_names() -> list[str]:
    """The schedulers that there are."""
    return sorted(file.parent.name for file in Path(__file__).parent.glob("*/__init__.py"))


def scheduler(name: str) -> Scheduler:
    """The scheduler in launchers/`name`. Raises ConfigError if there is none."""
    known = scheduler_names()
    check_setting(name in known, "hydra.launcher.scheduler", name, f"one of {', '.join(known)}")
    made: Scheduler = importlib.import_module(f"launchers.{name}").Scheduler()
    return made
