"""A grid of thirteen rows and a stand-in for wandb's server, online and by `wandb sync`: three rows are shared with an
earlier grid, one fails and is mended, and a benchmark is added when all is done."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import wandb
from wandb.util import get_core_path

from src.grid.execute import failure_file
from src.grid.step import Step
from src.report.report import write
from src.report.tracking import recording, writing
from src.report.tracking.recording import Recorder
from tests.report.fakegrid import LABELS, FakeGrid
from tests.report.standin import Bucket, StandIn

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]
KEY = "0123456789abcdef" * 2 + "01234567"
ABOUT = {"command": "python -m src.run -m sweeps=table1", "commit": "c0ffee"}
SHARED = ("original", "none", "scale_14")
BROKEN, LAST = "merge_ties", "replay"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    for module in (recording, writing):
        monkeypatch.setattr(module, "PATIENCE", 120.0)
    with StandIn() as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_TAGS", "lab")
        wandb.teardown()  # wandb reads its settings once a process, and an earlier test may have been first
        yield server
        wandb.teardown()


@pytest.fixture
def fake(tmp_path: Path) -> FakeGrid:
    return FakeGrid(tmp_path / "outputs", n=6, recorded=1, chain=("sqa",), sets=("animals",))


def rows(fake: FakeGrid, mode: str, names: Any = tuple(LABELS), publish: bool = True) -> FakeGrid:
    fake.add(names, publish=publish)
    for row in fake.rows:
        row.config["tracker"] = {"mode": mode, "project": None, "entity": None}
    return fake


def published(fake: FakeGrid, name: str) -> None:
    """Let a row's artifacts come into the store."""
    other = FakeGrid(fake.root, n=fake.n, recorded=fake.recorded, chain=fake.chain, sets=fake.sets)
    other.add([name])


def until(told: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not told():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def benchmark(fake: FakeGrid, model: Step) -> Step:
    def scored(out: Path, rng: Random) -> None:
        score = {"value": rng.random(), "n": 7, "standard_error": 0.1, "interval": None}
        (out / "scores.json").write_text(json.dumps({"scores": {"lm_eval/arc/acc": score}}))

    return fake._step("harness", f"harness-arc-{model.label}", {}, {"model": model}, 3, scored)


def run_the_grid(fake: FakeGrid, mode: str, first_is_there: Callable[[], bool]) -> None:
    """Row after row is scored, as a launcher would see it; the last is trained when the first has been seen."""
    rows(fake, mode, publish=False)
    for row in fake.rows:
        if "replay" in row.name:  # the trainings of these are to come
            fake.store.move_aside(row.evaluate.inputs["responses"].inputs["model"])
    trained = next(row for row in fake.rows if row.name == LAST).curve["sqa"].inputs["responses"].inputs["model"]
    plan = replace(fake.plan(), about=ABOUT)
    with Recorder(plan, fake.store, fake.grid) as recorder:
        recorder.look(plan.rows)
        for row in plan.rows:
            with recorder.watch(row.evaluate):
                if row.name == BROKEN:
                    failure_file(fake.grid, row.evaluate.name).parent.mkdir(parents=True)
                    failure_file(fake.grid, row.evaluate.name).write_text("Traceback\nValueError: boom\n")
                elif row.name not in SHARED:
                    if row.name == LAST:
                        until(first_is_there)
                        assert fake.store.lookup(trained) is None
                    published(fake, row.name)
    write(plan.rows, plan, fake.store, fake.grid)


def add_the_benchmark(fake: FakeGrid) -> None:
    fake.rows = [
        replace(row, further={"arc": benchmark(fake, row.evaluate.inputs["responses"].inputs["model"])})
        for row in fake.rows
    ]
    write(fake.rows, replace(fake.plan(), about=ABOUT), fake.store, fake.grid)


def check_rows(fake: FakeGrid, server: StandIn, broken: bool) -> dict[str, Bucket]:
    """Thirteen runs with all scores, state and tags; each value was logged once."""
    found = server.of_kind("row", "fake")
    assert set(found) == {f"{label}, seed 0" for label in LABELS.values()}
    for row in fake.rows:
        run = found[f"{row.label}, seed 0"]
        state = "failed" if broken and row.name == BROKEN else "complete"
        assert run.summary["state"] == state and run.fields["tags"] == ["lab", state] and run.fields["project"]
        assert run.exit_code == (1 if state == "failed" else 0)
        assert run.config["strategy"] == row.name and run.config["command"] == ABOUT["command"]
        if state == "failed":
            assert run.summary["failed_step"] == row.evaluate.name and run.summary["reason"] == "ValueError: boom"
            continue
        assert "failed_step" not in run.summary and "reason" not in run.summary
        for step in (row.evaluate, *row.further.values()):
            for key, score in json.loads((fake.store.folder(step) / "scores.json").read_text())["scores"].items():
                assert run.summary[key] == pytest.approx(score["value"])
                assert [line[key] for line in run.history if key in line] == [pytest.approx(score["value"])], key
    return found


def test_online(fake: FakeGrid, server: StandIn) -> None:
    earlier = FakeGrid(fake.root, n=fake.n, recorded=fake.recorded, chain=fake.chain, sets=fake.sets)
    earlier.grid = fake.root / "grids" / "earlier"
    rows(earlier, "online", SHARED)
    write(earlier.rows, earlier.plan(), earlier.store, earlier.grid)
    assert len(server.of_kind("row", "earlier")) == 3
    run_the_grid(fake, "online", lambda: any(run.fields["groupName"] == "fake" for run in list(server.runs.values())))
    check_rows(fake, server, broken=True)
    published(fake, BROKEN)
    add_the_benchmark(fake)
    mended = check_rows(fake, server, broken=False)
    assert len([run for run in server.runs.values() if run.fields["jobType"] == "row"]) == 13 + 3
    spoken = mended[f"{LABELS[LAST]}, seed 0"]
    assert [name for name in spoken.uploads if name.endswith(".flac")]
    grid = server.of_kind("grid", "fake")["fake"]
    tables = [json.loads(body) for name, body in grid.uploads.items() if name.endswith(".table.json")]
    (table,) = [table for table in tables if "arc acc" in table["columns"]]
    assert len(table["data"]) == 13
    report = [one for one in server.artifacts if one["type"] == "report" and one["run"] == grid.name][-1]
    assert report["state"] == "COMMITTED" and {"index.html", "table.json"} <= set(report["files"])
    assert not server.unknown


def test_offline_and_sent_later(fake: FakeGrid, server: StandIn, tmp_path: Path) -> None:
    rows(fake, "offline", SHARED)
    write(fake.rows, fake.plan(), fake.store, fake.root / "grids" / "earlier")
    fake.rows = []
    offline = fake.root / "wandb"
    run_the_grid(fake, "offline", lambda: len(list(offline.glob("offline-run-*"))) > 3 + 2 + 1)
    published(fake, BROKEN)
    add_the_benchmark(fake)
    assert not server.runs
    folders = sorted(map(str, offline.glob("offline-run-*")))
    read = [one for one in map(inspected, folders) if one["config"].get("grid") == "fake"]
    assert {one["config"]["strategy"] for one in read} == set(LABELS) and len(read) == 13
    for one in read:
        assert one["tags"] == ["lab", "complete"] and one["exit_code"] == 0
        (row,) = [row for row in fake.rows if row.name == one["config"]["strategy"]]
        scores = json.loads((fake.store.folder(row.evaluate) / "scores.json").read_text())["scores"]
        assert {"lm_eval/arc/acc", *scores} <= one["summary"].keys()
    sync(folders)
    check_rows(fake, server, broken=False)
    assert {run.sent for run in server.runs.values()} == {1}
    assert len(server.runs) == len(folders) == (3 + 13) + 2 + 3
    sync(folders)
    assert {run.sent for run in server.runs.values()} == {1}, "nothing is sent twice"


def inspected(folder: str) -> dict[str, Any]:
    """What `wandb leet`, wandb's reader for terminals, says of a run."""
    (file,) = Path(folder).glob("run-*.wandb")
    asked = ["--no-observability", "--summary", "--json", "--run-file", str(file), str(file.parents[1])]
    command = [get_core_path(), "leet", "inspect", *asked]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    return found


def sync(folders: list[str]) -> None:
    command = [sys.executable, "-m", "wandb", "sync", *folders]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
