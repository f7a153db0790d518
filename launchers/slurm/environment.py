"""The variables that SLURM sets in its jobs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from src.grid.place import Place


def place() -> Place | None:
    """The job as squeue shows it, `12` or `12_3` for an element of an array, and this task of it; None outside."""
    env = os.environ
    job = env.get("SLURM_JOB_ID")
    if "SLURM_ARRAY_JOB_ID" in env:
        job = f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    if job is None:
        return None
    return Place(
        scheduler="slurm",
        job=job,
        restart=int(env.get("SLURM_RESTART_COUNT", "0")),
        rank=int(env.get("SLURM_PROCID", "0")),
        size=int(env.get("SLURM_NTASKS", "1")),
        local_rank=int(env.get("SLURM_LOCALID", "0")),
    )


@contextmanager
def outside_of_a_job(chosen: set[str]) -> Iterator[None]:
    """Without the variables of the allocation that this process may run in, and without those that go before an option
    of the script; SBATCH_ACCOUNT and its like stay as defaults where nothing is `chosen`."""
    kept = {"SLURM_CONF", "SLURM_JWT", "SLURM_CLUSTERS"}
    kept |= {f"SBATCH_{name.upper()}" for name in ("partition", "account", "qos", "constraint") if name not in chosen}
    inherited = {k: v for k, v in os.environ.items() if k.startswith(("SLURM_", "SRUN_", "SBATCH_")) and k not in kept}
    for name in inherited:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(inherited)
