"""One call of sbatch, by submitit."""

import io
import math
import sys
import time
from contextlib import redirect_stderr
from dataclasses import asdict
from typing import Any

from launchers.base import Request
from launchers.slurm import queue
from launchers.slurm.environment import outside_of_a_job
from launchers.slurm.script import script_lines
from launchers.slurm.settings import Resources, Settings
from src.grid.errors import ConfigError
from src.grid.job import WARNING, jobs_folder


def submit(request: Request, settings: Settings, patience: float) -> list[str]:
    """Submit one job, or an array; the ids. Raises ConfigError with sbatch's own words."""
    from submitit.core.utils import FailedJobError
    from submitit.slurm.slurm import SlurmExecutor

    resources = request.resources
    assert isinstance(resources, Resources)
    executor = SlurmExecutor(jobs_folder(request.grid), python=settings.python)
    places = {
        **_places(resources, settings),
        "dependency": _dependency(request),
        "gpus_per_node": resources.gpus_per_node or None,
    }
    chosen = {name: value for name, value in places.items() if value is not None}
    options = _options(resources, settings)
    setup = script_lines(request.code, request.grid, request.name if request.tasks > 1 else None)
    executor.update_parameters(
        job_name=request.name,
        nodes=resources.nodes,
        ntasks_per_node=request.tasks // resources.nodes,
        cpus_per_task=resources.cpus_per_task,
        mem=f"{math.ceil(1024 * resources.mem_gb)}M",
        time=resources.minutes,
        array_parallelism=settings.array_parallelism,
        stderr_to_stdout=True,
        wckey=None,
        comment=f"palimpsest {request.grid.name}",
        setup=[*settings.setup, *setup],
        srun_args=["--kill-on-bad-exit=1", f"--cpus-per-task={resources.cpus_per_task}", *settings.srun],
        additional_parameters={name: v for name, v in options.items() if v is not None and v is not False},
        **chosen,
    )
    deadline = time.monotonic() + patience
    while True:
        try:
            # submitit prints what it also raises
            with outside_of_a_job(set(chosen)), redirect_stderr(io.StringIO()):
                return [job.job_id for job in executor.submit_array(request.functions)]
        except FailedJobError as error:
            said = " ".join(line.removeprefix("sbatch: error: ") for line in str(error).splitlines() if line)
            if not queue.AWAY.search(said):
                mendable = asdict(resources) | _places(resources, settings)
                mendable |= {"sbatch": settings.sbatch | resources.sbatch}
                asked = ", ".join(f"{key}={value}" for key, value in mendable.items())
                raise ConfigError(f"sbatch refused {request.name}: {said} (hydra.launcher: {asked})") from None
            if time.monotonic() > deadline:
                raise ConfigError(f"SLURM cannot be asked: {said}") from None
            print(f"SLURM's controller is away, asking again: {said}", file=sys.stderr)
            time.sleep(queue.PAUSE)


def _places(resources: Resources, settings: Settings) -> dict[str, Any]:
    """Where the jobs go."""
    places = {name: getattr(settings, name) for name in ("partition", "account", "qos", "constraint")}
    return places | {"partition": resources.partition or settings.partition}


def _options(resources: Resources, settings: Settings) -> dict[str, Any]:
    """The further options of sbatch. null and false switch one off."""
    lead = min(settings.warning_seconds, 15 * resources.minutes)
    options = {
        "requeue": True,
        "kill-on-invalid-dep": "yes",
        "signal": f"{WARNING.name.removeprefix('SIG')}@{lead}",
        **settings.sbatch,
        **resources.sbatch,
    }
    return options | ({"no-requeue": True} if options["requeue"] is False else {})


def _dependency(request: Request) -> str | None:
    """The option --dependency."""
    waits = {"afterok": request.after_success, "afterany": request.after_end}
    return ",".join(f"{how}:{':'.join(jobs)}" for how, jobs in waits.items() if jobs) or None
