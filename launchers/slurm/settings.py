"""The settings of conf/hydra/launcher/slurm.yaml."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from launchers import resources
from src.checks import require


@dataclass(frozen=True)
class Resources(resources.Resources):
    """What a job of one kind asks for."""

    partition: str | None = None
    """Instead of the one of all jobs."""
    sbatch: dict[str, Any] = field(default_factory=dict)
    """Further options of sbatch, on top of those of all jobs."""

    def joined(self, other: "resources.Resources") -> "Resources":
        """Enough for both, one after the other, where the one with more GPUs goes."""
        assert isinstance(other, Resources)
        partition = max((self, other), key=lambda one: one.gpus_per_node).partition
        return replace(super().joined(other), partition=partition, sbatch=self.sbatch | other.sbatch)


@dataclass
class Settings(resources.Settings):
    """conf/hydra/launcher/slurm.yaml"""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    sbatch: dict[str, Any] = field(default_factory=dict)
    setup: list[str] = field(default_factory=list)
    srun: list[str] = field(default_factory=list)
    python: str | None = None
    array_parallelism: int = 256
    warning_seconds: int = 120

    of_a_job: ClassVar[type[resources.Resources]] = Resources

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("array_parallelism", "warning_seconds"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
