"""Liger's fused loss beside the plain one: the same loss and gradients, in less memory."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from benchmarks.gpu_checks import memory, shapes
from benchmarks.gpu_checks.findings import Findings
from src.machine.activations import activations, logits
from src.machine.memory import GIB
from src.machine.parameters import Model
from src.machine.training import Training, training
from src.model.adapter import adapted
from src.train.loss import ResponseLoss, prepare
from src.train.settings import Optimization

LOSSES_APART = 1e-3
LEAST_COSINE = 0.999


def fused(found: Findings, quick: bool) -> None:
    """Four layers, 4 x 800 tokens, twice forward and back: the second time all gradients are there from the start."""
    batch, length = 4, 32 if quick else 800
    config, adapter = shapes.architecture(quick, layers=4), shapes.paper_adapter(quick, dropout=0.0)
    plain = shapes.optimization(quick, "zero2_bf16", batch, length, gradient_checkpointing=False)
    model = adapted(shapes.random_model(config, torch.bfloat16), adapter, 0)
    ids = torch.randint(config.vocab_size, (batch, length), device=model.device)
    counted = shapes.counted(config, adapter)
    ours = _twice(found, "plain", model, plain, ids, None, counted)
    by_example = [1 / (batch * (length - 1))] * batch
    _twice(found, "plain, mean over examples", model, plain, ids, by_example, counted)
    if not torch.cuda.is_available():
        _refused(found, model, plain)
        return
    theirs = _twice(found, "fused", model, replace(plain, fused_loss=True), ids, None, counted)
    apart = abs(ours[0] - theirs[0]) / ours[0]
    found.figure("losses apart", apart, "share")
    found.criterion(f"the losses differ by at most {LOSSES_APART:g} of the loss", apart <= LOSSES_APART)
    cosine = torch.nn.functional.cosine_similarity(ours[1], theirs[1], dim=0).item()
    found.figure("cosine of all gradients", cosine, "")
    found.criterion(f"the gradients' cosine is above {LEAST_COSINE}", cosine > LEAST_COSINE)


def _twice(
    found: Findings, name: str, model: torch.nn.Module, settings: Optimization, ids: torch.Tensor,
    weights: Sequence[float] | None, counted: Model,
) -> tuple[float, torch.Tensor]:  # fmt: skip
    """The loss of a token, and all gradients [elements] on the CPU; peak memory beside the plan's."""
    loss: ResponseLoss = prepare(model, settings)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = None
    summed = loss(ids, ids, None, weights)
    summed.backward()
    value = summed.item() / (ids.numel() - len(ids) if weights is None else 1)
    gradients = torch.cat([p.grad.float().flatten().cpu() for p in trained if p.grad is not None])
    del summed
    plan = replace(training(settings), zero_stage=0)
    with memory.watch() as watched:
        loss(ids, ids, None, weights).backward()
    found.beside(f"{name}: peak memory", watched.peak, "GiB", _planned(counted, plan) / GIB)
    found.gpu_figure(f"{name}: forward and back", 1000 * watched.seconds, "ms")
    found.figure(f"{name}: loss", value, "nats a token")
    memory.free()
    return value, gradients


def _planned(counted: Model, plan: Training) -> int:
    """Bytes of weights, gradients, activations and logits by the plan's formulas."""
    kept, _ = activations(counted, plan)
    return counted.all * plan.element + counted.trainable * plan.element + kept + logits(counted, plan)


def _refused(found: Findings, model: torch.nn.Module, plain: Optimization) -> None:
    """Without a GPU the product refuses in one line, and the rest cannot be told."""
    try:
        prepare(model, replace(plain, fused_loss=True))
    except ValueError as error:
        found.criterion("without a GPU it is refused in one line", str(error).count("\n") == 0)
    found.criterion(f"the losses differ by at most {LOSSES_APART:g} of the loss", None)
    found.criterion(f"the gradients' cosine is above {LEAST_COSINE}", None)
