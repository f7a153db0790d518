"""The variables of SLURM's jobs, and what they say."""

import os

import pytest

from launchers.slurm.environment import place
from src.grid.place import Place


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "77"}, Place("slurm", "77")),
        ({"SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": "3"}, Place("slurm", "77", restart=3)),
        (
            {"SLURM_JOB_ID": "79", "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "2"},
            Place("slurm", "77_2"),
        ),
        (
            {"SLURM_JOB_ID": "77", "SLURM_PROCID": "7", "SLURM_NTASKS": "8", "SLURM_LOCALID": "3"},
            Place("slurm", "77", rank=7, size=8, local_rank=3),
        ),
    ],
)
def test_a_task_knows_its_place(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], told: Place | None
) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert place() == told
