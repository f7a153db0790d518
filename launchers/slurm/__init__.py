"""SLURM: `hydra/launcher=slurm`."""

from launchers.slurm.scheduler import Slurm as Scheduler

__all__ = ["Scheduler"]
