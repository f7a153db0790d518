"""The whole table at smoke size, by the command that a user types: from nothing, killed in the middle, and again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SETS, TASKS = ("countries", "animals", "people"), ("t2t", "s2t", "s2s")


def start(outputs: Path, *overrides: str) -> subprocess.Popen[str]:
    grid = ["-m", "sweeps=table1", "profile=smoke", f"outputs={outputs}"]
    command = [sys.executable, "-m", "src.run", *grid, *overrides]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    printed, _ = process.communicate(timeout=900)
    assert process.returncode == 0, printed
    return printed


def artifacts(outputs: Path) -> dict[str, dict[str, Any]]:
    """Checksums of every file of every artifact."""
    return {
        file.parent.name: json.loads(file.read_text())["files"] for file in (outputs / "store").glob("*/manifest.json")
    }


@pytest.fixture(scope="module")
def outputs(smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the undisturbed table, to be worked on."""
    folder = tmp_path_factory.mktemp("table") / "outputs"
    shutil.copytree(smoke, folder, symlinks=True)
    assert "60 to compute" in (folder / "printed.txt").read_text()
    return folder


def test_thirteen_rows_and_eleven_columns(outputs: Path) -> None:
    table = json.loads((outputs / "latest" / "table.json").read_text())
    main = [column["key"] for column in table["columns"] if column["table"] == "main"]
    qa = [f"qa/{name}/{task}" for name in SETS for task in TASKS]
    assert main == [*qa, "ifeval/prompt_strict", "ifeval/instruction_strict"]
    assert len(table["rows"]) == 13
    for row in table["rows"]:
        assert row["state"] == "complete"
        spoken = [key for key in qa if not key.endswith("t2t")]
        assert [key in row["scores"] for key in spoken] == [row["strategy"] != "original"] * len(spoken)
        assert all(key in row["scores"] for key in main if key not in spoken)
    scores = [score["mean"] for row in table["rows"] for score in row["scores"].values()]
    assert len(set(scores)) > 5, "a table of equal scores would show nothing about what is compared below"


def test_training_is_shared(outputs: Path) -> None:
    made = artifacts(outputs)
    assert len(made) == 60
    assert sum(name.startswith("train-") for name in made) == 6


def test_the_same_command_computes_nothing(outputs: Path) -> None:
    before = (outputs / "latest" / "table.json").read_bytes()
    began = {file: file.stat().st_mtime_ns for file in (outputs / "store").glob("*/manifest.json")}
    printed = finish(start(outputs))
    assert "60 steps, 0 to compute" in printed and "Replay" in printed
    assert began == {file: file.stat().st_mtime_ns for file in (outputs / "store").glob("*/manifest.json")}
    assert (outputs / "latest" / "table.json").read_bytes() == before


def test_wandb_has_a_run_for_each_training_step_row_and_grid(outputs: Path) -> None:
    runs = list((outputs / "wandb").glob("offline-run-*"))
    assert len(runs) == 7 + 13 + 1
    assert len({run.name.rsplit("-", 1)[1] for run in runs}) == len(runs)


def test_another_rule_scores_the_same_responses(smoke: Path, tmp_path: Path) -> None:
    shutil.copytree(smoke, tmp_path / "outputs", symlinks=True)
    before, table = artifacts(tmp_path / "outputs"), json.loads((smoke / "latest" / "table.json").read_text())
    printed = finish(start(tmp_path / "outputs", "evaluate.matching=substrings"))
    assert "60 steps, 17 to compute" in printed
    made = artifacts(tmp_path / "outputs")
    assert {name.partition("-")[0] for name in made.keys() - before.keys()} == {"score"}
    assert {name: made[name] for name in before} == before
    lenient = json.loads((tmp_path / "outputs" / "latest" / "table.json").read_text())
    for row, other in zip(table["rows"], lenient["rows"], strict=True):
        assert row["evaluations"] != other["evaluations"]
        assert all(other["scores"][key]["mean"] >= row["scores"][key]["mean"] for key in row["scores"] if "qa/" in key)
    assert len(list((tmp_path / "outputs" / "wandb").glob("offline-run-*"))) == (7 + 13 + 1) + (13 + 1)


def test_killed_three_times_the_table_is_the_same(outputs: Path, tmp_path: Path) -> None:
    for seconds in (9.0, 16.0, 11.0):
        process = start(tmp_path)
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    finish(start(tmp_path))
    assert (tmp_path / "latest" / "table.json").read_bytes() == (outputs / "latest" / "table.json").read_bytes()
    assert artifacts(tmp_path) == artifacts(outputs)


def test_one_failing_step_costs_its_rows_alone(outputs: Path) -> None:
    process = start(outputs, "name=failing", "train.stages.sqa.max_length=3")
    printed, _ = process.communicate(timeout=900)
    assert process.returncode == 1
    assert "max_length=3 leaves none" in printed
    table = json.loads((outputs / "grids" / "failing" / "table.json").read_text())
    states = {row["strategy"]: row["state"] for row in table["rows"]}
    assert states.pop("original") == "complete"
    assert set(states.values()) <= {"failed", "not run"}
    kept = list((outputs / "grids" / "failing" / "failures").iterdir())
    assert kept and all("Traceback" in file.read_text() for file in kept)
