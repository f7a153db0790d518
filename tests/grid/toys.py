"""Steps that compute in no time: they stand in for the real kinds, so that the machinery around them can be tested."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from src.grid.context import Context
from src.grid.row import Row
from src.grid.step import Inputs, Step

SECONDS, MEGABYTES = 1.0, 0.001
"""What a row estimates for each toy."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Toy(Step):
    """Adds the inputs' numbers to its own; counts its runs in the file `counter`; sleeps, fails or ends as told."""

    needs: ClassVar[tuple[str, ...]] = ("decimal",)

    named: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, Step] = field(default_factory=dict)
    posing: str = ""
    """The kind that it passes for, where that is not its own."""

    @property
    def kind(self) -> str:
        return self.posing or type(self).__name__.lower()

    @property
    def label(self) -> str:
        return self.named

    @property
    def ranks(self) -> int:
        return int(self.options.get("processes", 1))

    @property
    def alone(self) -> bool:
        return bool(self.options.get("alone"))

    def run(self, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
        config = self.options
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
        number = config.get("number", 1) + sum(int((folder / "number.txt").read_text()) for folder in inputs.values())
        (out / "parts").mkdir()
        (out / "number.txt").write_text(f"{number}\n")
        (out / "parts" / "twice.txt").write_text(f"{2 * number}\n")
        return {"number": number}


@dataclass(frozen=True, kw_only=True, eq=False)
class Light(Toy):
    """A toy that imports nothing."""

    needs = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Model(Toy):
    """A toy that uses a GPU where there is one."""

    gpu = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranks(Toy):
    """Each rank leaves a file; rank 0 waits for all and gathers what they say."""

    def run(self, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
        config = self.options
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if rank == config.get("fail"):
            raise ValueError(f"rank {rank} was told to fail")
        saw_devices(config, f"{context.label}-{os.environ['LOCAL_RANK']}")
        if "counter" in config:
            with open(config["counter"], "a", encoding="utf-8") as stream:
                stream.write(f"{rank} {os.getpid()}\n")
        told = f"{os.environ['LOCAL_RANK']} of {size} at {os.environ['MASTER_PORT']}"
        (context.work / f"rank-{rank}").write_text(told)
        while rank == 0 or "fail" in config or "counter" in config:
            files = sorted(context.work.glob("rank-*"))
            if len(files) == size and "counter" not in config:
                said = [file.read_text() for file in files]
                (out / "said.txt").write_text("\n".join(said))
                return {"said": said}
            time.sleep(0.02)
        return {}


@dataclass(frozen=True, kw_only=True, eq=False)
class Models(Ranks):
    """Ranks that use GPUs where there are some."""

    gpu = True


def saw_devices(config: Mapping[str, Any], label: str) -> None:
    """Note in the file `devices` which GPUs this process sees."""
    if "devices" in config:
        with open(config["devices"], "a", encoding="utf-8") as stream:
            stream.write(f"{label} {os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')}\n")


def toy(label: str, number: int = 1, inputs: Mapping[str, Step] | None = None, **options: Any) -> Toy:
    """A toy step."""
    return Toy(named=label, options={"number": number, **options}, sources=inputs or {})


def posing(kind: str, label: str, inputs: Mapping[str, Step] | None = None, **options: Any) -> Toy:
    """A toy step that passes for one of another kind."""
    return Toy(named=label, options=options, sources=inputs or {}, posing=kind)


def toy_row(name: str, evaluate: Step, curve: Mapping[str, Step] | None = None, /, **seconds: float) -> Row:
    """A row that ends in the toy step `evaluate`. seconds: what it estimates, by label."""
    estimate = dict.fromkeys(("toy", "light", "model", "ranks", "models"), (SECONDS, MEGABYTES))
    estimate |= {label: (each, MEGABYTES) for label, each in seconds.items()}
    return Row(
        name=name, label=name, seed=0, config={"strategy": name}, evaluate=evaluate, curve=dict(curve or {}),
        estimate=estimate,
    )  # fmt: skip
