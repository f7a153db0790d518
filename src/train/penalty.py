"""A method's penalty, as a gradient on the weights that the optimizer updates.

These are in float32 whatever the model's type is, and under ZeRO each rank has a share of them. The gradient is added
just before the optimizer's step: once for each batch, whatever the number of ranks and micro-batches.

Clipping: where the gradient of the loss is scaled down to `max_grad_norm`, the penalty's is scaled by the same factor.
So the step has the direction of loss plus penalty, and the penalty alone never causes clipping.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param
from safetensors import safe_open

from src.model.adapter import PREFIX
from src.model.checkpoint import Checkpoint
from src.train.methods import Method

FISHER = "fisher.safetensors"
PIECE = 2**24
"""Weights whose penalty is computed at a time: its temporary tensors have this size."""


class Penalty:
    """Adds the gradient of `method.penalty` to the optimizer's gradients at each of its steps."""

    def __init__(
        self, method: Method, engine: Any, optimizer: torch.optim.Optimizer, trained: Mapping[str, torch.nn.Parameter],
        clip: float, base: Path | None = None, fisher: Path | None = None,
    ):  # fmt: skip
        """To be made after `deepspeed.initialize` and before a checkpoint is loaded: the weights are those at the start
        of the stage then, and need not be kept in checkpoints.

        trained: the trained parameters by PEFT's names. base: artifact of the base model. fisher: FISHER's folder.

        Raises ValueError where `fisher` lacks a parameter.
        """
        self.method, self.engine, self.clip = method, engine, clip
        self._masters = _masters(engine, optimizer)
        start = [master.detach().clone() for master in self._masters]
        anchors: Sequence[torch.Tensor] = start
        weights: Sequence[torch.Tensor | None] = [None] * len(start)
        if method.fisher:
            assert fisher is not None
            weights = self._laid_out(trained, start, _fisher(fisher / FISHER, trained))
        if method.anchor == "base":
            assert base is not None
            anchors = self._laid_out(trained, start, _base(base, trained))
        self._beside = {id(m): (a, w) for m, a, w in zip(self._masters, anchors, weights, strict=True)}
        self._norm: float | None = None
        self._value = 0.0
        optimizer.register_step_pre_hook(self._pull)

    def begin(self, norm: float | None) -> None:
        """To be called before each step. norm: of the loss's gradient before clipping; None where DeepSpeed's own
        optimizer computes it."""
        self._norm, self._value = norm, 0.0

    def value(self) -> float:
        """The penalty before the last step, over all ranks, which must all ask for it."""
        value = self._value
        if self.engine.zero_optimization() and self.engine.world_size > 1:
            total = torch.tensor(value, dtype=torch.float64, device=self.engine.device)
            torch.distributed.all_reduce(total)
            value = total.item()
        return value

    def _pull(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """The optimizer's hook. DeepSpeed may call for a step in several parts, each with some of the weights."""
        for group in optimizer.param_groups:
            for master in group["params"]:
                anchor, weights = self._beside[id(master)]
                flat, gradient = master.detach().view(-1), master.grad.view(-1)
                factor = self._clipped()
                for begin in range(0, flat.numel(), PIECE):
                    part = slice(begin, begin + PIECE)
                    piece = flat[part].clone().requires_grad_()
                    with torch.enable_grad():
                        value = self.method.penalty(
                            piece, anchor.view(-1)[part], None if weights is None else weights.view(-1)[part]
                        )
                        (pull,) = torch.autograd.grad(value, piece)
                    gradient[part].add_(pull, alpha=factor)
                    self._value += value.item()

    def _clipped(self) -> float:
        """The factor by which the loss's gradient was scaled for this step."""
        # DeepSpeed's optimizers know the norm before they take a step, the engine only afterwards
        norm = self.engine.optimizer._global_grad_norm if self._norm is None else self._norm
        return min(1.0, self.clip / (float(norm) + 1e-6))

    def _laid_out(
        self, trained: Mapping[str, torch.nn.Parameter], start: list[torch.Tensor],
        values: Iterator[tuple[str, torch.Tensor]],
    ) -> list[torch.Tensor]:  # fmt: skip
        """`values`, a tensor for each trained parameter, in the layout of the optimizer's weights.

        They are written into these weights and copied from there. `start` is written back.
        """
        sharded = self.engine.zero_optimization()
        if not sharded:
            places = dict(zip(trained, _places(self._masters, list(trained.values())), strict=True))
        with torch.no_grad():
            for name, value in values:
                if not sharded:
                    places[name].copy_(value.view(-1))
                elif hasattr(trained[name], "ds_id"):
                    own: Any = trained[name]
                    size, rank = own.ds_tensor.ds_numel, torch.distributed.get_rank()
                    whole = torch.nn.functional.pad(
                        value.view(-1).float(), (0, size * self.engine.world_size - value.numel())
                    )
                    safe_set_local_fp32_param(own, whole[rank * size : (rank + 1) * size])
                else:
                    safe_set_full_fp32_param(trained[name], value.float())
            made = [master.detach().clone() for master in self._masters]
            for master, before in zip(self._masters, start, strict=True):
                master.copy_(before)
        return made


def _masters(engine: Any, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """The tensors that the optimizer updates: the parameters, or DeepSpeed's flat copies in float32."""
    if engine.zero_optimization_stage() == 3:  # between two steps ZeRO-3 takes them away from the optimizer
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    return [master for group in optimizer.param_groups for master in group["params"]]


def _places(masters: list[torch.Tensor], parameters: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    """Where each parameter stands in the weights of an optimizer that shares out nothing, as flat views."""
    if len(masters) == len(parameters):
        return [master.detach().view(-1) for master in masters]
    (flat,) = masters
    return list(flat.detach().split([parameter.numel() for parameter in parameters]))


def _fisher(file: Path, trained: Mapping[str, torch.nn.Parameter]) -> Iterator[tuple[str, torch.Tensor]]:
    with safe_open(file, framework="pt") as opened:
        known = set(opened.keys())
        for name in trained:
            if name not in known:
                raise ValueError(f"{file} has no {name}, which is trained: it must be of the same train.adapter")
            yield name, opened.get_tensor(name)


def _base(base: Path, trained: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """The base's weights; 0 for LoRA's, whose product is 0 in the base."""
    checkpoint = Checkpoint(base / "model")
    for name, parameter in trained.items():
        if "lora_" in name:
            count = parameter.ds_numel if hasattr(parameter, "ds_id") else parameter.numel()
            yield name, torch.zeros(count)
        else:
            yield name, checkpoint.tensor(name.removeprefix(PREFIX).replace(".base_layer", ""))
