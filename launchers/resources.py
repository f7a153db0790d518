"""What the jobs of a scheduler ask for: those settings of hydra.launcher that all schedulers share."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

from launchers.bundles import Bundle
from src.checks import check_setting, require
from src.grid.typed import typed
from src.steps import kinds

REPORT = "report"
"""The name of the report among the steps of a grid."""


@dataclass(frozen=True)
class Resources:
    """What a job of one kind asks for."""

    nodes: int = 1
    gpus_per_node: int = 0
    cpus_per_task: int = 1
    mem_gb: float = 4.0
    """Memory of each node."""
    minutes: int = 60
    """Time limit."""

    def __post_init__(self) -> None:
        for name in ("nodes", "cpus_per_task", "minutes"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.gpus_per_node >= 0, "gpus_per_node", self.gpus_per_node, "at least 0")
        require(self.mem_gb > 0, "mem_gb", self.mem_gb, "greater than 0")

    def joined(self, other: "Resources") -> Self:
        """Enough for both, one after the other."""
        names = [each.name for each in fields(Resources)]
        return replace(self, **{name: max(getattr(self, name), getattr(other, name)) for name in names})


@dataclass
class Settings:
    """hydra.launcher of any scheduler; a scheduler may add to it."""

    gpu: dict[str, Any] = field(default_factory=dict)
    """What plans are checked to fit on: name and memory_gb; jobs are asked for with `gpus_per_node`."""
    resources: dict[str, Any] = field(default_factory=dict)
    pack_minutes: float = 10.0
    checkpoint_minutes: float = 10.0
    snapshot: bool = True
    wait: bool = False

    of_a_job: ClassVar[type[Resources]] = Resources
    """What `resources` is checked against."""

    def __post_init__(self) -> None:
        known = ["default", *kinds(), REPORT]
        for kind, own in self.resources.items():
            require(kind in known, "resources", kind, f"one of {', '.join(known)}")
            require(own is None or isinstance(own, dict), f"resources.{kind}", own, "settings in braces")
        for kind in known:
            self.of_kind(kind)
        for name in ("pack_minutes", "checkpoint_minutes"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")

    def of_kind(self, kind: str) -> Resources:
        """The resources of one kind of step."""
        told = [self.resources.get(name) or {} for name in ("default", kind)]
        own = {key: value for part in told for key, value in part.items() if value is not None}
        return typed(self.of_a_job, own, f"hydra.launcher.resources.{kind}")

    def of(self, bundle: Bundle) -> Resources:
        """Enough for each step of the bundle."""
        first, *others = map(self.of_kind, bundle.kinds)
        for other in others:
            first = first.joined(other)
        section = f"hydra.launcher.resources.{bundle.kinds[0]}"
        if bundle.kinds[0] != "train":
            check_setting(first.nodes == 1, f"{section}.nodes", first.nodes, "1, for there is one task")
            return first
        right = f"a multiple of {section}.nodes={first.nodes}"
        check_setting(bundle.ranks % first.nodes == 0, "train.ranks", bundle.ranks, right)
        tasks = bundle.ranks // first.nodes
        right = f"0 or {tasks}, for train.ranks={bundle.ranks} puts as many on a node"
        check_setting(first.gpus_per_node in (0, tasks), f"{section}.gpus_per_node", first.gpus_per_node, right)
        return first

    @property
    def of_report(self) -> Resources:
        """The resources of the report."""
        own = self.of_kind(REPORT)
        section = f"hydra.launcher.resources.{REPORT}"
        check_setting(own.nodes == 1, f"{section}.nodes", own.nodes, "1, for there is one task")
        return own


def cost(made: Iterable[Bundle], settings: Settings) -> tuple[float, float]:
    """Estimated GPU-hours and core-hours of what the jobs ask for."""
    gpu = core = 0.0
    for bundle in made:
        resources = settings.of(bundle)
        gpu += bundle.seconds * resources.nodes * resources.gpus_per_node / 3600
        core += bundle.seconds * bundle.ranks * resources.cpus_per_task / 3600
    return gpu, core
