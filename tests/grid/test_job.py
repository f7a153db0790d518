"""What a scheduler's job runs: exit codes, signals, ranks, restarts. The jobs are processes with a job's place."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from src.grid import lease
from src.grid.context import STOPPED
from src.grid.execute import failure_file
from src.grid.job import REQUEUE, WARNING, Job, attempts_file, read_attempts, stuck
from src.grid.place import VARIABLE, Place, here
from src.grid.plan import make_plan
from src.grid.ranks import Task
from src.grid.step import Step
from src.grid.store import Store
from tests.conftest import ROOT
from tests.grid.toys import Ranks, toy, toy_row

TASK = "import pickle, sys; import tests.grid.toys; pickle.load(open(sys.argv[1], 'rb'))()"


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


class Node:
    """Starts the tasks of a job, and kills those that a test leaves behind."""

    def __init__(self, root: Path) -> None:
        self.root, self.store, self.grid = root, Store(root / "store"), root / "grids" / "toys"
        self.tasks: list[subprocess.Popen[str]] = []
        self.grid.mkdir(parents=True)

    def start(self, *steps: Step, job: str = "77", restart: int = 0, rank: int = 0, size: int = 1) -> Any:
        """One task of a job that computes the steps."""
        plan = make_plan([toy_row(step.label, step) for step in steps], self.store)
        frozen = self.grid / f"plan-{len(self.tasks)}.json"
        plan.save(frozen)
        names = tuple(name for name in plan.entries if name in {step.name for step in steps})
        file = self.root / f"job-{len(self.tasks)}.pkl"
        file.write_bytes(pickle.dumps(Job(frozen, self.store.root, self.grid, names, 60.0, here)))
        place = json.dumps(asdict(Place("toy", job, restart, rank, size, local_rank=rank)))
        task = subprocess.Popen(
            [sys.executable, "-c", TASK, str(file)], cwd=ROOT, env=os.environ | {VARIABLE: place}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.tasks.append(task)
        return task

    def run(self, *steps: Step, **settings: Any) -> tuple[int, str]:
        printed, _ = self.start(*steps, **settings).communicate(timeout=240)
        return self.tasks[-1].returncode, printed

    def done(self, *steps: Step) -> list[bool]:
        return [self.store.lookup(step) is not None for step in steps]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    for task in made.tasks:
        task.kill()
        task.communicate()


def ends(node: Node, job: str = "77") -> list[str]:
    return [note["end"] for note in read_attempts(node.grid, job) if "end" in note]


def test_the_steps_of_a_job_are_run_in_order_and_a_failure_costs_what_needs_it(node: Node) -> None:
    """b fails; c needs it; d does not."""
    a = toy("a")
    b = toy("b", 10, {"a": a}, fail=True)
    c, d = toy("c", 100, {"b": b}), toy("d", 1000, {"a": a})
    code, printed = node.run(a, b, c, d)
    assert code == 1, printed
    assert node.done(a, b, c, d) == [True, False, False, True]
    assert f"{c.name} is not run: it needs {b.name}" in printed
    assert "ValueError: b was told to fail" in failure_file(node.grid, b.name).read_text()
    assert not failure_file(node.grid, c.name).exists()
    assert [note["reached"] for note in read_attempts(node.grid, "77")] == [[0, 0]]

    mended = toy("b", 10, {"a": a})
    code, printed = node.run(a, mended, job="78")
    assert code == 0, printed
    assert node.done(mended) == [True]
    assert [note["reached"] for note in read_attempts(node.grid, "78")] == [[1, 0]], "a was there"


@pytest.mark.parametrize(("sent", "code"), [(WARNING, REQUEUE), (signal.SIGTERM, STOPPED)])
def test_a_signal_ends_the_step_and_the_next_start_goes_on(node: Node, sent: signal.Signals, code: int) -> None:
    gate, counter = node.root / "gate", node.root / "counter"
    step, after = toy("a", gate=str(gate), counter=str(counter)), toy("b")
    task = node.start(step, after)
    until(counter.exists)
    os.killpg(task.pid, sent)  # a scheduler may signal every process of a job
    printed, _ = task.communicate(timeout=240)
    assert task.returncode == code, printed
    assert ends(node) == [f"stopped by {sent.name}"]
    assert node.done(step, after) == [False, False], "nothing else is begun"
    assert not failure_file(node.grid, step.name).exists()
    if sent == signal.SIGTERM:
        return
    (held,) = node.store.work(step).glob("lease.*")
    assert json.loads(held.read_text()) == {"released": True}

    gate.touch()
    assert node.run(step, after, restart=1)[0] == 0
    assert node.done(step, after) == [True, True]
    assert [note["restart"] for note in read_attempts(node.grid, "77") if "reached" in note] == [0, 1]


def test_a_process_that_is_killed_is_no_failure_of_the_step(node: Node) -> None:
    step = toy("a", signal=int(signal.SIGKILL))
    code, printed = node.run(step)
    assert code == 128 + signal.SIGKILL, printed
    assert not failure_file(node.grid, step.name).exists()
    assert ends(node) == [f"rank 0 on {os.uname().nodename} was killed by signal 9 (SIGKILL)"]


def test_a_job_that_does_not_get_on_fails_and_says_so(node: Node) -> None:
    step = toy("a")
    for restart in (0, 1):
        end: dict[str, Any] = {"end": "stopped by SIGUSR2", "own": True}
        notes: list[dict[str, Any]] = [{"restart": restart, "reached": [0, 0]}, end]
        file = attempts_file(node.grid, "77", 0)
        file.parent.mkdir(exist_ok=True)
        with file.open("a") as stream:
            stream.writelines(json.dumps({"at": restart, **note}) + "\n" for note in notes)
    code, printed = node.run(step, restart=2)
    assert code == 1, printed
    said = failure_file(node.grid, step.name).read_text()
    assert said.startswith(f"{step.name}: no progress between two requeues") and "\n" not in said.strip()
    assert "resources" in said and "checkpoint_minutes" in said and "stopped by SIGUSR2" in said


@pytest.mark.parametrize(
    ("reached", "own", "fails"),
    [
        ([], True, False),
        ([[0, 0]], True, False),
        ([[0, 0], [0, 0]], True, False),
        ([[0, 0], [0, 0], [0, 0]], True, True),
        ([[0, 0], [0, 100], [0, 100]], True, False),
        ([[0, 0], [0, 100], [0, 100], [0, 100]], True, True),
        ([[0, 0], [0, 0], [0, 100]], True, False),
        ([[0, 0], [0, 100], [1, 0]], True, False),
        ([[0, 0], [0, 100], [0, 200], [0, 300]], True, False),
        ([[0, 0]] * 5, False, False),
        ([[0, 0]] * 6, False, True),
    ],
)
def test_stuck(reached: Sequence[list[int]], own: bool, fails: bool) -> None:
    """What others put back (preemption, a dead node) is given more tries than what ends by itself."""
    notes: list[dict[str, Any]] = []
    for point in reached:
        notes += [{"reached": point}, {"end": f"at {point}", "own": own}]
    if notes:
        notes.pop()  # the last start has not ended
    assert bool(stuck(notes)) == fails
    assert not fails or f"at {reached[-1]}" in str(stuck(notes))


def test_a_note_that_was_not_written_to_its_end_does_not_count(tmp_path: Path) -> None:
    """A process may be killed while it writes."""
    file = attempts_file(tmp_path, "77", 0)
    file.parent.mkdir(parents=True)
    lines = ['{"at": 1, "reached": [0, 0]}', '{"at": 2, "end": "st{"at": 3}', '{"at": 4, "reached": [0, 5]}', '{"at"']
    file.write_text("\n".join(lines))
    assert [note["reached"] for note in read_attempts(tmp_path, "77")] == [[0, 0], [0, 5]]


# Several tasks


def test_two_tasks_compute_a_step_together(node: Node) -> None:
    step = Ranks(named="r", options={"processes": 2})
    tasks = [node.start(step, rank=rank, size=2) for rank in (1, 0)]
    printed = [task.communicate(timeout=240)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], printed
    said = (node.store.folder(step) / "said.txt").read_text().split("\n")
    assert [line.split(" at ")[0] for line in said] == ["0 of 2", "1 of 2"]
    assert len({line.split(" at ")[1] for line in said}) == 1, "they meet at one port"


def test_tasks_end_together(node: Node) -> None:
    """Both in one go: of one job a rank fails, and the tasks of the other are told to stop."""
    counter = node.root / "counter"
    failing = Ranks(named="f", options={"fail": 1, "processes": 2})
    waiting = Ranks(named="w", options={"counter": str(counter), "processes": 2})
    one = [node.start(failing, rank=rank, size=2) for rank in (0, 1)]
    other = [node.start(waiting, rank=rank, size=2, job="78") for rank in (0, 1)]

    assert one[1].wait(30) == 1
    until(failure_file(node.grid, failing.name).exists)
    one[0].terminate()  # as srun does with --kill-on-bad-exit
    assert one[0].wait(30) == STOPPED
    said = failure_file(node.grid, failing.name).read_text()
    assert said.startswith(f"rank 1 on {os.uname().nodename}\n") and "rank 1 was told to fail" in said

    until(lambda: counter.exists() and len(counter.read_text().splitlines()) == 2)
    for task in other:
        os.killpg(task.pid, WARNING)
    assert [task.wait(30) for task in other] == [REQUEUE, 0], "rank 0 alone says what follows"


def test_a_task_that_does_not_see_the_artifact_yet_ends_with_rank_0(node: Node) -> None:
    """A shared file system may show rank 0 a step that another grid completed, and hide it from another node."""
    step = Ranks(named="r", options={"processes": 2})
    late = node.start(step, rank=1, size=2)
    until(lambda: (node.grid / "logs" / f"{step.name}.log").exists())
    out = node.root / "out"
    out.mkdir()
    node.store.root.mkdir()
    node.store.publish(step, out, {}, 0.0)
    assert node.run(step, rank=0, size=2)[0] == 0
    assert (node.grid / "jobs" / "meeting-77-0.json").exists()
    assert late.wait(30) == 0


@pytest.mark.parametrize(
    ("visible", "local_rank"), [(None, 3), ("0,1,2,3", 3), ("2", 0), ("GPU-1e9e5b1a", 0)], ids=str
)  # fmt: skip
def test_a_task_knows_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, local_rank: int
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    task = Task.at(Place("toy", "77", rank=7, size=8, local_rank=3), tmp_path)
    assert (task.rank, task.size, task.local_rank) == (7, 8, local_rank)


def test_every_start_of_a_job_meets_at_a_place_of_its_own(tmp_path: Path) -> None:
    places = [Place("toy", "77"), Place("toy", "77", restart=1), Place("toy", "77_2"), Place("toy", "77_0")]
    assert len({Task.at(place, tmp_path).meeting for place in places}) == 4


def test_a_place_is_handed_down_to_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert here() is None
    place = Place("toy", "77_2", 1, 3, 4, 1)
    monkeypatch.setenv(VARIABLE, "")  # restored afterwards
    place.enter()
    question = "from src.grid.place import here; print(here())"
    told = subprocess.run([sys.executable, "-c", question], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(place) and here() == place


# Leases of a job that was started again


@pytest.mark.parametrize(
    ("holder", "own", "free"),
    [
        ({"job": "77", "restart": 0}, Place("toy", "77", 1), True),
        ({"job": "77", "restart": 1}, Place("toy", "77", 1), False),
        ({"job": "77", "restart": 2}, Place("toy", "77", 1), False),
        ({"job": "76", "restart": 0}, Place("toy", "77", 1), False),
        ({"scheduler": None, "job": None, "restart": None}, Place("toy", "77", 1), False),
        ({"job": "77", "restart": 0}, None, False),
        ({"job": "77", "restart": 0}, Place("other", "77", 1), False),
        ({"job": "77_2", "restart": 0}, Place("toy", "77_2", 1), True),
        ({"job": "77_1", "restart": 0}, Place("toy", "77_2", 1), False),
    ],
)
def test_only_a_later_start_of_the_same_job_takes_over_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: dict[str, Any], own: Place | None, free: bool
) -> None:
    """The holder was on another host, and its heart has not stopped for long."""
    monkeypatch.setenv(VARIABLE, json.dumps(asdict(own)) if own else "")
    record = {"host": "elsewhere", "pid": 1, "start": "x", "attempt": 1, "scheduler": "toy", **holder}
    (tmp_path / "lease.1").write_text(json.dumps(record))
    looks = iter([False, True])  # one look at the lease, and what waits then finds the step complete
    monkeypatch.setattr(lease, "POLL", 0.0)
    held = lease.acquire(tmp_path, (lambda: False) if free else (lambda: next(looks)))
    assert (held is not None) == free
    if held:
        assert held.attempt == 2
        held.release()


def test_a_lease_names_the_start_that_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, json.dumps(asdict(Place("toy", "77", 3))))
    with lease.acquire(tmp_path, lambda: False):  # type: ignore[union-attr]
        told = lease.holder(tmp_path)
        assert told and (told["scheduler"], told["job"], told["restart"]) == ("toy", "77", 3)
