"""ZeRO-3: memory while the model is shared out, one step, weights gathered, and a stopped training gone on with."""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.gpu_checks import memory, shapes
from benchmarks.gpu_checks.findings import Findings
from src.grid.context import Context
from src.machine.memory import GIB, OVERHEAD, estimate
from src.machine.training import training
from src.model.adapter import ADAPTER, FULL, LORA, adapted, save
from src.train.loop import Loop, gathered

LAYERS = 8
STEPS, STOP = 3, 2
SMALL_VOCABULARY = 32_768
"""Of the model that is stopped, so that its checkpoints take little time."""


class Stopped(Exception):
    """Raised in the place of ending the process."""


class Stopping(Context):
    """Asked to stop after so many steps."""

    left = STOP

    @property
    def stop_requested(self) -> bool:
        self.left -= 1
        return self.left == 0

    def stop(self) -> None:
        raise Stopped


def zero3(found: Findings, quick: bool) -> None:
    """Parameters in shares on the GPU: with one GPU, all of them."""
    _check(found, quick, "zero3_bf16")


def zero3_offload_all(found: Findings, quick: bool) -> None:
    """Parameters, optimizer and gradients in the machine's memory."""
    _check(found, quick, "zero3_offload_all_bf16")


def _check(found: Findings, quick: bool, deepspeed: str) -> None:
    length = 32 if quick else 800
    with shapes.alone(), tempfile.TemporaryDirectory() as scratch:
        _memory(found, quick, deepspeed, length, Path(scratch))
        memory.free()
        ways = {}
        for name in ("undisturbed", "again", "stopped"):
            ways[name] = _trained(quick, deepspeed, length, Path(scratch) / name, name == "stopped")
            memory.free()
    finite = all(torch.isfinite(tensor).all() for tensor in ways["undisturbed"].values())
    found.criterion("what is gathered is whole and finite", finite and all(t.numel() for t in ways["stopped"].values()))
    found.criterion("two undisturbed trainings leave the same bits", _bits(ways["undisturbed"]) == _bits(ways["again"]))
    found.criterion("a stopped one leaves the same bits", _bits(ways["undisturbed"]) == _bits(ways["stopped"]))
    apart = max((ways["undisturbed"][n].float() - t.float()).abs().max().item() for n, t in ways["stopped"].items())
    found.figure("largest difference after the stop", apart, "")


def _model(config: Any, settings: Any, adapter: Any) -> Any:
    """A model in the machine's memory, as one that was read from a checkpoint."""
    return adapted(shapes.random_model(config, settings.dtype), adapter, 0).to("cpu")


def _memory(found: Findings, quick: bool, deepspeed: str, length: int, work: Path) -> None:
    """Peak memory of sharing out, and of one step."""
    settings = shapes.optimization(quick, deepspeed, 4, length)
    config, adapter = shapes.architecture(quick, layers=LAYERS), shapes.paper_adapter(quick)
    counted, plan = shapes.counted(config, adapter), training(settings)
    needed = estimate(counted, plan)
    data = shapes.examples(4, length, config.vocab_size)
    model = _model(config, settings, adapter)
    with memory.watch() as begun:
        trained = Loop(model, data, settings, "check", Context(work, "check"), None, None, None)
    most = needed.weights + needed.optimizer + needed.gradients + needed.step
    found.gpu_figure("initialize", begun.seconds, "s")
    found.beside("initialize: peak memory of tensors", begun.peak, "GiB", most / GIB, judged=False)
    within = begun.peak <= most / GIB if found.told else None
    found.criterion("initialize: no more than weights, optimizer and gradients", within)
    with memory.watch() as stepped:
        trained.run()
    found.gpu_figure("one step", stepped.seconds, "s")
    found.beside("one step: peak memory of tensors", stepped.peak, "GiB", (needed.total - OVERHEAD) / GIB)
    found.figure("loss", trained.state["metrics"][-1]["loss"], "nats a token")


def _trained(quick: bool, deepspeed: str, length: int, folder: Path, stopped: bool) -> Mapping[str, torch.Tensor]:
    """What a training of two layers leaves. stopped: it is asked to stop in its midst, and a new one goes on."""
    settings = shapes.optimization(quick, deepspeed, 4, length)
    config = shapes.architecture(quick, 2, SMALL_VOCABULARY)
    adapter = shapes.paper_adapter(quick)
    data = shapes.examples(STEPS * 4, length, config.vocab_size)
    folder.mkdir()
    contexts = [*([Stopping(folder, "check")] if stopped else []), Context(folder, "check", attempt=2)]
    for context in contexts:
        model = _model(config, settings, adapter)
        trained = Loop(model, data, settings, "check", context, None, None, None)
        try:
            trained.run()
        except Stopped:
            del trained, model
            memory.free()
            continue
        with gathered(model):
            save(model, folder)
    return {**load_file(folder / FULL), **load_file(folder / ADAPTER / LORA)}


def _bits(tensors: Mapping[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
