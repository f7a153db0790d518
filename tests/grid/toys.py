"""Steps that compute in no time: they stand in for the real bodies, so that the machinery around them can be tested."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.grid.bodies import BODIES, Body
from src.grid.cell import Row
from src.grid.context import Context
from src.grid.step import Step


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, context: Context) -> dict[str, Any]:
    """Add the inputs' numbers to its own; count its runs in the file `counter`; sleep, fail, or end as it is told."""
    if "counter" in config:
        with open(config["counter"], "a", encoding="utf-8") as stream:
            stream.write(f"{context.label} {os.getpid()}\n")
    saw_devices(config, context.label)
    deadline = time.monotonic() + config.get("sleep", 0.0)
    while time.monotonic() < deadline:
        context.report(done=1, total=2, loss=0.5)
        time.sleep(0.02)
    gate = config.get("gate")
    while gate and not Path(gate).exists():
        time.sleep(0.02)
    if config.get("fail"):
        raise ValueError(f"{context.label} was told to fail")
    if "signal" in config:
        os.kill(os.getpid(), config["signal"])
    number = config["number"] + sum(int((folder / "number.txt").read_text()) for folder in inputs.values())
    (out / "parts").mkdir()
    (out / "number.txt").write_text(f"{number}\n")
    (out / "parts" / "twice.txt").write_text(f"{2 * number}\n")
    return {"number": number}


def saw_devices(config: Mapping[str, Any], label: str) -> None:
    """Note in the file `devices` which GPUs this process sees."""
    if "devices" in config:
        with open(config["devices"], "a", encoding="utf-8") as stream:
            stream.write(f"{label} {os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')}\n")


def run_ranks(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, context: Context) -> dict[str, Any]:
    """Each rank leaves a file; rank 0 waits for all and gathers what they say."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if rank == config.get("fail"):
        raise ValueError(f"rank {rank} was told to fail")
    saw_devices(config, f"{context.label}-{os.environ['LOCAL_RANK']}")
    if "counter" in config:
        with open(config["counter"], "a", encoding="utf-8") as stream:
            stream.write(f"{rank} {os.getpid()}\n")
    (context.work / f"rank-{rank}").write_text(f"{os.environ['LOCAL_RANK']} of {size} at {os.environ['MASTER_PORT']}")
    while rank == 0 or "fail" in config or "counter" in config:
        files = sorted(context.work.glob("rank-*"))
        if len(files) == size and "counter" not in config:
            said = [file.read_text() for file in files]
            (out / "said.txt").write_text("\n".join(said))
            return {"said": said}
        time.sleep(0.02)
    return {}


TOYS = {
    "toy": Body("tests.grid.toys:run", needs=("decimal",)),
    "light": Body("tests.grid.toys:run"),
    "ranks": Body("tests.grid.toys:run_ranks", needs=("decimal",)),
    "model": Body("tests.grid.toys:run", needs=("decimal",), gpu=True),
    "models": Body("tests.grid.toys:run_ranks", needs=("decimal",), gpu=True),
}
BODIES.update(TOYS)


def toy(label: str, number: int = 1, inputs: Mapping[str, Step] | None = None, **config: Any) -> Step:
    """A toy step."""
    return Step("toy", label, {"number": number, **config}, inputs or {}, seconds=1.0, megabytes=0.001)


def toy_row(name: str, evaluate: Step, curve: Mapping[str, Step] | None = None) -> Row:
    """A row that ends in the toy step `evaluate`."""
    return Row(
        name=name, label=name, seed=0, config={"strategy": name}, evaluate=evaluate,
        curve=dict(curve or {}), recognizer=None
    )
