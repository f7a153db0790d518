"""The local launcher on toy steps: order, failures, interruptions at any moment, several processes at once."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from launchers.local import usable
from src.grid.devices import visible
from src.grid.lease import started

ROOT = Path(__file__).resolve().parents[2]


def spec_of(*steps: tuple) -> list:
    return [[*step, *({}, {}, 1)[len(step) - 2 :]] for step in steps]


class Driver:
    """Starts drivers on one outputs folder, and stops those that a test leaves behind."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, spec: list, gpus: int | None = None) -> subprocess.Popen[str]:
        file = self.root / f"spec-{len(self.processes)}.json"
        file.write_text(json.dumps(spec))
        command = [sys.executable, "-m", "tests.launchers.driver", str(self.root), str(file)]
        command += [] if gpus is None else [str(gpus)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self.processes.append(process)
        return process

    def run(self, spec: list, gpus: int | None = None) -> tuple[int, str]:
        process = self.start(spec, gpus)
        output, _ = process.communicate(timeout=240)
        return process.returncode, output

    def numbers(self) -> dict[str, str]:
        return {file.parent.name[:-9]: file.read_text().strip() for file in self.root.glob("store/*/number.txt")}

    def runs(self) -> list[tuple[str, int]]:
        lines = (self.root / "counter").read_text().split("\n")[:-1]
        return [(line.split()[0], int(line.split()[1])) for line in lines]

    def saw(self) -> dict[str, str]:
        """Step (with its local rank, if it has several) -> the GPUs that its process saw."""
        lines = (self.root / "devices").read_text().split("\n")[:-1]
        return {label: seen for label, _, seen in (line.partition(" ") for line in lines)}

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


def test_steps_that_are_alone_run_one_at_a_time_and_other_steps_beside_them(driver: Driver) -> None:
    """The first waits for the start of the other step, which the second, more urgent, does not keep from it."""
    counter = driver.root / "counter"
    alone = {"alone": True, "light": True, "counter": str(driver.root / "alone"), "gate": str(counter)}
    spec = spec_of(
        ("base", 1, {}, {"light": True}),
        ("m", 2, {"base": "base"}, alone),
        ("n", 3, {"base": "base"}, alone),
        ("t", 4, {"base": "base"}, {"light": True, "counter": str(counter)}),
        ("u", 5, {"n": "n"}, {"light": True}),
    )
    code, output = driver.run(spec)
    assert code == 0, output
    events = re.findall(r"(started|done) +(\w)-", output)
    assert events.index(("done", "n")) < events.index(("started", "m"))
    assert events.index(("started", "t")) < events.index(("done", "n"))


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


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_say_what_is_complete_and_exit_130(driver: Driver, sent: int) -> None:
    counter, gate = driver.root / "counter", driver.root / "gate"
    spec = diamond(counter, b={"gate": str(gate)}, c={"gate": str(gate)})
    process = driver.start(spec)
    until(lambda: counter.exists() and driver.counted() == ["a", "b", "c"])
    (os.killpg if sent == signal.SIGINT else os.kill)(process.pid, sent)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 130, output
    assert "1 of 4 steps are complete" in output
    assert "Traceback" not in output
    assert all(started(pid) is None for _, pid in driver.runs())
    leases = [json.loads(file.read_text()) for file in driver.root.glob("store/.work/*/lease.*")]
    assert leases == [{"released": True}, {"released": True}]

    gate.touch()
    code, output = driver.run(spec)
    assert code == 0 and driver.numbers()["d"] == "1112"


def test_steps_begin_again_when_the_process_that_starts_them_is_killed(driver: Driver) -> None:
    counter, gate = driver.root / "counter", driver.root / "gate"
    spec = diamond(counter, b={"gate": str(gate)}, c={"gate": str(gate)})
    process = driver.start(spec)
    until(lambda: counter.exists() and driver.counted() == ["a", "b", "c"])
    before = driver.runs()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (server,) = [pid for pid in children if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(int(server), signal.SIGKILL)
    until(lambda: driver.counted() == ["a", "b", "b", "c", "c"], 120)
    gate.touch()
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0 and "Traceback" not in output, output
    assert "again     b-" in output and "again     c-" in output
    assert driver.counted() == ["a", "b", "b", "c", "c", "d"] and driver.numbers()["d"] == "1112"
    assert all(started(pid) is None for _, pid in before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("a file system can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("when", ["before", "while a step runs"])
def test_a_full_disk_is_said_and_the_same_command_goes_on(driver: Driver, small_disk: Path, when: str) -> None:
    counter, gate = driver.root / "counter", driver.root / "gate"
    full = Driver(small_disk)
    spec = diamond(counter, b={"gate": str(gate)})
    filler = small_disk / "filler"
    if when == "before":
        filler.write_bytes(bytes(3_500_000))
        gate.touch()
        code, output = full.run(spec)
    else:
        process = full.start(spec)
        until(lambda: counter.exists() and driver.counted() == ["a", "b", "c"])
        with suppress(OSError), filler.open("wb", buffering=0) as stream:
            while stream.write(bytes(4096)):
                pass
        gate.touch()
        output, _ = process.communicate(timeout=240)
        code = process.returncode
    assert code == 1 and f"no space left in {small_disk}/store" in output, output
    assert "Traceback" not in output
    filler.unlink()
    code, output = full.run(spec)
    assert code == 0 and full.numbers()["d"] == "1112", output


def test_two_drivers_share_the_steps(driver: Driver) -> None:
    counter = driver.root / "counter"
    slow = {label: {"sleep": 0.5} for label in "abc"}
    processes = [driver.start(diamond(counter, **slow)) for _ in range(2)]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
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
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "rank 1 was killed by signal 9 (SIGKILL)" in output
    assert all(started(pid) is None for _, pid in driver.runs())


def cards(driver: Driver, **config: Any) -> dict[str, Any]:
    return {"devices": str(driver.root / "devices"), **config}


def test_a_step_with_a_model_has_a_gpu_to_itself_and_the_others_see_none(driver: Driver) -> None:
    """Both models run at once, each waiting for the other's start; so does the step without one."""
    files = [driver.root / name for name in ("first", "second", "third")]
    spec = spec_of(
        ("a", 1, {}, cards(driver, gpu=True, counter=str(files[0]), gate=str(files[1]))),
        ("b", 2, {}, cards(driver, gpu=True, counter=str(files[1]), gate=str(files[2]))),
        ("c", 3, {}, cards(driver, counter=str(files[2]), gate=str(files[0]))),
    )
    code, output = driver.run(spec, gpus=2)
    assert code == 0, output
    saw = driver.saw()
    assert sorted(saw) == ["a", "b", "c"] and {saw["a"], saw["b"]} == {"0", "1"} and saw["c"] == ""


def test_a_step_waits_for_a_gpu_and_one_without_goes_on(driver: Driver) -> None:
    """With one GPU, the second model starts when the first has ended: the first ends after the step without a GPU."""
    counter, free = driver.root / "counter", driver.root / "free"
    model = {"gpu": True, "counter": str(counter)}
    spec = spec_of(
        ("a", 1, {}, cards(driver, **model, gate=str(free), sleep=0.3)),
        ("b", 2, {}, cards(driver, **model, gate=str(free), sleep=0.3)),
        ("c", 3, {}, cards(driver, counter=str(free))),
    )
    code, output = driver.run(spec, gpus=1)
    assert code == 0, output
    assert driver.saw() == {"a": "0", "b": "0", "c": ""}
    events = re.findall(r"(started|done) +(\w)-", output)
    assert events.index(("started", "b")) > events.index(("done", "a"))
    assert events.index(("started", "c")) < events.index(("done", "a"))


def test_ranks_get_as_many_gpus_and_are_not_overtaken(driver: Driver) -> None:
    """The ranks need both GPUs while a holds one: b, less urgent, does not take the other before them."""
    counter = driver.root / "counter"
    spec = spec_of(
        ("a", 1, {}, cards(driver, gpu=True, sleep=0.5, counter=str(counter))),
        ("r", 2, {}, cards(driver, gpu=True), 2),
        ("b", 3, {}, cards(driver, gpu=True, counter=str(counter))),
    )
    code, output = driver.run(spec, gpus=2)
    assert code == 0, output
    saw = driver.saw()
    assert saw["r-0"] == saw["r-1"] and sorted(saw["r-0"].split(",")) == ["0", "1"]
    events = re.findall(r"(started|done) +(\w)-", output)
    assert events.index(("done", "a")) < events.index(("started", "r")) < events.index(("started", "b"))


def test_with_no_gpu_asked_for_nobody_sees_one(driver: Driver) -> None:
    code, output = driver.run(spec_of(("a", 1, {}, cards(driver, gpu=True)), ("b", 2, {}, cards(driver))), gpus=0)
    assert code == 0, output
    assert driver.saw() == {"a": "", "b": ""}


SMI = """#!/bin/sh
echo '0, GPU-aa11, NVIDIA RTX A6000, 49140, 8.6'
echo '1, GPU-bb22, NVIDIA RTX A6000, 49140, 8.6'
echo '2, GPU-cc33, Tesla V100-SXM2-32GB, 32768, 7.0'
"""


@pytest.mark.parametrize(
    ("told", "gpus", "wanted"),
    [
        (None, None, ["0", "1", "2"]),
        (None, 2, ["0", "1"]),
        ("2,0", None, ["2", "0"]),
        ("2,0", 1, ["2"]),
        ("GPU-bb22", None, ["GPU-bb22"]),
        ("1,7,0", None, ["1"]),  # as CUDA reads it: up to the first that there is not
        ("", None, None),
        (None, 0, []),
    ],
)
def test_the_gpus_are_those_of_nvidia_smi_that_are_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str | None, gpus: int | None, wanted: list[str] | None
) -> None:
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if told is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
    assert usable(gpus) == wanted
    if told is None and gpus is None:
        assert [(d.name, d.capability) for d in visible()][::2] == [
            ("NVIDIA RTX A6000", 8.6), ("Tesla V100-SXM2-32GB", 7.0),
        ]  # fmt: skip
        assert visible()[0].memory_gb == pytest.approx(47.99, abs=0.01)


def test_without_nvidia_smi_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert usable(None) is None
    assert usable(2) == ["0", "1"]  # told by hand


def test_more_ranks_than_gpus_are_refused_before_anything_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "src.run", "strategy=none", "profile=smoke", f"outputs={tmp_path / 'outputs'}",
               "train.ranks=4", "hydra.launcher.gpus=2"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "train.ranks=4: there are 2 GPUs" in done.stderr
    assert not (tmp_path / "outputs").exists()


SMALL = "0, GPU-aa11, NVIDIA GeForce RTX 4090, 24564, 8.9\n"


@pytest.mark.parametrize(
    ("cards", "more", "message"),
    [
        (0, [], "the plan is for a GPU (gpu), and there is none here"),
        (1, [], "there are 1 GPUs here, and each rank needs one: set train.ranks=1 train.loss_average=examples,"),
        (4, [], "each of its 4 GPUs has 23.9"),
        (0, ["hydra.launcher.gpus=0"], None),
        (0, ["hydra.launcher.gpus=0", "train.fused_loss=true"], "fused_loss=true needs liger-kernel: pip"),
        (0, ["hydra/launcher=slurm"], "jobs of utterances, train, generate have none: take a hydra/launcher"),
        (0, ["hydra/launcher=slurm_gpu"], None),
        (0, ["gpu=null"], None),
    ],
)
def test_a_plan_for_other_gpus_than_there_are_is_not_begun(
    cards: int, more: list[str], message: str | None, tmp_path: Path
) -> None:
    """Said below the plan too, whose exit code is that of the GPU that is named."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\ncat <<E\n" + SMALL * cards + "E\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    environment["PATH"] = f"{tmp_path}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "src.run", "strategy=none", "profile=paper", f"outputs={tmp_path / 'outputs'}",
               "plan_only=true", *more]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = done.stdout.partition("It would not be begun: ")[2]
    assert (message in " ".join(told.split())) if message else not told, done.stdout[-1500:]
    if message:
        command.remove("plan_only=true")
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and message in done.stderr, done.stderr
    assert not (tmp_path / "outputs").exists()
