"""Where every step stands, as the store, the jobs' notes and SLURM tell it together."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from launchers import states
from launchers.slurm import queue
from launchers.states import Overview, State, follow, overview, render
from src.grid import lease
from src.grid.arguments import find_grid
from src.grid.errors import ConfigError
from src.grid.execute import failure_file
from src.grid.step import Step
from src.report.document import document
from src.report.table import to_json, to_text
from tests.grid.toys import toy
from tests.launchers.fakes.grid import Grid, diamond
from tests.launchers.fakes.slurm import Slurm


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    monkeypatch.setattr(queue, "PAUSE", 0.01)
    monkeypatch.setattr(states, "INTERVAL", 0.0)
    with Slurm(tmp_path / "slurm", monkeypatch) as made:
        yield made


@pytest.fixture
def steps() -> dict[str, Step]:
    return diamond()


@pytest.fixture
def fresh(tmp_path: Path, steps: dict[str, Step]) -> Grid:
    """Nothing of it is computed or submitted."""
    return Grid(tmp_path / "outputs", steps["d"])


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Slurm]:
    """Outputs with two grids that were submitted, and the controller that took them: to be copied."""
    root = tmp_path_factory.mktemp("submitted")
    with pytest.MonkeyPatch.context() as patch, Slurm(root / "slurm", patch) as slurm:
        Grid(root / "outputs", diamond()["d"]).submit()
        Grid(root / "outputs", toy("e", 5, {"a": diamond()["a"]}), name="other").submit()
    return root / "outputs", slurm


@pytest.fixture
def grid(fresh: Grid, slurm: Slurm, submitted: tuple[Path, Slurm]) -> Grid:
    """Submitted: a is job 12, b 13_0, c 13_1, d 15, the report 16."""
    outputs, there = submitted
    shutil.copytree(outputs, fresh.folder.parents[1], symlinks=True)
    slurm.like(there)
    return fresh


def look(grid: Grid) -> dict[str, State]:
    """Label -> its state; every step of the plan has one, and so has the report."""
    seen = overview(grid.folder)
    assert [each.step for each in seen.steps] == list(grid.plan().entries)
    assert all(each.state in states.STYLES for each in [*seen.steps, seen.report])
    return {each.step.rpartition("-")[0] or each.step: each for each in [*seen.steps, seen.report]}


def words(grid: Grid) -> dict[str, str]:
    return {label: each.state for label, each in look(grid).items()}


def note(grid: Grid, label: str) -> tuple[str, str]:
    each = look(grid)[label]
    return each.state, each.note


def working(grid: Grid, step: Step, **holder: Any) -> None:
    """The step is begun, by the process that is named, and has told of its progress."""
    work = grid.store.work(step)
    work.mkdir(parents=True, exist_ok=True)
    record = {"host": "node7/pid", "pid": 4711, "start": "x", "attempt": 1, "job": None, "restart": 0, **holder}
    record["scheduler"] = "slurm" if record["job"] else None
    (work / "lease.1").write_text(json.dumps(record))
    (work / "progress.json").write_text(json.dumps({"done": 30, "total": 120, "loss": 0.25, "seconds_left": 90.0}))


def test_a_grid_that_nobody_runs(fresh: Grid, steps: dict[str, Step]) -> None:
    fresh.compute(steps["a"])
    fresh.freeze()
    assert words(fresh) == {"a": "cached", "b": "not run", "c": "not run", "d": "not run", "report": "not run"}
    assert note(fresh, "d")[1] == f"for {steps['b'].name}, {steps['c'].name}"
    assert overview(fresh.folder).over and not overview(fresh.folder).complete


def test_queued_and_waiting(slurm: Slurm, grid: Grid, steps: dict[str, Step]) -> None:
    seen = look(grid)
    assert (seen["a"].state, seen["a"].note, seen["a"].job) == ("queued", "Priority", "12")
    assert (seen["c"].state, seen["c"].note, seen["c"].job) == ("waiting", f"for {steps['a'].name}", "13_1")
    assert (seen["report"].state, seen["report"].note, seen["report"].job) == ("waiting", "for all jobs", "16")
    slurm.put("PENDING", "12", reason="Resources")
    assert note(grid, "a") == ("queued", "Resources")
    assert not overview(grid.folder).over


def test_running_with_its_progress(slurm: Slurm, grid: Grid, steps: dict[str, Step]) -> None:
    slurm.put("RUNNING", "12")
    assert note(grid, "a") == ("running", "running")
    working(grid, steps["a"], job="12")
    seen = look(grid)["a"]
    assert (seen.state, seen.note, seen.progress["seconds_left"]) == ("running", "30/120  loss 0.250", 90.0)
    assert words(grid)["b"] == "waiting"


def test_done_is_what_this_grid_computed_and_cached_what_it_found(
    slurm: Slurm, fresh: Grid, steps: dict[str, Step]
) -> None:
    fresh.compute(steps["a"])
    fresh.submit()
    fresh.compute(steps["b"])
    slurm.put("COMPLETED", "12_0")
    seen = look(fresh)
    assert (seen["a"].state, seen["a"].job) == ("cached", None)
    assert (seen["b"].state, seen["b"].job) == ("done", "12_0")


def test_what_failed_blocks_what_needs_it_and_names_the_cause(
    slurm: Slurm, tmp_path: Path, steps: dict[str, Step]
) -> None:
    e = toy("e", 5, {"d": steps["d"]})
    grid = Grid(tmp_path / "outputs", e, toy("f", 6, {"c": steps["c"]}, light=True))
    grid.submit()
    grid.compute(steps["a"], steps["c"])
    grid.fail(steps["b"], "Traceback (most recent call last):\n  ...\nValueError: b was told to fail\n\n")
    slurm.put("COMPLETED", "12", "13_1")
    slurm.put("FAILED", "13_0", reason="NonZeroExitCode")
    slurm.put("CANCELLED", *(grid.job(step) for step in (steps["d"], e)), reason="DependencyNeverSatisfied")
    slurm.put("PENDING", grid.job(grid.rows[1].evaluate), reason="Priority")
    assert note(grid, "b") == ("failed", "ValueError: b was told to fail")
    assert note(grid, "d") == note(grid, "e") == ("blocked", f"by {steps['b'].name}")
    assert (words(grid)["c"], words(grid)["f"]) == ("done", "queued")


@pytest.mark.parametrize("known", ["squeue", "sacct"])
@pytest.mark.parametrize(
    ("word", "code", "state", "said"),
    [
        ("TIMEOUT", "0:0", "failed", "its job ended as TIMEOUT"),
        ("OUT_OF_MEMORY", "0:125", "failed", "its job ended as OUT_OF_MEMORY"),
        ("FAILED", "3:0", "failed", "its job ended as FAILED"),
        ("CANCELLED", "0:15", "cancelled", ""),
    ],
)
def test_a_job_that_left_nothing(
    slurm: Slurm, grid: Grid, steps: dict[str, Step], known: str, word: str, code: str, state: str, said: str
) -> None:
    """Neither an artifact nor a traceback; its lease was never released."""
    working(grid, steps["a"], job="12")
    if known == "squeue":
        slurm.put(word, "12")
    else:
        slurm.forget()
        ended = f"{word} by 1000" if word == "CANCELLED" else word
        slurm.accounted = {"12": (ended, code)}
    seen = note(grid, "a")
    assert seen[0] == state and said in seen[1]
    assert (known == "sacct" and word == "CANCELLED") == ("CANCELLED by 1000" in seen[1])
    assert (known == "sacct" and word == "FAILED") == ("exit code 3" in seen[1])
    assert words(grid)["b"] == "blocked"


@pytest.mark.parametrize(
    "begun", [False, True]
)
def test_a_job_that_slurm_has_forgotten(slurm: Slurm, grid: Grid, steps: dict[str, Step], begun: bool) -> None:
    if begun:
        working(grid, steps["a"], job="12")
    slurm.forget()
    slurm.accounted = None
    assert note(grid, "a") == ("failed", "its job 12 is gone, and SLURM knows no more of it")


def test_a_lease_of_an_earlier_job_holds_nothing(slurm: Slurm, grid: Grid, steps: dict[str, Step]) -> None:
    working(grid, steps["a"], job="12")
    slurm.put("NODE_FAIL", "12")
    slurm.put("CANCELLED", "13_0", "13_1", "15", "16")
    grid.submit()
    slurm.put("CANCELLED", grid.job(steps["a"]))
    assert words(grid)["a"] == "cancelled"


def test_a_step_that_a_process_without_a_job_computes(fresh: Grid, steps: dict[str, Step]) -> None:
    grid = fresh
    grid.freeze()
    working(grid, steps["a"], host=lease.this_host(), pid=os.getpid(), start=lease.started(os.getpid()))
    state, said = note(grid, "a")
    assert state == "running" and said.startswith("30/120") and f"by process {os.getpid()} on " in said
    working(grid, steps["a"], host=lease.this_host(), pid=os.getpid(), start="long ago")
    assert note(grid, "a")[0] == "not run"


def test_how_often_a_job_was_requeued(slurm: Slurm, grid: Grid) -> None:
    slurm.put("RUNNING", "12")
    grid.note("12", {"reached": [0, 0]}, {"end": "stopped by SIGUSR2", "own": True}, {"reached": [0, 40]})
    assert look(grid)["a"].requeued == 1 and look(grid)["b"].requeued == 0
    slurm.put("PENDING", "12", reason="BeginTime")
    assert note(grid, "a") == ("queued", "BeginTime")
    printed = StringIO()
    Console(file=printed, width=200).print(render(overview(grid.folder)))
    assert "queued (requeued 1 x)" in printed.getvalue()


@pytest.mark.parametrize("word", ["REQUEUE_HOLD", "REQUEUED", "SPECIAL_EXIT"])
def test_a_job_that_is_held_is_queued(slurm: Slurm, grid: Grid, word: str) -> None:
    slurm.put(word, "12", reason="launch failed requeued held")
    assert words(grid)["a"] == "queued"


def test_a_job_of_another_grid_is_waited_for(slurm: Slurm, grid: Grid, steps: dict[str, Step]) -> None:
    other = Grid(grid.folder.parents[1], toy("e", 5, {"a": steps["a"]}), name="other")
    word, why = note(other, "a")
    assert word == "waiting" and "of another grid, which computes it" in why
    assert note(other, "e") == ("waiting", f"for {steps['a'].name}")


def test_a_dependency_that_was_met_a_moment_ago(slurm: Slurm, grid: Grid, steps: dict[str, Step]) -> None:
    """SLURM changes the reason when it looks at the job again."""
    grid.compute(steps["a"])
    slurm.put("COMPLETED", "12")
    assert "another grid" not in note(grid, "b")[1]


# Several steps in a job


def bundle(tmp_path: Path) -> tuple[Grid, list[Step]]:
    """Four steps that share a job: b needs a, d needs c."""
    a, c = toy("a"), toy("c", 3)
    b, d = toy("b", 2, {"a": a}), toy("d", 4, {"c": c})
    grid = Grid(tmp_path / "outputs", b, d)
    grid.submit(pack_minutes=10)
    return grid, [a, b, c, d]


def test_the_steps_of_a_job_take_turns(slurm: Slurm, tmp_path: Path) -> None:
    grid, (a, _, _, _) = bundle(tmp_path)
    assert set(words(grid).values()) == {"queued", "waiting"}
    slurm.put("RUNNING", "12")
    assert words(grid) == {"a": "running", "b": "waiting", "c": "waiting", "d": "waiting", "report": "waiting"}
    assert note(grid, "c") == ("waiting", "for its turn in job 12")
    grid.compute(a)
    assert words(grid) == {"a": "done", "b": "running", "c": "waiting", "d": "waiting", "report": "waiting"}


def test_a_job_goes_on_behind_a_step_that_failed(slurm: Slurm, tmp_path: Path) -> None:
    grid, (a, _, c, _) = bundle(tmp_path)
    slurm.put("RUNNING", "12")
    grid.fail(a)
    assert words(grid) == {"a": "failed", "b": "blocked", "c": "running", "d": "waiting", "report": "waiting"}
    grid.compute(c)
    assert words(grid) == {"a": "failed", "b": "blocked", "c": "done", "d": "running", "report": "waiting"}


# When SLURM cannot be asked


def test_without_slurm_the_store_tells_what_it_can(
    grid: Grid, steps: dict[str, Step], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid.compute(steps["b"])
    grid.fail(steps["c"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert words(grid) == {"a": "done", "b": "done", "c": "failed", "d": "blocked", "report": "waiting"}
    seen = overview(grid.folder)
    assert seen.fault == "SLURM cannot be asked (there is no squeue on the PATH)" and not seen.over
    failure_file(grid.folder, steps["c"].name).unlink()
    assert note(grid, "c") == ("queued", "job 13_1"), "as far as is known"


def test_a_controller_that_is_away_is_said(slurm: Slurm, grid: Grid) -> None:
    slurm.away = {"squeue": 2}
    seen = overview(grid.folder)
    assert "Unable to contact slurm controller" in str(seen.fault) and not seen.over
    printed = StringIO()
    Console(file=printed, width=200).print(render(overview(grid.folder)))
    assert "SLURM cannot be asked (slurm_load_jobs error: Unable to contact" in printed.getvalue()
    assert overview(grid.folder).fault is None


def test_a_grid_without_jobs_asks_nobody(slurm: Slurm, fresh: Grid) -> None:
    fresh.freeze()
    overview(fresh.folder)
    assert not slurm.calls("squeue") and not slurm.calls("sacct")


def test_a_step_that_is_published_while_slurm_is_asked_is_done(
    slurm: Slurm, grid: Grid, steps: dict[str, Step], tmp_path: Path
) -> None:
    grid.compute(steps["a"])
    made, aside = grid.store.folder(steps["a"]), tmp_path / "not yet there"
    made.rename(aside)
    slurm.put("COMPLETED", "12")
    slurm.then["squeue"] = lambda: aside.rename(made)
    assert words(grid)["a"] == "done"


# The report


def written(grid: Grid) -> None:
    """As a report of no rows leaves it."""
    (grid.folder / "table.json").write_text(to_json(document([])))


def test_the_report(slurm: Slurm, grid: Grid, steps: dict[str, Step]) -> None:
    job = grid.job("report")
    slurm.put("PENDING", job, reason="Resources")
    assert note(grid, "report") == ("queued", "Resources")
    slurm.put("RUNNING", job)
    assert note(grid, "report") == ("running", "")
    slurm.put("FAILED", job)
    assert note(grid, "report") == ("failed", "FAILED")
    failure_file(grid.folder, "report").parent.mkdir()
    failure_file(grid.folder, "report").write_text("KeyError: 'x'\n")
    assert note(grid, "report") == ("failed", "KeyError: 'x'")
    failure_file(grid.folder, "report").unlink()
    slurm.put("COMPLETED", job)
    written(grid)
    assert note(grid, "report") == ("done", str(grid.folder / "index.html"))


def test_a_report_that_was_cancelled_is_not_done(slurm: Slurm, grid: Grid) -> None:
    written(grid)
    slurm.put("CANCELLED", grid.job("report"))
    assert words(grid)["report"] == "cancelled"


# Finding and following


def test_every_step_is_in_the_json_of_an_overview(slurm: Slurm, grid: Grid, steps: dict[str, Step]) -> None:
    grid.compute(steps["a"])
    slurm.put("RUNNING", "13_0")
    slurm.put("PENDING", "13_1", reason="Priority")
    working(grid, steps["b"], job="13_0")
    told = json.loads(json.dumps(overview(grid.folder).as_json()))
    assert told["grid"] == "toys" and told["fault"] is None
    assert told["counts"] == {"done": 1, "running": 1, "queued": 1, "waiting": 1}
    (b,) = [step for step in told["steps"] if step["step"] == steps["b"].name]
    assert b["progress"]["done"] == 30 and b["job"] == "13_0" and b["requeued"] == 0


def test_a_grid_is_found_by_path_name_beginning_or_as_the_latest(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    with pytest.raises(ConfigError, match=r"there is no grid in .*--outputs"):
        find_grid(None, outputs)
    for name in ("replay-1", "replay-12", "none-3"):
        Grid(outputs, toy("a"), name=name).freeze()
    folder = outputs / "grids" / "replay-1"
    assert find_grid(None, outputs) == outputs / "grids" / "none-3"
    assert find_grid("replay-1", outputs) == folder, "whole names go before beginnings"
    assert find_grid("none", outputs) == outputs / "grids" / "none-3"
    assert find_grid(os.path.relpath(folder), tmp_path) == folder
    with pytest.raises(ConfigError, match=r"rep names 2 grids .*replay-1, replay-12"):
        find_grid("rep", outputs)
    with pytest.raises(ConfigError, match=r"x names no grids"):
        find_grid("x", outputs)


def followed(grid: Grid) -> tuple[int, list[str]]:
    printed = StringIO()
    code = follow(grid.folder, Console(file=printed, width=200))
    return code, [re.sub(r"-[0-9a-f]{8}\b", "", line) for line in printed.getvalue().splitlines()]


def test_following_tells_what_changes_until_it_is_over(slurm: Slurm, tmp_path: Path) -> None:
    a, b = toy("a"), toy("b", 2)
    grid = Grid(tmp_path / "outputs", a, b)
    grid.submit()
    grid.compute(a)
    slurm.put("COMPLETED", "12_0")
    slurm.put("RUNNING", "12_1")
    slurm.then["squeue"] = lambda: slurm.put("FAILED", *slurm.jobs)
    code, lines = followed(grid)
    assert code == 1
    assert lines == [
        "done      a", "running   b: running", "waiting   report: for all jobs",
        "failed    b: its job ended as FAILED and left no artifact: python -m src.logs toys b",
        "failed    report: FAILED",
    ]  # fmt: skip

    grid.compute(b)
    written(grid)
    slurm.put("COMPLETED", *slurm.jobs)
    code, lines = followed(grid)
    assert code == 0
    assert lines[:3] == ["done      a", "done      b", f"done      report: {grid.folder / 'index.html'}"]
    assert [line for line in lines[3:] if line] == [line for line in to_text(document([])).splitlines() if line]


def test_following_what_is_complete_ends_without_slurm(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid(tmp_path / "outputs", toy("a"))
    grid.submit()
    grid.compute(toy("a"))
    written(grid)
    monkeypatch.setenv("PATH", str(tmp_path))
    looks: list[Overview] = []

    def look_once(folder: Path) -> Overview:
        if looks:
            raise TimeoutError("it looks again")
        looks.append(overview(folder))
        return looks[0]

    monkeypatch.setattr(states, "overview", look_once)
    assert followed(grid)[0] == 0


def test_leaving_changes_nothing(slurm: Slurm, grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(states.time, "sleep", interrupt)
    code, lines = followed(grid)
    assert code == 130 and lines[-1] == "No longer watching; the jobs go on."
    assert set(slurm.jobs.values()) == {"PENDING"}
