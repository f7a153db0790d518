"""SLURM as a scheduler of jobs. What fails cancels the jobs that wait for it with `afterok`."""

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from launchers import base, resources
from launchers.base import Queued, Request
from launchers.slurm import environment, queue, submit
from launchers.slurm.settings import Settings
from src.grid.job import jobs_folder
from src.grid.place import Place
from src.machine.finding import Finding, no, ok, unknown


class Slurm(base.Scheduler):
    """`hydra/launcher=slurm`"""

    name = "slurm"
    title = "SLURM"
    commands = ("sbatch", "srun", "squeue", "scontrol", "scancel")
    settings = Settings
    most = 1000  # SLURM's default MaxArraySize is 1001

    def submit(self, request: Request, settings: resources.Settings, patience: float) -> list[str]:
        """One job, or an array, by submitit."""
        assert isinstance(settings, Settings)
        return submit.submit(request, settings, patience)

    def state(self, jobs: Iterable[str], patience: float = 0.0) -> dict[str, Queued]:
        """What squeue says; jobs that ended a short while ago are among them."""
        return queue.queue(jobs, patience)

    def past(self, jobs: Iterable[str]) -> dict[str, Queued]:
        """What sacct says, where there is accounting."""
        return queue.accounted(jobs)

    def cancel(self, jobs: Iterable[str], patience: float = 0.0) -> None:
        """By scancel."""
        queue.cancel(jobs, patience)

    def output(self, grid: Path, job: str) -> list[Path]:
        """The files that submitit names."""
        return sorted(jobs_folder(grid).glob(f"{job}_*log.out"))

    def place(self) -> Place | None:
        """From SLURM's variables."""
        return environment.place()

    def findings(self, launcher: Mapping[str, Any]) -> list[Finding]:
        """Whether the partitions are there."""
        asked = {launcher.get("partition")} | {(own or {}).get("partition") for own in launcher["resources"].values()}
        try:
            command = ["sinfo", "--noheader", "--format=%R"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            return [unknown("the partitions: sinfo does not answer", "try `sinfo -s`")]
        known = set(done.stdout.split())
        wrong = sorted(name for name in asked if name and not set(name.split(",")) & known)
        if wrong:
            remedy = f"set hydra.launcher.partition to one of {', '.join(sorted(known))}"
            return [no(f"partition {', '.join(wrong)}", remedy)]
        return [ok("partitions: " + (", ".join(sorted(name for name in asked if name)) or "the default one"))]
