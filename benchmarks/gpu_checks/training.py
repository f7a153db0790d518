"""The training loop: its losses and master weights beside float32, its speed and memory beside the plan's."""

import math
import resource
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from deepspeed.utils import safe_get_full_fp32_param

from benchmarks.gpu_checks import memory, shapes
from benchmarks.gpu_checks.findings import Findings
from src.grid.context import Context
from src.machine import hours
from src.machine.memory import GIB, OVERHEAD, estimate
from src.machine.parameters import Model
from src.machine.settings import Gpu
from src.machine.training import Training, training
from src.model.adapter import adapted
from src.train.loop import Loop
from src.train.settings import Optimization

LOSSES_APART = 5e-3
"""Nats that the loss of training in bfloat16 may be from that in float32."""
MOST_MOVED = 3.3
"""Learning rates that AdamW moves a weight in a step at most, with betas 0.9 and 0.999: (1 - 0.9) / sqrt(1 - 0.999)."""


def loop(found: Findings, quick: bool) -> None:
    """Ten steps of two layers in bfloat16 and in float32, from the same weights and without dropout."""
    steps, batch, length = 10, 4, 32 if quick else 800
    config, adapter = shapes.architecture(quick, layers=2), shapes.paper_adapter(quick, dropout=0.0)
    data = shapes.examples(steps * batch, length, config.vocab_size)
    losses = {}
    for name in ("zero2_bf16", "zero2"):
        settings = shapes.optimization(quick, name, batch, length)
        model = adapted(shapes.random_model(config, torch.bfloat16), adapter, 0).to(settings.dtype)
        with shapes.alone(), tempfile.TemporaryDirectory() as work:
            trained = Loop(model, data, settings, "check", Context(Path(work), "check"), None, None, None)
            before = _masters(trained) if name == "zero2_bf16" else {}
            trained.run()
            losses[name] = trained.state["metrics"][-1]["loss"]
            if before:
                _moved(found, before, _masters(trained), settings.lr * steps * MOST_MOVED)
        del trained, model
        memory.free()
    found.figure("loss of the last step in bfloat16", losses["zero2_bf16"], "nats a token")
    found.figure("the same in float32", losses["zero2"], "nats a token")
    apart = abs(losses["zero2_bf16"] - losses["zero2"])
    found.figure("apart", apart, "nats a token")
    found.criterion(f"the losses are within {LOSSES_APART:g} of each other", apart <= LOSSES_APART)


def _masters(trained: Loop) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Some trained weights: as the optimizer has them in float32, and as the model has them."""
    kinds = ("embed_tokens", "lm_head", "q_proj.base_layer", "lora_B")
    last = {kind: name for name in trained.trained for kind in kinds if kind in name}
    weights = {kind: trained.trained[name] for kind, name in last.items()}
    return {
        kind: (safe_get_full_fp32_param(weight).cpu().clone(), weight.detach().cpu().clone())
        for kind, weight in weights.items()
    }


def _moved(
    found: Findings, before: dict[str, tuple[torch.Tensor, torch.Tensor]],
    after: dict[str, tuple[torch.Tensor, torch.Tensor]], most: float,
) -> None:  # fmt: skip
    """How far weights went; `most`: as far as AdamW can bring one."""
    moves = {kind: (after[kind][0] - master).abs() for kind, (master, _) in before.items()}
    for kind, move in moves.items():
        found.figure(f"{kind}: masters moved, mean", move.mean().item(), "")
        found.figure(f"{kind}: masters moved", (move > 0).float().mean().item(), "share")
        seen = (after[kind][1] != before[kind][1]).float().mean().item()
        found.figure(f"{kind}: weights in bfloat16 moved", seen, "share")
    found.criterion("the masters of all kinds of weights move", all(move.max() > 0 for move in moves.values()))
    found.criterion("nearly all masters of the head move", (moves["lm_head"] > 0).float().mean().item() > 0.9)
    found.criterion("no master moves further than AdamW can", all(move.max() <= most for move in moves.values()))


@dataclass(frozen=True)
class Setup:
    """One training whose speed and memory are measured."""

    deepspeed: str
    batch: int
    micro: int
    length: int
    steps: int
    checkpointing: bool = True

    def settings(self, quick: bool) -> Optimization:
        """At toy size with short examples."""
        length = 32 if quick else self.length
        changes = {"micro_batch_size": self.micro, "gradient_checkpointing": self.checkpointing}
        return shapes.optimization(quick, self.deepspeed, self.batch, length, **changes)


def speed_800(found: Findings, quick: bool) -> None:
    """Four examples of 800 tokens, as for ASR and TTS."""
    _measure(found, quick, Setup("zero2_bf16", 4, 4, 800, 20))


def speed_1200(found: Findings, quick: bool) -> None:
    """One example of 1200 tokens, as for SQA."""
    _measure(found, quick, Setup("zero2_bf16", 1, 1, 1200, 20))


def speed_whole(found: Findings, quick: bool) -> None:
    """Four examples of 800 tokens with all activations kept."""
    _measure(found, quick, Setup("zero2_bf16", 4, 4, 800, 20, checkpointing=False))


def zero2_offload(found: Findings, quick: bool) -> None:
    """As on one GPU of 24 GB: two examples at a time, the optimizer in the machine's memory."""
    _measure(found, quick, Setup("zero2_offload_bf16", 4, 2, 800, 3))


def _measure(found: Findings, quick: bool, setup: Setup) -> None:
    settings = setup.settings(quick)
    config, adapter = shapes.architecture(quick), shapes.paper_adapter(quick)
    model, plan = shapes.counted(config, adapter), training(settings)
    needed = estimate(model, plan)
    steps = 2 if quick else setup.steps
    data = shapes.examples(steps * setup.batch, settings.max_length, config.vocab_size)
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with shapes.alone(), tempfile.TemporaryDirectory() as work, memory.watch() as watched:
        weights = adapted(shapes.random_model(config, settings.dtype), adapter, 0)
        trained = Loop(weights, data, settings, "check", Context(Path(work), "check"), None, None, None)
        begun = memory.allocated()
        trained.run()
    found.gpu_figure("memory before the first step", begun, "GiB")
    found.beside("peak memory of tensors", watched.peak, "GiB", (needed.total - OVERHEAD) / GIB)
    found.beside("memory of the GPU", watched.device, "GiB", needed.total / GIB, judged=False)
    if needed.host:
        used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - host) * 1024 / GIB
        found.beside("memory of the machine", used, "GiB", needed.host / GIB, judged=False)
    for part in ("weights", "gradients", "optimizer", "activations", "recomputed", "logits", "step"):
        found.figure(f"plan: {part}", getattr(needed, part) / GIB, "GiB")
    rows = trained.state["metrics"]
    found.criterion("the loss is finite", all(math.isfinite(row["loss"]) for row in rows))
    found.figure("loss of the last step", rows[-1]["loss"], "nats a token")
    _speed(found, trained.state["throughput"], model, plan, offloaded=bool(needed.host))


def _speed(
    found: Findings, throughput: Sequence[tuple[int, float]], model: Model, plan: Training, offloaded: bool
) -> None:  # fmt: skip
    """Of the last steps that were timed together. offloaded: the plan does not count what offloading costs."""
    speed = throughput[-1][1]
    peak = Gpu(torch.cuda.get_device_name()).peak_tflops if torch.cuda.is_available() else None
    flops = hours.flops_per_token(model, plan)
    planned = peak * 1e12 * hours.UTILIZATION / flops if peak else None
    found.beside("speed", speed, "tokens/s", planned, judged=not offloaded)
    if peak:
        once = hours.flops_per_token(model, replace(plan, gradient_checkpointing=False))
        found.gpu_figure("share of the peak, recomputation not counted (MFU)", speed * once / peak / 1e12, "")
        found.gpu_figure("share of the peak, recomputation counted", speed * flops / peak / 1e12, "")
