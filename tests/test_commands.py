"""The commands on a grid: status, logs, cancel and retry."""

import importlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launchers import states
from launchers.sent import read_sent
from launchers.slurm import queue
from src import recipe
from src.grid.execute import failure_file
from src.grid.plan import Plan
from src.grid.step import Step, closure
from tests.grid.toys import toy
from tests.launchers.fakes.grid import Grid, diamond
from tests.launchers.fakes.slurm import Slurm

COMMANDS = ["status", "logs", "cancel", "retry"]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    monkeypatch.setattr(queue, "PAUSE", 0.01)
    with Slurm(tmp_path / "slurm", monkeypatch) as made:
        yield made


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Slurm]:
    """Outputs with a grid that was submitted, and the controller that took it: to be copied."""
    root = tmp_path_factory.mktemp("submitted")
    with pytest.MonkeyPatch.context() as patch, Slurm(root / "slurm", patch) as slurm:
        Grid(root / "outputs", diamond()["d"]).submit(resources={"default": {"minutes": 7}}, partition="gpu")
    return root / "outputs", slurm


@pytest.fixture
def grid(tmp_path: Path, slurm: Slurm, submitted: tuple[Path, Slurm]) -> Grid:
    """a is job 12, b 13_0, c 13_1, d 15, the report 16."""
    outputs, there = submitted
    shutil.copytree(outputs, tmp_path / "outputs", symlinks=True)
    slurm.like(there)
    return Grid(tmp_path / "outputs", diamond()["d"])


class Typed:
    """What a command printed, and its exit code."""

    def __init__(self, capsys: pytest.CaptureFixture[str], grid: Grid, name: str, *arguments: str) -> None:
        main = importlib.import_module(f"src.{name}").main
        self.code = main([*arguments, "--outputs", str(grid.folder.parents[1])])
        self.out, self.err = capsys.readouterr()

    @property
    def line(self) -> str:
        """What was wrong: one line, and nothing else was printed."""
        assert self.code == 2 and self.out == "" and self.err.count("\n") == 1, self.err
        return self.err


# All of them


@pytest.mark.parametrize("name", COMMANDS)
def test_a_grid_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    grid = Grid(tmp_path / "outputs", toy("a"))
    more = ["a"] if name == "logs" else []
    assert "nonsense names no grids" in Typed(capsys, grid, name, "nonsense", *more).line
    grid.freeze()
    assert "there are: toys" in Typed(capsys, grid, name, "nonsense", *more).line


@pytest.mark.parametrize("name", ["logs", "cancel", "retry"])
def test_what_changes_something_needs_to_be_told_which_grid(
    capsys: pytest.CaptureFixture[str], grid: Grid, name: str
) -> None:
    with pytest.raises(SystemExit) as end:
        Typed(capsys, grid, name)
    assert end.value.code == 2 and "GRID" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["status", "logs", "retry"])
def test_a_plan_that_cannot_be_read_is_one_line(capsys: pytest.CaptureFixture[str], grid: Grid, name: str) -> None:
    (grid.folder / "plan.json").write_text("{")
    assert "is not a frozen plan" in Typed(capsys, grid, name, "toys", *(["a"] if name == "logs" else [])).line


# status


def test_status_shows_every_step_and_counts(capsys: pytest.CaptureFixture[str], slurm: Slurm, grid: Grid) -> None:
    grid.compute(diamond()["a"])
    slurm.put("RUNNING", "13_0")
    done = Typed(capsys, grid, "status")
    assert done.code == 0 and done.err == ""
    rows = {line.split()[0].rpartition("-")[0] or line.split()[0]: line for line in done.out.splitlines() if line}
    assert "done" in rows["a"] and " 12 " in rows["a"]
    assert "running" in rows["b"] and " 13_0 " in rows["b"]
    assert "waiting" in rows["d"] and "waiting" in rows["report"]
    assert done.out.splitlines()[-1] == "1 done, 1 running, 1 queued, 1 waiting of 4 steps"


def test_status_as_json(capsys: pytest.CaptureFixture[str], grid: Grid) -> None:
    done = Typed(capsys, grid, "status", "to", "--json")
    told = json.loads(done.out)
    assert done.code == 0 and set(told) == {"grid", "counts", "steps", "report", "fault"}
    assert [step["step"] for step in told["steps"]] == list(grid.plan().entries)
    assert {"step", "state", "note", "job", "requeued", "progress"} <= set(told["steps"][0])
    assert told["report"]["job"] == "16"


def test_status_watches_to_the_end(
    capsys: pytest.CaptureFixture[str], slurm: Slurm, grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "INTERVAL", 0.0)
    slurm.put("CANCELLED", *slurm.jobs)
    done = Typed(capsys, grid, "status", "--watch")
    assert done.code == 1, "a step is missing"
    told = [line.split()[0] for line in done.out.splitlines()]
    assert told == ["cancelled", "blocked", "blocked", "blocked", "cancelled"]
    with pytest.raises(SystemExit):
        Typed(capsys, grid, "status", "--watch", "--json")


def test_status_without_slurm_says_so(
    capsys: pytest.CaptureFixture[str], grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = Typed(capsys, grid, "status")
    assert done.code == 0
    assert done.out.endswith("SLURM cannot be asked (there is no squeue on the PATH): this is what the store tells\n")


# logs


def left(grid: Grid, folder: str, name: str, text: str) -> str:
    file = grid.folder / folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return f"==> {file} <==\n{text}"


def test_logs_of_a_step_and_of_its_jobs(capsys: pytest.CaptureFixture[str], grid: Grid) -> None:
    b, c = diamond()["b"], diamond()["c"]
    said = [
        left(grid, "logs", f"{b.name}.log", "epoch 1\n"),
        left(grid, "jobs", "13_0_0_log.out", "srun ended\n"),
        left(grid, "jobs", "13_0_1_log.out", "rank 1\n"),
    ]
    left(grid, "logs", f"{c.name}.log", "another\n")
    left(grid, "jobs", "13_1_0_log.out", "another\n")
    left(grid, "jobs", "13_01_0_log.out", "another\n")
    for name in (b.name, "b"):
        done = Typed(capsys, grid, "logs", "toys", name)
        assert (done.code, done.out, done.err) == (0, "".join(said), "")


def test_logs_of_the_report(capsys: pytest.CaptureFixture[str], grid: Grid) -> None:
    said = left(grid, "jobs", "16_0_log.out", "the table\n")
    assert Typed(capsys, grid, "logs", "toys", "rep").out == said


def test_logs_that_are_not_there(capsys: pytest.CaptureFixture[str], grid: Grid) -> None:
    a = diamond()["a"]
    assert f"{a.name} has left no output yet" in Typed(capsys, grid, "logs", "toys", "a").line
    said = Typed(capsys, grid, "logs", "toys", "x").line
    assert "x names no steps" in said and a.name in said and "report" in said
    assert "names 5 steps" in Typed(capsys, grid, "logs", "toys", "").line


def test_logs_show_what_is_no_text(capsys: pytest.CaptureFixture[str], grid: Grid) -> None:
    file = grid.folder / "logs" / f"{diamond()['a'].name}.log"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"caf\xe9\n")
    assert "caf\ufffd\n" in Typed(capsys, grid, "logs", "toys", "a").out


# cancel


def test_cancel_ends_what_is_alive_and_leaves_the_rest(
    capsys: pytest.CaptureFixture[str], slurm: Slurm, grid: Grid
) -> None:
    slurm.put("COMPLETED", "12")
    slurm.put("RUNNING", "13_0")
    slurm.put("RUNNING", "99")
    done = Typed(capsys, grid, "cancel", "toys")
    assert (done.code, done.out) == (0, "4 of 5 jobs cancelled; the others were over\n")
    ended = dict.fromkeys(["13_0", "13_1", "15", "16"], "CANCELLED")
    assert slurm.jobs == {"12": "COMPLETED", **ended, "99": "RUNNING"}
    assert Typed(capsys, grid, "cancel", "toys").out.startswith("0 of 5 jobs")


def test_cancel_of_a_grid_without_jobs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    grid = Grid(tmp_path / "outputs", toy("a"))
    grid.freeze()
    done = Typed(capsys, grid, "cancel", "toys")
    assert (done.code, done.out) == (0, "it has no jobs: it was not submitted to a scheduler\n")


def test_cancel_waits_for_a_controller_that_is_away(
    capsys: pytest.CaptureFixture[str], slurm: Slurm, grid: Grid
) -> None:
    slurm.away = {"squeue": 2, "scancel": 2}
    assert Typed(capsys, grid, "cancel", "toys").code == 0
    assert set(slurm.jobs.values()) == {"CANCELLED"}


def test_cancel_without_slurm_or_with_its_refusal_is_one_line(
    capsys: pytest.CaptureFixture[str], slurm: Slurm, grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slurm.bin / "scancel").write_text("#!/bin/sh\necho 'scancel: error: Access denied' >&2\nexit 1\n")
    said = "SLURM cannot be asked: scancel failed: scancel: error: Access denied\n"
    assert Typed(capsys, grid, "cancel", "toys").line == said
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "SLURM cannot be asked: there is no squeue on the PATH" in Typed(capsys, grid, "cancel", "toys").line


# retry


def test_retry_submits_what_is_missing_with_the_settings_of_last_time(
    capsys: pytest.CaptureFixture[str], slurm: Slurm, grid: Grid
) -> None:
    steps = diamond()
    grid.compute(steps["a"], steps["c"])
    grid.fail(steps["b"])
    slurm.put("COMPLETED", "12", "13_1")
    slurm.put("FAILED", "13_0")
    slurm.put("CANCELLED", "15")
    before = Plan.load(grid.folder / "plan.json").rows
    done = Typed(capsys, grid, "retry", "toys", "--frozen", "hydra.launcher.resources.default.mem_gb=9")
    assert done.code == 0, done.err
    assert "2 submitted as 2 jobs and the report, 2 cached" in done.out
    assert Plan.load(grid.folder / "plan.json").rows == before, "frozen: no row is composed anew"
    assert not failure_file(grid.folder, steps["b"].name).exists()
    told = slurm.script("17").options
    assert (told["time"], told["mem"], told["partition"]) == ("7", "9216M", "gpu")
    assert slurm.script("18").options["dependency"] == "afterok:17"
    assert [(one.job, one.submission) for one in read_sent(grid.folder)[5:]] == [("17", 2), ("18", 2), ("19", 2)]
    assert json.loads((grid.folder / "submissions" / "2" / "launcher.json").read_text())["partition"] == "gpu"

    slurm.put("CANCELLED", "17", "18")
    assert Typed(capsys, grid, "retry", "toys", "--frozen", "hydra.launcher.partition=null").code == 0
    told = slurm.script("20").options
    assert told["mem"] == "9216M" and "partition" not in told, "changes are kept, and can be taken back"


def test_retry_of_what_is_on_its_way_submits_nothing(
    capsys: pytest.CaptureFixture[str], slurm: Slurm, grid: Grid
) -> None:
    told = Typed(capsys, grid, "retry", "toys").out
    assert "already submitted, with the settings of then: jobs 12, 13_0-13_1, 15" in told
    assert not slurm.calls("sbatch")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.lr=1", "train.lr=1 is no setting of the launcher, written as hydra.launcher.KEY=VALUE"),
        ("hydra.launcher.partition", "is no setting of the launcher"),
        ("hydra.launcher.partiton=gpu", "hydra.launcher.partiton is no setting"),
        ("hydra.launcher.resources.default.minutes=soon", "hydra.launcher.resources.default.minutes is 'soon'"),
        ("hydra.launcher.resources.tyo.minutes=1", "hydra.launcher.resources is 'tyo'"),
        pytest.param(
            "hydra.launcher.setup=[module load", "hydra.launcher.setup",
        ),
    ],
)  # fmt: skip
def test_a_wrong_setting_of_retry_is_one_line(
    capsys: pytest.CaptureFixture[str], slurm: Slurm, grid: Grid, setting: str, said: str
) -> None:
    assert said in Typed(capsys, grid, "retry", "toys", setting).line
    assert not slurm.calls("sbatch")


def test_retry_of_a_grid_that_ran_here(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    grid = Grid(tmp_path / "outputs", toy("a"))
    grid.freeze()
    assert "toys was not submitted to a scheduler" in Typed(capsys, grid, "retry", "toys").line


def test_a_refused_retry_is_one_line(capsys: pytest.CaptureFixture[str], slurm: Slurm, grid: Grid) -> None:
    slurm.put("CANCELLED", *slurm.jobs)
    slurm.refused = {"--partition=nope": "invalid partition specified: nope"}
    said = Typed(capsys, grid, "retry", "toys", "hydra.launcher.partition=nope").line
    assert "invalid partition specified: nope" in said


def real(outputs: Path, *strategies: str) -> Grid:
    """Rows of the smoke profile."""
    grid = Grid(outputs)
    grid.rows = [recipe.compose([f"strategy={name}", "profile=smoke"]) for name in strategies]
    return grid


def planned(grid: Grid) -> tuple[dict[str, dict[str, Any]], dict[str, Step]]:
    """Of each row of the frozen plan: its settings, and its step that trains on SQA."""
    plan = Plan.load(grid.folder / "plan.json")
    trained = {
        row.name: step for row in plan.rows for step in closure(row.steps) if step.label.startswith("train-sqa")
    }  # fmt: skip
    return {row.name: row.config for row in plan.rows}, trained


def test_retry_composes_a_row_that_failed_anew_and_no_other(
    capsys: pytest.CaptureFixture[str], slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = real(tmp_path / "outputs", "none", "replay")
    grid.submit(pack_minutes=100)
    before, trained = planned(grid)
    grid.fail(trained["replay"])
    slurm.put("FAILED", *slurm.jobs)

    conf = tmp_path / "conf"
    shutil.copytree(recipe.CONF, conf)
    monkeypatch.setattr(recipe, "CONF", conf)
    profile = conf / "train" / "laptop.yaml"
    rate = before["replay"]["train"]["lr"]
    text = profile.read_text()
    mended = "\n".join(f"lr: {rate / 2}" if line.startswith("lr:") else line for line in text.splitlines())
    assert mended != text
    profile.write_text(mended)

    done = Typed(capsys, grid, "retry", "toys")
    assert done.code == 0, done.err
    after, again = planned(grid)
    assert after["none"] == before["none"] and again["none"] == trained["none"]
    assert after["replay"]["train"]["lr"] == rate / 2 and again["replay"] != trained["replay"]
    (line,) = [line for line in done.out.splitlines() if "train.lr" in line]
    assert line.endswith(f"train.lr: {rate} | {rate / 2}")
    assert not failure_file(grid.folder, again["replay"].name).exists()
    sent = {name for one in read_sent(grid.folder) if one.submission == 2 for name in one.steps}
    assert {step.name for step in again.values()} <= sent


def test_a_row_that_cannot_be_composed_any_more_is_one_line(
    capsys: pytest.CaptureFixture[str], slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = real(tmp_path / "outputs", "none")
    grid.submit(pack_minutes=100)
    _, trained = planned(grid)
    grid.fail(trained["none"])
    slurm.put("FAILED", *slurm.jobs)
    calls = len(slurm.calls("sbatch"))
    conf = tmp_path / "conf"
    shutil.copytree(recipe.CONF, conf)
    monkeypatch.setattr(recipe, "CONF", conf)
    (conf / "strategy" / "none.yaml").unlink()
    done = Typed(capsys, grid, "retry", "toys")
    assert done.code == 2 and "strategy/none" in done.err and "Traceback" not in done.err
    assert len(slurm.calls("sbatch")) == calls and failure_file(grid.folder, trained["none"].name).exists()
