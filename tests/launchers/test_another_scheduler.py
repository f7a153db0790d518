"""Another scheduler is one folder in launchers/ and one YAML: every command works with it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from launchers.snapshot import COPIED
from src.grid.place import VARIABLE
from tests.conftest import ROOT

YAML = """# Jobs are processes of this machine.
_target_: hydra_plugins.palimpsest.SchedulerLauncher
scheduler: processes
pack_minutes: 100
snapshot: false
wait: false
"""


class Repository:
    """A copy of the repository that has the scheduler."""

    def __init__(self, root: Path) -> None:
        self.root, self.spool = root / "repository", root / "spool"
        for name in COPIED:
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "tests" / "launchers" / "processes", self.root / "launchers" / "processes")
        shutil.copyfile(ROOT / "pyproject.toml", self.root / "pyproject.toml")
        (self.root / "conf" / "hydra" / "launcher" / "processes.yaml").write_text(YAML)
        outside = {key: value for key, value in os.environ.items() if key != VARIABLE}
        self.environment = outside | {"SPOOL": str(self.spool), "OMP_NUM_THREADS": "1"}

    def call(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"src.{module}", *arguments]
        return subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False, timeout=600
        )

    def states(self) -> dict[str, str]:
        """Label of each step -> its state."""
        told = json.loads(self.call("status", "--json").stdout)
        assert told["fault"] is None
        steps = [*told["steps"], told["report"]]
        return {each["step"].rpartition("-")[0] or each["step"]: each["state"] for each in steps}


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    made = Repository(tmp_path)
    yield made
    for process in made.spool.glob("*/process"):
        with suppress(ProcessLookupError):
            os.killpg(int(process.read_text()), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.integration
def test_every_command_works_with_another_scheduler(repository: Repository) -> None:
    overrides = ["strategy=none", "profile=smoke", "train.ranks=2", "hydra/launcher=processes"]
    done = repository.call("run", *overrides, "plan_only=true")
    assert done.returncode == 0 and "jobs and the report: about" in done.stdout, done.stderr
    assert not repository.spool.exists(), "a plan submits nothing"
    done = repository.call("run", *overrides, "hydra.launcher.resources.merge.minutes=0")
    assert done.returncode == 1 and "+hydra.launcher.resources.merge.minutes=.. adds it" in done.stderr

    done = repository.call("run", *overrides, "name=first")
    assert done.returncode == 0 and " and the report, 0 cached" in done.stdout, done.stderr
    jobs = len(list(repository.spool.iterdir()))
    done = repository.call("cancel", "first")
    assert done.returncode == 0 and re.match(rf"\d+ of {jobs} jobs cancelled", done.stdout), done.stderr
    assert repository.states()["report"] == "cancelled"

    done = repository.call("retry", "first", "--frozen")
    assert done.returncode == 0 and "submitted as" in done.stdout, done.stderr
    again = repository.call("run", *overrides, "name=first")
    assert "All that is missing was already submitted" in again.stdout, again.stdout + again.stderr
    done = repository.call("status", "first", "--watch")
    assert done.returncode == 0, done.stdout + done.stderr
    states = repository.states()
    assert set(states.values()) <= {"done", "cached"} and states["train-sqa"] == "done"
    records = (repository.root / "outputs/grids/first/jobs.jsonl").read_text().splitlines()
    assert {json.loads(line)["scheduler"] for line in records} == {"processes"}
    printed = repository.call("logs", "first", "train-asr").stdout
    assert "joins as rank 1 of 2" in printed and "train-asr" in printed and "/spool/" in printed
    assert "it has no jobs" not in repository.call("cancel", "first").stdout
    there = repository.call("doctor", "strategy=none", "profile=smoke", "hydra/launcher=processes")
    assert "cluster" in there.stdout, there.stderr


def test_nothing_outside_its_folder_names_slurm() -> None:
    """What the commands of SLURM and its variables are called stands in launchers/slurm/."""
    names = re.compile(r"slurm|sbatch|squeue|sacct|scancel|scontrol|\bsrun\b", re.IGNORECASE)
    files = [*ROOT.glob("src/**/*.py"), *ROOT.glob("launchers/**/*.py"), *ROOT.glob("conf/**/*.yaml")]
    own = [ROOT / "launchers" / "slurm", ROOT / "conf" / "hydra" / "launcher"]
    found = [file for file in files if not any(file.is_relative_to(each) for each in own)]
    assert [str(file) for file in found if names.search(file.read_text(encoding="utf-8"))] == []
