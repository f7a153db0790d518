"""What SLURM's commands say, and what is made of it."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from launchers.base import Queued, SchedulerError
from launchers.slurm import queue as module
from launchers.slurm.queue import AWAY, accounted, ask, cancel, queue
from tests.launchers.fakes.slurm import Slurm


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    monkeypatch.setattr(module, "PAUSE", 0.01)
    with Slurm(tmp_path / "slurm", monkeypatch) as made:
        made.put("RUNNING", "12")
        made.put("PENDING", "13_0", reason="(Resources|Priority)")
        made.put("COMPLETED", "13_1")
        made.put("TIMEOUT", "15", reason="TimeLimit")
        yield made


def test_the_queue_has_what_was_asked_for_and_nothing_else(slurm: Slurm) -> None:
    assert queue(["12", "13_0"]) == {
        "12": Queued("12", "running", "RUNNING"),
        "13_0": Queued("13_0", "waiting", "PENDING", "(Resources|Priority)"),
    }
    assert [job.alive for job in queue(["12", "13_0", "13_1", "15"]).values()] == [True, True, False, False]
    (_, call) = slurm.calls("squeue")
    assert call[call.index("-j") + 1] == "12,13,15", "an array is asked for once"


def test_nothing_is_asked_about_no_jobs(slurm: Slurm) -> None:
    assert queue([]) == accounted([]) == {}
    cancel([])
    assert not any(slurm.calls(name) for name in ("squeue", "sacct", "scancel"))


def test_a_job_that_slurm_has_forgotten_is_no_error(slurm: Slurm) -> None:
    assert queue(["99"]) == {}
    assert queue(["12", "99"]).keys() == {"12"}


def test_other_faults_of_squeue_are_raised(slurm: Slurm) -> None:
    (slurm.bin / "squeue").write_text("#!/bin/sh\necho 'squeue: error: Invalid user: 12' >&2\nexit 1\n")
    with pytest.raises(SchedulerError, match="squeue failed: squeue: error: Invalid user"):
        queue(["12"])


def test_a_controller_that_is_away_is_asked_again_for_a_while(slurm: Slurm) -> None:
    slurm.away["squeue"] = 3
    assert queue(["12"], patience=60)["12"].state == "running"
    assert len(slurm.calls("squeue")) == 4


def test_in_the_end_it_is_unreachable_in_its_own_words(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm.away["squeue"] = 1000
    with pytest.raises(SchedulerError, match="Unable to contact slurm controller"):
        queue(["12"])
    assert len(slurm.calls("squeue")) == 1, "without patience it is asked once"
    seconds = count()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(seconds), sleep=lambda _: None))
    with pytest.raises(SchedulerError):
        queue(["12"], patience=5)
    assert len(slurm.calls("squeue")) == 1 + 5


def test_a_command_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SchedulerError, match="there is no squeue on the PATH"):
        ask("squeue")


@pytest.mark.parametrize(
    "said",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "squeue: error: slurm_receive_msg: Zero Bytes were transmitted or received",
        "sacct: error: slurm_persist_conn_open: failed to open persistent connection: Connection refused",
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure): slurmctld is in standby mode",
    ],
)
def test_words_of_a_controller_that_is_away(said: str) -> None:
    assert AWAY.search(said)


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: Batch job submission failed: Invalid partition name specified",
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
        "accounting/QOS policy (job submit limit, user's size and/or time limits)",
        "sbatch: error: Batch job submission failed: Requested node configuration is not available",
        "slurm_load_jobs error: Invalid job id specified",
    ],
)
def test_words_of_a_controller_that_answers(said: str) -> None:
    assert not AWAY.search(said)


def test_accounting_tells_how_jobs_ended(slurm: Slurm) -> None:
    slurm.accounted = {
        "12": ("FAILED", "1:0"), "13_0": ("CANCELLED by 1000", "0:15"), "13_1": ("COMPLETED", "0:0"),
        "13_[2-3%2]": ("PENDING", "0:0"),
    }  # fmt: skip
    told = accounted(["12", "13_0"])
    assert told == {
        "12": Queued("12", "failed", "FAILED", "exit code 1"),
        "13_0": Queued("13_0", "cancelled", "CANCELLED", "CANCELLED by 1000"),
    }


def test_accounting_names_the_signal_that_ended_a_job(slurm: Slurm) -> None:
    slurm.accounted = {"12": ("FAILED", "0:9")}
    assert "signal 9" in accounted(["12"])["12"].reason


def test_without_accounting_nothing_is_known(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm.accounted = None
    assert accounted(["12"]) == {}
    monkeypatch.setenv("PATH", os.devnull)
    assert accounted(["12"]) == {}


def test_cancelling_what_is_over_is_no_error(slurm: Slurm) -> None:
    cancel(["15", "13_0", "99"])
    assert slurm.jobs == {"12": "RUNNING", "13_0": "CANCELLED", "13_1": "COMPLETED", "15": "TIMEOUT"}
