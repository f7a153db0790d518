"""Leases: one holder at a time, whatever dies."""

import json
import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from src.grid import lease
from src.grid.execute import execute
from src.grid.store import Store
from tests.grid.toys import toy

SPAWN = multiprocessing.get_context("spawn")


def never() -> bool:
    return False


def hold(work: Path, ready: Event) -> None:
    held = lease.acquire(work, never)
    assert held
    ready.set()
    time.sleep(60)


def holding(work: Path) -> SpawnProcess:
    """A process that holds the lease of `work`."""
    ready = SPAWN.Event()
    process = SPAWN.Process(target=hold, args=(work, ready), daemon=True)
    process.start()
    assert ready.wait(30)
    return process


def forged(work: Path, **record: object) -> Path:
    """A lease that some other process wrote."""
    work.mkdir(parents=True, exist_ok=True)
    file = work / "lease.1"
    file.write_text(json.dumps({"host": "elsewhere", "pid": 1, "start": "x", "attempt": 1, **record}))
    return file


def test_a_released_lease_is_free_and_attempts_are_counted(tmp_path: Path) -> None:
    for attempt in (1, 2, 3):
        with lease.acquire(tmp_path / "work", never) as held:  # type: ignore[union-attr]
            assert held.attempt == attempt
            assert lease.holder(tmp_path / "work")["pid"] == os.getpid()  # type: ignore[index]
        assert lease.holder(tmp_path / "work") is None
        assert [file.name for file in (tmp_path / "work").iterdir()] == [f"lease.{attempt}"]


def test_a_live_holder_is_waited_for_and_a_dead_one_replaced_at_once(tmp_path: Path) -> None:
    process = holding(tmp_path / "work")
    began = time.monotonic()
    taken: list[float] = []

    def take() -> None:
        held = lease.acquire(tmp_path / "work", never)
        assert held and held.attempt == 2
        taken.append(time.monotonic() - began)
        held.release()

    thread = threading.Thread(target=take)
    thread.start()
    time.sleep(1.5)
    assert not taken
    process.kill()
    thread.join(10)
    assert 1.5 <= taken[0] < 5


def test_waiting_ends_when_the_artifact_appears(tmp_path: Path) -> None:
    process = holding(tmp_path / "work")
    looks = iter([False, False, True])
    assert lease.acquire(tmp_path / "work", lambda: next(looks)) is None
    process.kill()


def test_a_pid_that_was_given_to_another_process_holds_nothing(tmp_path: Path) -> None:
    forged(tmp_path, host=lease.this_host(), pid=os.getpid(), start="some other time")
    held = lease.acquire(tmp_path, never)
    assert held and held.attempt == 2
    held.release()


def test_another_host_is_stale_only_when_its_heart_stops(tmp_path: Path) -> None:
    file = forged(tmp_path)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.1):
            os.utime(file)

    thread = threading.Thread(target=beat)
    thread.start()
    began = time.monotonic()
    done = threading.Timer(2.0, stop.set)
    done.start()
    held = lease.acquire(tmp_path, never, limit=1.0)
    assert held and held.attempt == 2
    assert time.monotonic() - began >= 3.0 - 0.2
    held.release()
    thread.join()


def test_heartbeat_moves_the_time_and_a_lost_lease_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT", 0.05)
    held = lease.acquire(tmp_path, never)
    assert held
    os.utime(held.path, (0, 0))
    deadline = time.monotonic() + 5
    while held.path.stat().st_mtime == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert held.held()
    (tmp_path / "lease.2").write_text("{}")
    assert not held.held()
    held.release()
    assert (tmp_path / "lease.2").read_text() == "{}", "what another process holds is not released"


def contend(work: Path, log: Path, times: int) -> None:
    for _ in range(times):
        held = lease.acquire(work, never)
        assert held
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL)  # fails if another process is in here
        time.sleep(0.001)
        os.close(descriptor)
        log.unlink()
        if held.attempt % 7 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        held.release()


def test_many_processes_that_die_never_hold_it_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(lease, "POLL", 0.001)
    processes = [fork.Process(target=contend, args=(tmp_path / "work", tmp_path / "inside", 20)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    codes = [process.exitcode for process in processes]
    assert set(codes) <= {0, -signal.SIGKILL} and -signal.SIGKILL in codes, codes
    newest = max(int(file.suffix[1:]) for file in (tmp_path / "work").glob("lease.*"))
    assert newest > 20


def compute(root: Path, start: Event | None, **config: Any) -> None:
    if start:
        start.wait()
    execute(toy("a", 3, **config), Store(root))


def test_processes_that_race_for_a_step_compute_it_once(tmp_path: Path) -> None:
    start = SPAWN.Event()
    config = {"counter": str(tmp_path / "counter"), "sleep": 0.3}
    processes = [SPAWN.Process(target=compute, args=(tmp_path, start), kwargs=config) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len((tmp_path / "counter").read_text().splitlines()) == 1
    (folder,) = tmp_path.glob("a-*")
    assert (folder / "number.txt").read_text() == "3\n"


def test_a_step_killed_in_the_middle_is_taken_over(tmp_path: Path) -> None:
    counter, gate = tmp_path / "counter", tmp_path / "gate"
    config: dict[str, Any] = {"counter": str(counter), "gate": str(gate)}
    step = toy("a", 3, **config)
    process = SPAWN.Process(target=compute, args=(tmp_path, None), kwargs=config)
    process.start()
    deadline = time.monotonic() + 30
    while not counter.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.join()
    scratch = tmp_path / ".work" / step.name / "checkpoint"
    scratch.write_text("kept")
    gate.touch()

    folder = execute(step, Store(tmp_path))
    assert (folder / "number.txt").read_text() == "3\n"
    assert not scratch.exists() and not scratch.parent.exists()
    assert len(counter.read_text().splitlines()) == 2
