"""The SLURM launcher on a real cluster of four nodes, by the commands that a user types.

Every table is compared with the local launcher's, to the byte, and every artifact by its checksums.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.launchers.cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

LONG = ["strategy=none", "profile=smoke", "train.stages.sqa.epochs=130"]
"""A row whose SQA stage takes longer than the shortest time limit of SLURM, a minute."""


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds:g} s"
        time.sleep(0.2)
    return found


def artifacts(outputs: Path) -> dict[str, Any]:
    """Checksums of every file of every artifact."""
    return {
        file.parent.name: json.loads(file.read_text())["files"] for file in (outputs / "store").glob("*/manifest.json")
    }


def with_store(outputs: Path, source: Path, *without: str) -> Path:
    """An outputs folder whose store has the artifacts of another, but for those whose labels match `without`."""
    for folder in (source / "store").iterdir():
        label = folder.name.rpartition("-")[0]
        if label and not any(fnmatch(label, pattern) for pattern in without):
            shutil.copytree(folder, outputs / "store" / folder.name, copy_function=os.link)
    return outputs


class User:
    """Types commands, in a checkout of the project, on a cluster."""

    def __init__(self, cluster: Cluster, outputs: Path, home: Path = ROOT) -> None:
        self.cluster, self.outputs, self.home = cluster, outputs, home

    def start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        environment = os.environ | self.cluster.environment | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments], cwd=self.home, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def type(self, module: str, *arguments: str, code: int = 0) -> str:
        process = self.start(module, *arguments)
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == code, printed
        return printed

    def submit(self, *overrides: str, code: int = 0) -> str:
        return self.type("src.run", "-m", "hydra/launcher=slurm", f"outputs={self.outputs}", *overrides, code=code)

    def status(self) -> dict[str, Any]:
        """What `src.status --json` says; every step has a state."""
        seen: dict[str, Any] = json.loads(self.type("src.status", "--json", "--outputs", str(self.outputs)))
        planned = {step["name"] for step in self.plan()["steps"]}
        assert {step["step"] for step in seen["steps"]} == planned
        assert all(step["state"] for step in seen["steps"])
        return seen

    def plan(self) -> dict[str, Any]:
        plan: dict[str, Any] = json.loads((self.outputs / "latest" / "plan.json").read_text())
        return plan

    def step(self, start: str) -> dict[str, Any]:
        """The state of the one step whose name begins so."""
        (found,) = [step for step in self.status()["steps"] if step["step"].startswith(start)]
        return found

    def wait(self, seconds: float = 900) -> dict[str, Any]:
        """Wait until no job of the cluster is left."""
        until(lambda: not self.cluster.jobs(), seconds, "the end of all jobs")
        return self.status()

    def trained(self, start: str = "train-sqa") -> int:
        """How many steps of training are behind the running attempt."""
        for file in (self.outputs / "store" / ".work").glob(f"{start}-*/progress.json"):
            try:
                return int(json.loads(file.read_text())["done"])
            except (OSError, ValueError, KeyError):
                continue
        return 0

    def processes(self, start: str = "train-sqa") -> list[int]:
        """Pids of what computes the step: they write into its log."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                log = os.readlink(entry / "fd" / "1")
            except OSError:
                continue
            if log.startswith(str(self.outputs)) and f"/logs/{start}-" in log:
                found.append(int(entry.name))
        return found

    def computed(self) -> dict[str, int]:
        """How often each step was computed, by the logs of all grids."""
        count: dict[str, int] = {}
        for log in self.outputs.glob("grids/*/logs/*.log"):
            count[log.stem] = count.get(log.stem, 0) + log.read_text().count(": published after ")
        return {name: times for name, times in count.items() if times}


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> Iterator[User]:
    yield User(cluster, tmp_path / "outputs")
    cluster.clear()


@pytest.fixture(scope="module")
def long(cluster: Cluster, smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs folder of the long row, by the local launcher, undisturbed."""
    outputs = with_store(tmp_path_factory.mktemp("long"), smoke)
    command = [sys.executable, "-m", "src.run", "-m", *LONG, f"outputs={outputs}"]
    environment = os.environ | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=600)
    return outputs


def same(user: User, reference: Path) -> None:
    """Every artifact and the whole table are those of the reference."""
    made, wanted = artifacts(user.outputs), artifacts(reference)
    assert {name: made[name] for name in made if made[name] != wanted.get(name)} == {}
    assert (user.outputs / "latest" / "table.json").read_bytes() == (reference / "latest" / "table.json").read_bytes()
    assert all(times == 1 for times in user.computed().values())


def test_the_table_without_a_driver_or_its_source(user: User, smoke: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in ("src", "launchers", "conf", "sweeps"):
        shutil.copytree(ROOT / name, checkout / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    typist = User(user.cluster, user.outputs, checkout)
    begun = time.monotonic()
    printed = typist.submit("strategy=glob(*)", "profile=smoke")
    print(f"submitted in {time.monotonic() - begun:.1f} s")
    assert "60 submitted as" in printed and "GPU-hours" in printed and "src.status" in printed
    shutil.rmtree(checkout / "src")  # what is queued does not need it
    shutil.rmtree(checkout / "conf")
    seen = user.status()
    assert {step["state"] for step in seen["steps"]} <= {"waiting", "queued", "running", "done"}
    again = user.submit("strategy=glob(*)", "profile=smoke")
    assert "already submitted" in again
    seen = user.wait()
    assert seen["counts"] == {"done": 60}
    assert seen["report"]["state"] == "done"
    assert artifacts(user.outputs).keys() == artifacts(smoke).keys()
    same(user, smoke)


def test_requeued_and_killed_and_cancelled_it_ends_with_the_same_bits(user: User, long: Path, tmp_path: Path) -> None:
    """Two grids side by side: one is requeued while the controller restarts, one loses its processes and its job."""
    one = User(user.cluster, with_store(tmp_path / "one", long, "train-sqa", "generate-sqa", "score-sqa"))
    two = User(user.cluster, with_store(tmp_path / "two", long, "train-sqa", "generate-sqa", "score-sqa"))
    for each in (one, two):
        each.submit(*LONG, "hydra.launcher.checkpoint_minutes=0.05")
    until(lambda: min(one.trained(), two.trained()) > 100, 360, "training")
    assert one.step("train-sqa")["state"] == "running"
    user.cluster.restart_controller()
    user.cluster.run("scontrol", "requeue", one.step("train-sqa")["job"])
    (child,) = two.processes()
    os.kill(child, signal.SIGKILL)
    until(lambda: one.step("train-sqa")["requeued"] == 1 and one.trained() > 200, 360, "training after the requeue")
    until(lambda: two.step("train-sqa")["requeued"] == 1 and two.trained() > 200, 360, "training after the kill")
    two.type("src.cancel", two.outputs.joinpath("latest").resolve().name, "--outputs", str(two.outputs))
    until(lambda: two.step("train-sqa")["state"] == "cancelled", 240, "the cancelled state")
    assert two.step("generate-sqa")["state"] in ("blocked", "cancelled")
    printed = two.type("src.retry", two.outputs.joinpath("latest").resolve().name, "--outputs", str(two.outputs))
    assert "3 submitted as 2 jobs" in printed
    one.wait()
    same(one, long)
    same(two, long)


def test_a_dead_node_and_a_short_time_limit_end_with_the_same_bits(user: User, long: Path, tmp_path: Path) -> None:
    """Two grids side by side: the node of one dies, the other's limit is shorter than its stage."""
    one = User(user.cluster, with_store(tmp_path / "one", long, "train-sqa", "generate-sqa", "score-sqa"))
    two = User(user.cluster, with_store(tmp_path / "two", long, "train-sqa", "generate-sqa", "score-sqa"))
    one.submit(*LONG, "hydra.launcher.checkpoint_minutes=0.05")
    two.submit(*LONG, "hydra.launcher.resources.train.minutes=1")
    until(lambda: one.trained() > 100, 360, "training")
    job = one.step("train-sqa")["job"]
    node = user.cluster.run("squeue", "-h", "-j", job, "-o", "%N").stdout.strip()
    user.cluster.kill_node(node)
    assert one.step("train-sqa")["state"] in ("running", "queued")
    until(lambda: one.step("train-sqa")["requeued"] == 1, 480, "the start on another node")
    one.wait()
    assert one.step("train-sqa")["requeued"] == 1
    assert two.step("train-sqa")["requeued"] >= 1
    same(one, long)
    same(two, long)


def test_a_failing_strategy_costs_its_row_and_retry_completes_it(user: User, smoke: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in ("src", "launchers", "conf", "sweeps"):
        shutil.copytree(ROOT / name, checkout / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    broken = checkout / "conf" / "strategy" / "scale_15.yaml"
    whole = broken.read_text()
    broken.write_text(whole + "train:\n  stages:\n    sqa: {max_length: 3}\n")
    without = [f"{kind}-{model}*" for kind in ("generate", "score") for model in ("merge", "discount", "sqa")]
    with_store(user.outputs, smoke, "train-sqa", *without)
    typist = User(user.cluster, user.outputs, checkout)
    typist.submit("strategy=glob(*)", "profile=smoke")
    seen = user.wait()
    states = {step["step"]: step["state"] for step in seen["steps"]}
    (failed,) = [step for step in seen["steps"] if step["state"] == "failed"]
    assert "max_length=3 leaves none" in failed["note"]
    assert {name.rsplit("-", 1)[0] for name in states if states[name] == "blocked"} == {
        "discount-15-sqa", "generate-discount-15-sqa", "score-discount-15-sqa",
    }  # fmt: skip
    grid = user.outputs / "latest"
    assert "Traceback" in (grid / "failures" / f"{failed['step']}.txt").read_text()
    rows = {row["strategy"]: row["state"] for row in json.loads((grid / "table.json").read_text())["rows"]}
    assert rows.pop("scale_15") == "failed"
    assert set(rows.values()) == {"complete"} and len(rows) == 12
    before = user.computed()
    broken.write_text(whole)
    printed = typist.type("src.retry", grid.resolve().name, "--outputs", str(user.outputs))
    assert "train.stages.sqa.max_length: 3 | " in printed
    user.wait()
    computed = {name for name, times in user.computed().items() if times > before.get(name, 0)}
    assert {name.rsplit("-", 1)[0] for name in computed} <= {
        "discount-15-sqa", "generate-discount-15-sqa", "score-discount-15-sqa",
    }  # fmt: skip
    assert json.loads((grid / "table.json").read_text())["rows"] == json.loads(
        (smoke / "latest" / "table.json").read_text()
    )["rows"]  # fmt: skip


def test_two_grids_at_once_compute_shared_steps_once(user: User, smoke: Path) -> None:
    with_store(user.outputs, smoke, "train-tts", "train-sqa", "generate*", "score*", "discount*")
    commands = [["strategy=none,scale_14"], ["strategy=none,scale_15"]]
    started = [
        user.start("src.run", "-m", "hydra/launcher=slurm", f"outputs={user.outputs}", "profile=smoke", *overrides)
        for overrides in commands
    ]
    for process in started:
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed
    user.wait()
    assert set(user.computed().values()) == {1}
    assert len(list(user.outputs.glob("grids/*/table.json"))) == 2
    made, wanted = artifacts(user.outputs), artifacts(smoke)
    assert all(made[name] == wanted[name] for name in made)


def test_ranks_on_two_nodes_one_of_which_is_killed(user: User, smoke: Path, tmp_path: Path) -> None:
    with_store(user.outputs, smoke, "train*", "generate*", "score*")
    row = ["strategy=none", "profile=smoke", "train.ranks=4", "train.stages.asr.epochs=12"]
    user.submit(*row, "hydra.launcher.resources.train.nodes=2", "hydra.launcher.checkpoint_minutes=0.02")
    until(lambda: user.trained("train-asr") > 30, 360, "training")
    job = user.step("train-asr")["job"]
    told = user.cluster.run("scontrol", "show", "job", job).stdout
    assert "NumNodes=2" in told and "NumTasks=4" in told
    os.kill(user.processes("train-asr")[-1], signal.SIGKILL)
    until(lambda: user.step("train-asr")["requeued"] == 1, 240, "the second start")
    seen = user.wait()
    assert set(seen["counts"]) <= {"done", "cached"}
    (log,) = (user.outputs / "latest" / "logs").glob("train-asr-*.log")
    hosts = {line.rsplit(" ", 1)[1] for line in log.read_text().splitlines() if "joins as rank" in line}
    assert len(hosts) == 2
    there = with_store(tmp_path / "local", smoke, "train*", "generate*", "score*")
    command = [sys.executable, "-m", "src.run", "-m", *row, f"outputs={there}"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"WANDB_MODE": "offline"}, check=True, timeout=600)
    same(user, there)


def test_what_slurm_refuses_is_one_line_and_nothing_is_left(user: User, smoke: Path) -> None:
    with_store(user.outputs, smoke, "train-sqa", "generate-*", "score-*")
    printed = user.submit("strategy=none", "profile=smoke", "hydra.launcher.partition=nope", code=1)
    assert "sbatch refused" in printed and "invalid partition" in printed.lower() and "partition=nope" in printed
    said = [line for line in printed.splitlines() if line and "HYDRA_FULL_ERROR" not in line]
    assert len(said) == 1, said
    printed = user.submit(
        "strategy=none", "profile=smoke", "hydra.launcher.resources.generate.gpus_per_node=99",
        "hydra.launcher.pack_minutes=0", code=1,
    )  # fmt: skip
    assert "gpus_per_node=99" in printed and "cancelled again" in printed
    until(lambda: not user.cluster.jobs(), 120, "the end of what was submitted")
