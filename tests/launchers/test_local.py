"""The local launcher on toy steps: order, failures, interruptions at any moment, several processes at once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from src.grid.lease import started

ROOT = Path(__file__).resolve().parents[2]


def spec_of(*steps: tuple) -> list:
    return [[*step, *({}, {}, 1)[len(step) - 2 :]] for step in steps]


class Driver:
    """Starts drivers on one outputs folder, and stops those that a test leaves behind."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, spec: list) -> subprocess.Popen[str]:
        file = self.root / f"spec-{len(self.processes)}.json"
        file.write_text(json.dumps(spec))
        command = [sys.executable, "-m", "tests.launchers.driver", str(self.root), str(file)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self.processes.append(process)
        return process

    def run(self, spec: list) -> tuple[int, str]:
        process = self.start(spec)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def numbers(self) -> dict[str, str]:
        return {file.parent.name[:-9]: file.read_text().strip() for file in self.root.glob("store/*/number.txt")}

    def runs(self) -> list[tuple[str, int]]:
        lines = (self.root / "counter").read_text().split("\n")[:-1]
        return [(line.split()[0], int(line.split()[1])) for line in lines]

    def counted(self) -> list[str]:
        return sorted(label for label, _ in self.runs())


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    made = Driver(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def diamond(counter: Path, **config: dict[str, Any]) -> list:
    """a; b and c from a; d from b and c. `config`: more settings of a step."""
    base = {label: {"counter": str(counter), **config.get(label, {})} for label in "abcd"}
    return spec_of(
        ("a", 1, {}, base["a"]),
        ("b", 10, {"a": "a"}, base["b"]),
        ("c", 100, {"a": "a"}, base["c"]),
        ("d", 1000, {"b": "b", "c": "c"}, base["d"]),
    )


def test_runs_each_step_once_and_nothing_the_second_time(driver: Driver) -> None:
    spec = diamond(driver.root / "counter")
    code, output = driver.run(spec)
    assert code == 0, output
    assert driver.numbers() == {"a": "1", "b": "11", "c": "101", "d": "1112"}
    assert driver.counted() == ["a", "b", "c", "d"]
    assert 'table {"d": {"number": 1112}}' in output
    assert "[4/4] done      d-" in output
    assert os.readlink(driver.root / "latest") == "grids/toy"
    assert list((driver.root / "store" / ".work").iterdir()) == []

    code, output = driver.run(spec)
    assert code == 0 and "0 to compute" in output and 'table {"d": {"number": 1112}}' in output
    assert driver.counted() == ["a", "b", "c", "d"]


def test_independent_steps_run_side_by_side(driver: Driver) -> None:
    """Each of two steps waits for a file that the other's start creates: alone, neither would end."""
    first, second = driver.root / "first", driver.root / "second"
    spec = spec_of(
        ("a", 1, {}, {"counter": str(first), "gate": str(second)}),
        ("b", 2, {}, {"counter": str(second), "gate": str(first), "light": True}),
    )
    code, output = driver.run(spec)
    assert code == 0, output


def test_a_failure_stops_what_depends_on_it_and_nothing_else(driver: Driver) -> None:
    counter = driver.root / "counter"
    spec = [*diamond(counter, b={"fail": True}), *spec_of(("e", 5, {"c": "c"}, {"counter": str(counter)}))]
    code, output = driver.run(spec)
    assert code == 1
    assert driver.numbers() == {"a": "1", "c": "101", "e": "106"}
    assert "ValueError: b was told to fail" in output
    assert "not run   1 step(s) that need b-" in output
    assert "not run, because of that: d\n" in output
    (file,) = (driver.root / "grids" / "toy" / "failures").iterdir()
    assert str(file) in output
    assert "Traceback (most recent call last)" in file.read_text()
    assert 'table {"e": {"number": 106}}' in output

    # nothing holds the step afterwards: it is tried again, at once, and only it
    code, output = driver.run(spec)
    assert code == 1 and driver.counted() == ["a", "b", "b", "c", "e"]


def test_a_worker_killed_from_outside_is_a_failure_with_its_signal(driver: Driver) -> None:
    code, output = driver.run(diamond(driver.root / "counter", c={"signal": int(signal.SIGKILL)}))
    assert code == 1
    assert "its process was killed by signal 9 (SIGKILL)" in output
    assert driver.numbers() == {"a": "1", "b": "11"}


def test_kill_9_of_the_driver_ends_the_workers_and_the_next_run_goes_on(driver: Driver) -> None:
    counter, gate = driver.root / "counter", driver.root / "gate"
    spec = diamond(counter, b={"gate": str(gate)}, c={"gate": str(gate)})
    process = driver.start(spec)
    until(lambda: counter.exists() and driver.counted() == ["a", "b", "c"])
    process.kill()
    process.wait()
    until(lambda: all(started(pid) is None for _, pid in driver.runs()))
    assert driver.numbers() == {"a": "1"}

    gate.touch()
    code, output = driver.run(spec)
    assert code == 0, output
    assert driver.counted() == ["a", "b", "b", "c", "c", "d"]
    assert driver.numbers()["d"] == "1112"


def test_ctrl_c_says_what_is_complete_and_exits_130(driver: Driver) -> None:
    counter, gate = driver.root / "counter", driver.root / "gate"
    spec = diamond(counter, b={"gate": str(gate)}, c={"gate": str(gate)})
    process = driver.start(spec)
    until(lambda: counter.exists() and driver.counted() == ["a", "b", "c"])
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "1 of 4 steps are complete" in output
    assert "Traceback" not in output
    assert all(started(pid) is None for _, pid in driver.runs())
    leases = [json.loads(file.read_text()) for file in driver.root.glob("store/.work/*/lease.*")]
    assert leases == [{"released": True}, {"released": True}]

    gate.touch()
    code, output = driver.run(spec)
    assert code == 0 and driver.numbers()["d"] == "1112"


def test_two_drivers_share_the_steps(driver: Driver) -> None:
    counter = driver.root / "counter"
    slow = {label: {"sleep": 0.5} for label in "abc"}
    processes = [driver.start(diamond(counter, **slow)) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert driver.counted() == ["a", "b", "c", "d"]


def test_ranks_are_started_together(driver: Driver) -> None:
    code, output = driver.run(spec_of(("r", 1, {}, {}, 2)))
    assert code == 0, output
    (file,) = driver.root.glob("store/*/said.txt")
    first, second = file.read_text().split("\n")
    assert first.startswith("0 of 2 at ") and second.startswith("1 of 2 at ")
    assert first.split()[-1] == second.split()[-1]


def test_a_rank_that_fails_takes_the_step_down(driver: Driver) -> None:
    code, output = driver.run(spec_of(("r", 1, {}, {"fail": 1}, 2)))
    assert code == 1
    assert "rank 1 was told to fail" in output


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_ranks_end_with_the_driver(driver: Driver, sent: signal.Signals) -> None:
    counter = driver.root / "counter"
    process = driver.start(spec_of(("r", 1, {}, {"counter": str(counter)}, 2)))
    until(lambda: counter.exists() and driver.counted() == ["0", "1"])
    assert all(started(pid) for _, pid in driver.runs())
    process.send_signal(sent)
    process.wait(30)
    until(lambda: all(started(pid) is None for _, pid in driver.runs()))


def test_a_rank_killed_from_outside_takes_the_step_down(driver: Driver) -> None:
    counter = driver.root / "counter"
    process = driver.start(spec_of(("r", 1, {}, {"counter": str(counter)}, 2)))
    until(lambda: counter.exists() and driver.counted() == ["0", "1"])
    os.kill(dict(driver.runs())["1"], signal.SIGKILL)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "rank 1 was killed by signal 9 (SIGKILL)" in output
    assert all(started(pid) is None for _, pid in driver.runs())
