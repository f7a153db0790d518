"""The training loop: DeepSpeed, exact averages of the loss, training methods, resumed to the bit."""

import logging
import math
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepspeed
import torch
from transformers import get_cosine_with_min_lr_schedule_with_warmup

from src.grid.context import Context, deferred_stop
from src.model.adapter import load_base
from src.model.chat import IGNORE
from src.train.averaging import factors, shares
from src.train.batches import micro_batches, plan
from src.train.checkpoint import Checkpoints
from src.train.examples import Selection
from src.train.loss import collate, prepare
from src.train.methods import Method, Role
from src.train.penalty import Penalty
from src.train.settings import Optimization
from src.train.sharding import share_out

log = logging.getLogger(__name__)

METRICS_EVERY = 10


class TrainingDiverged(RuntimeError):
    """The loss is not a number."""


@dataclass
class History:
    """What a training run leaves beside its weights."""

    metrics: list[dict[str, float]]
    """Reproducible: step, loss, learning_rate, gradient_norm, tokens. `loss` is what is minimized. A method with a loss
    or a penalty adds `method_loss`, its part of `loss`."""
    summary: dict[str, Any]
    """Counts, and figures of speed that differ from run to run (`throughput`: [step, tokens per second])."""
    shares: dict[int, float]
    """The share of each of the examples' origins in the loss (src/train/averaging.py)."""


def train(
    model: torch.nn.Module,
    examples: Selection,
    settings: Optimization,
    stage: str,
    context: Context,
    method: Method | None = None,
    base: Path | None = None,
    fisher: Path | None = None,
) -> History:
    """Train `model` in place; goes on from the checkpoint in `context.work`, if there is one.

    Every rank calls this with the same examples and takes its share of each batch. The loss is the mean over the global
    batch that `loss_average` names (src/train/averaging.py). When it is asked to stop, it saves a checkpoint and ends
    the process.

    base: artifact of the base model, which some methods need (Method.teacher, Method.anchor). fisher: artifact of the
    base's Fisher information (Method.fisher).

    Raises TrainingDiverged when the loss is not finite.
    """
    return Loop(model, examples, settings, stage, context, method, base, fisher).run()


class Loop:
    """One training: it is set up, takes its steps and saves."""

    def __init__(
        self, model: torch.nn.Module, examples: Selection, settings: Optimization, stage: str, context: Context,
        method: Method | None, base: Path | None, fisher: Path | None,
    ):  # fmt: skip
        self.settings, self.stage, self.context, self.method = settings, stage, context, method
        # a faster all-reduce between the processes of one CPU: minutes to compile, nothing to gain here
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo", verbose=False)
        torch.set_flush_denormal(True)  # tiny second moments make a CPU many times slower
        self.rank, self.world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.examples = examples
        self._divide()
        self._set_up(model, base)
        self.penalty: Penalty | None = None
        if method is not None and method.anchor:
            clip = settings.max_grad_norm
            self.penalty = Penalty(method, self.engine, self.optimizer, self.trained, clip, base, fisher)
        self.checkpoints = Checkpoints(self.engine, context, self.rank, self.world)
        fresh: dict[str, Any] = {"step": 0, "tokens": 0, "metrics": [], "throughput": []}
        self.state = self.checkpoints.resume() or fresh

    def _divide(self) -> None:
        """Examples into batches, and these into micro-batches."""
        settings, examples = self.settings, self.examples
        self.lengths, self.learned = examples.lengths.tolist(), examples.learned.tolist()
        self.roles = examples.roles.tolist()
        self.mixed = any(role & Role.METHOD for role in self.roles)
        self.plan = plan(self.lengths, settings, self.stage)
        of_rank = (micro_batches(batch, 0, self.world, settings.micro_batch_size) for batch in self.plan)
        self.most = max(len(parts) for parts in of_rank)

    def _set_up(self, model: torch.nn.Module, base: Path | None) -> None:
        """Optimizer, schedule and DeepSpeed's engine."""
        settings, steps = self.settings, len(self.plan)
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        parameters = list(self.trained.values())
        self.sizes = {
            "trainable_parameters": sum(parameter.numel() for parameter in parameters),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        }
        self.optimizer = settings.optimizer_of(self.trained)
        warmup = math.ceil(settings.warmup_ratio * steps)
        schedule = get_cosine_with_min_lr_schedule_with_warmup(
            self.optimizer, warmup, steps, min_lr_rate=settings.min_lr_ratio
        )
        teacher = None
        if self.method is not None and self.method.teacher and self.mixed:
            assert base is not None
            teacher = load_base(base, settings.dtype).eval().requires_grad_(False)
        self.module = prepare(model, settings, self.method, teacher)
        config = {
            "train_micro_batch_size_per_gpu": 1,
            # 2 if any batch is accumulated: the boundaries are set by hand in each step
            "gradient_accumulation_steps": min(self.most, 2),
            "gradient_clipping": settings.max_grad_norm,
            "steps_per_print": 10**9,
            "zero_allow_untested_optimizer": True,
            **settings.deepspeed,
        }
        if settings.zero_stage == 3:
            share_out(self.module, config)
        self.engine, *_ = deepspeed.initialize(
            model=self.module,
            model_parameters=parameters,
            optimizer=self.optimizer,
            lr_scheduler=schedule,
            config=config,
        )
        if teacher is not None:
            teacher.to(self.engine.device)
        self.engine.train()

    def run(self) -> History:
        """Take the steps that are left."""
        state, steps = self.state, len(self.plan)
        self.context.begin_metrics(state["metrics"])
        first, tokens_before = state["step"], state["tokens"]
        started = self.logged_at = time.monotonic()
        self.tokens_logged = tokens_before
        with deferred_stop():
            for step in range(first, steps):
                self._step(step)
                if self.checkpoints.after_step(state, last=step + 1 == steps):
                    log.info("stage %s: asked to stop, saved at step %d of %d", self.stage, step + 1, steps)
                    self.context.stop()
        seconds = time.monotonic() - started
        summary = {
            "examples": len(self.examples),
            "steps": steps,
            "tokens": state["tokens"],
            "tokens_per_second": round((state["tokens"] - tokens_before) / max(seconds, 1e-9)),
            "throughput": state["throughput"],
            "resumed_at_step": first,
            "final_loss": state["metrics"][-1]["loss"] if state["metrics"] else None,
            **self.sizes,
        }
        average, origins = self.settings.loss_average, self.examples.origins.tolist()
        of_origins = shares(self.plan, self.learned, origins, self.world, average)
        return History(state["metrics"], summary, of_origins)

    def _step(self, step: int) -> None:
        """Train on one batch."""
        batch, steps = self.plan[step], len(self.plan)
        # dropout is a function of seed, step and rank: no state of a generator has to be kept for a resumed run
        torch.manual_seed((self.settings.seed * steps + step) * self.world + self.rank)
        loss, method_loss = self._accumulate(batch)
        rate = self.engine.get_lr()[0]
        value = self._mean_over_ranks(loss)
        if not math.isfinite(value):
            raise TrainingDiverged(f"stage {self.stage}: the loss is {value} at step {step + 1} of {steps}, "
                                   f"learning rate {rate:.3g}; try a lower train.lr")  # fmt: skip
        logged = (step + 1) % METRICS_EVERY == 0 or step + 1 == steps
        norm = self._update(logged)
        self.state["tokens"] += sum(self.lengths[i] for i in batch)
        self.state["step"] = step + 1
        if logged:
            row = {"loss": value}
            if self.mixed:
                row["method_loss"] = self._mean_over_ranks(method_loss)
            if self.penalty:
                row["method_loss"] = row.get("method_loss", 0.0) + (penalty := self.penalty.value())
                row["loss"] += penalty
            row |= {"learning_rate": rate, "gradient_norm": norm, "tokens": self.state["tokens"]}
            self._report({"step": step + 1, **row})

    def _accumulate(self, batch: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradients of a batch. Returns this rank's loss and the method's part of it, times the number of ranks."""
        average = self.settings.loss_average
        factor = dict(zip(batch, factors([self.learned[i] for i in batch], self.world, average), strict=True))
        parts = micro_batches(batch, self.rank, self.world, self.settings.micro_batch_size)
        total, method_total = torch.zeros(2, device=self.engine.device)
        for number, part in enumerate(parts):
            shown = part or batch[:1]
            ids, labels = collate([self.examples[i] for i in shown], self.engine.device)
            if not part:  # fewer examples than ranks: this one has no share of the loss
                labels = torch.full_like(labels, IGNORE)
            roles = torch.tensor([self.roles[i] for i in shown], device=self.engine.device) if self.mixed else None
            if self.most > 1:
                self.engine.set_gradient_accumulation_boundary(number + 1 == len(parts))
            # by tokens and by ranks, all examples of a rank have the same factor
            weights = [factor[i] for i in shown] if average == "examples" else None
            scale = factor[shown[0]] if weights is None else 1.0
            loss = self.engine(ids, labels, roles, weights) * scale
            self.engine.backward(loss, scale_wrt_gas=False)
            total += loss.detach()
            if self.module.method_loss is not None:
                method_total += self.module.method_loss * scale
        return total, method_total

    def _update(self, logged: bool) -> float:
        """The optimizer's step. Returns the norm of the loss's gradient before clipping, if it is to be logged."""
        # ZeRO, and what keeps weights in float32 beside those in bfloat16, take the gradients and leave their norm
        taken = self.engine.optimizer is not self.optimizer
        norm = 0.0
        if not taken and (logged or self.penalty):
            gradients = [p.grad for p in self.trained.values() if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients).item()
        if self.penalty:
            self.penalty.begin(None if taken else norm)
        self.engine.step()
        return float(self.engine.get_global_grad_norm()) if logged and taken else norm

    def _report(self, row: dict[str, float]) -> None:
        self.state["metrics"].append(row)
        now, tokens = time.monotonic(), self.state["tokens"]
        speed = round((tokens - self.tokens_logged) / (now - self.logged_at))
        self.logged_at, self.tokens_logged = now, tokens
        self.state["throughput"].append([row["step"], speed])
        self.context.add_metrics(row | {"tokens_per_second": speed})
        self.context.report(done=row["step"], total=len(self.plan), tokens_per_second=speed, **row)

    def _mean_over_ranks(self, loss: torch.Tensor) -> float:
        if self.world > 1:
            torch.distributed.all_reduce(loss)
        return loss.item() / self.world


def gathered(model: torch.nn.Module) -> AbstractContextManager[None]:
    """Within it, every rank has the whole of each trained parameter, which ZeRO-3 leaves in shares. All must enter."""
    shared = [p for p in model.parameters() if p.requires_grad and hasattr(p, "ds_id")]
    gather: AbstractContextManager[None] = deepspeed.zero.GatheredParameters(shared, enabled=bool(shared))
    return gather
