"""The training loop: DeepSpeed, token-exact mean loss, checkpoints that are gone on from to the bit."""

import importlib.util
import json
import logging
import math
import os
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import deepspeed
import torch
from peft import PeftModel
from torch.nn import functional
from transformers import get_cosine_with_min_lr_schedule_with_warmup
from transformers.utils import is_flash_attn_2_available

from src.grid.context import Context, deferred_stop, latest_checkpoint
from src.model.chat import IGNORE, Example
from src.train.batches import batches
from src.train.examples import Selection

log = logging.getLogger(__name__)

METRICS_EVERY = 10
SAVING = 20
"""Times as long as a checkpoint took passes before the next: those of a large model are many gigabytes."""
GO_ON, SAVE, STOP = range(3)


class TrainingDiverged(RuntimeError):
    """The loss is not a number."""


@dataclass(frozen=True)
class Optimization:
    lr: float
    epochs: int
    warmup_ratio: float
    min_lr_ratio: float
    """Where the cosine ends, as a share of `lr`."""
    weight_decay: float
    betas: tuple[float, float]
    max_grad_norm: float
    batch_tokens: int | None
    batch_size: int | None
    max_length: int
    """Longer examples are dropped and counted."""
    seed: int
    ranks: int
    """Processes that train together."""
    deepspeed: Mapping[str, Any] = field(default_factory=dict)
    """DeepSpeed's own configuration: ZeRO stage, offload, precision."""
    micro_batch_size: int | None = None
    """Examples that one rank has in memory at a time; None: all of its share of a batch."""
    gradient_checkpointing: bool = False
    attention: str = "sdpa"
    fused_loss: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Optimization":
        return cls(**{**config, "betas": tuple(config["betas"])})

    @property
    def dtype(self) -> torch.dtype:
        """Of the model's weights. In bfloat16 DeepSpeed keeps others in float32, which the optimizer updates."""
        return torch.bfloat16 if self.deepspeed.get("bf16", {}).get("enabled") else torch.float32


class ResponseLoss(torch.nn.Module):
    """Cross-entropy on the labelled tokens; logits are computed only for them, or by Liger in parts alone (`fused`)."""

    def __init__(self, model: torch.nn.Module, fused: bool = False):
        super().__init__()
        self.model = model
        self.fused = fused

    def forward(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The summed loss. ids, labels: [batch, length], padded on the right, where a causal model needs no mask."""
        causal: Any = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        hidden = causal.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        kept = targets != IGNORE
        hidden, targets = hidden[kept], targets[kept]
        if self.fused and len(targets):
            from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

            head = (hidden, causal.lm_head.weight, targets, causal.lm_head.bias)
            loss: torch.Tensor = LigerFusedLinearCrossEntropyFunction.apply(*head, None, IGNORE, 0.0, 0.0, "sum")[0]
            return loss
        return functional.cross_entropy(causal.lm_head(hidden).float(), targets, reduction="sum")


def prepare(model: torch.nn.Module, settings: Optimization) -> ResponseLoss:
    """What DeepSpeed trains: the model with its attention, checkpointing and loss as they are set.

    Raises ValueError, one line, where a setting needs what is not here.
    """
    plain: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    if settings.attention == "flash_attention_2" and not is_flash_attn_2_available():
        raise ValueError("train.attention=flash_attention_2 needs a GPU and the package flash-attn; sdpa needs neither")
    if settings.fused_loss:
        stage = settings.deepspeed.get("zero_optimization", {}).get("stage", 0)
        if stage == 3:
            raise ValueError("train.fused_loss=true needs the whole head on each GPU, which ZeRO-3 has not: "
                             "set it to false, or take deepspeed=zero2_bf16")  # fmt: skip
        if not torch.cuda.is_available() or importlib.util.find_spec("liger_kernel") is None:
            raise ValueError("train.fused_loss=true needs a GPU and the package liger-kernel "
                             "(pip install liger-kernel)")  # fmt: skip
    if plain.config._attn_implementation != settings.attention:
        plain.set_attn_implementation(settings.attention)
    if settings.gradient_checkpointing:
        plain.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return ResponseLoss(model, settings.fused_loss)


def turns(batch: Sequence[int], rank: int, world: int, micro: int | None) -> list[Sequence[int]]:
    """A rank's share of a batch in parts of at most `micro` examples; as many parts on every rank, so that some may be
    empty."""
    share = batch[rank::world]
    size = micro or len(batch)
    count = math.ceil(len(batch[::world]) / size)
    return [share[i * size : (i + 1) * size] for i in range(count)]


def collate(examples: Sequence[Example], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and labels, each [batch, longest]."""
    length = max(len(example.ids) for example in examples)
    ids = torch.zeros(len(examples), length, dtype=torch.long)
    labels = torch.full((len(examples), length), IGNORE)
    for row, example in enumerate(examples):
        n = len(example.ids)
        ids[row, :n] = torch.tensor(example.ids)
        labels[row, :n] = torch.tensor(example.labels)
    return ids.to(device), labels.to(device)


@dataclass
class History:
    """What a training run leaves beside its weights."""

    metrics: list[dict[str, float]]
    """Reproducible: step, loss, learning_rate, gradient_norm, tokens."""
    summary: dict[str, Any]
    """Counts, and figures of speed that differ from run to run (`throughput`: [step, tokens per second])."""


def train(
    model: torch.nn.Module, examples: Sequence[Example], settings: Optimization, stage: str, context: Context
) -> History:  # fmt: skip
    """Train `model` in place; goes on from the checkpoint in `context.work`, if there is one.

    Saves every `context.checkpoint_seconds`, or less often where that would take more than a twentieth of the time, and
    when it is asked to stop; it ends the process then.

    Every rank calls this with the same examples and takes its share of each batch. The loss is the mean over all
    labelled tokens of the global batch, whatever the number of ranks.

    Raises TrainingDiverged when the loss is not finite, ValueError when no example is short enough.
    """
    # a faster all-reduce between the processes of one CPU: minutes to compile, nothing to gain here
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo", verbose=False)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    known = examples.lengths.tolist() if isinstance(examples, Selection) else [len(e.ids) for e in examples]
    kept = [i for i, length in enumerate(known) if length <= settings.max_length]
    if not kept:
        raise ValueError(f"stage {stage}: max_length={settings.max_length} leaves none of {len(examples)} examples")
    lengths = [known[i] for i in kept]
    rng = random.Random(f"{settings.seed}-{stage}-batches")
    plan = [
        batch
        for _ in range(settings.epochs)
        for batch in batches(lengths, rng, settings.batch_tokens, settings.batch_size)
    ]

    torch.set_flush_denormal(True)  # tiny second moments make a CPU many times slower
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    sizes = {
        "trainable_parameters": sum(parameter.numel() for parameter in parameters),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
    )
    micro = settings.micro_batch_size
    most = max(len(turns(batch, 0, world, micro)) for batch in plan)
    schedule = get_cosine_with_min_lr_schedule_with_warmup(
        optimizer,
        math.ceil(settings.warmup_ratio * len(plan)),
        len(plan),
        min_lr_rate=settings.min_lr_ratio,
    )
    engine, *_ = deepspeed.initialize(
        model=prepare(model, settings),
        model_parameters=parameters,
        optimizer=optimizer,
        lr_scheduler=schedule,
        config={
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": min(most, 2),  # the loop says where a batch ends; this, that some have turns
            "gradient_clipping": settings.max_grad_norm,
            "steps_per_print": 10**9,
            "zero_allow_untested_optimizer": True,
            **settings.deepspeed,
        },
    )
    engine.train()

    state: dict[str, Any] = {"step": 0, "tokens": 0, "metrics": [], "throughput": []}
    found = [latest_checkpoint(context.work)]
    if world > 1:
        torch.distributed.broadcast_object_list(found, 0)  # a shared file system may show the ranks different things
    if found[0]:
        state = _resume(engine, found[0])
    context.begin_metrics(state["metrics"])
    first, tokens_before = state["step"], state["tokens"]
    started = saved = logged_at = time.monotonic()
    tokens_logged = tokens_before
    pause = context.checkpoint_seconds

    with deferred_stop():
        for step in range(first, len(plan)):
            # dropout is a function of seed, step and rank: no state of a generator has to be kept for a resumed run
            torch.manual_seed((settings.seed * len(plan) + step) * world + rank)
            batch = plan[step]
            read = {i: examples[kept[i]] for i in batch}
            labelled = sum(label != IGNORE for i in batch for label in read[i].labels[1:])
            parts = turns(batch, rank, world, micro)
            total = torch.zeros((), device=engine.device)
            for turn, part in enumerate(parts):
                ids, labels = collate([read[i] for i in part or batch[:1]], engine.device)
                if not part:  # fewer examples than ranks: this one has no share of the loss
                    labels = torch.full_like(labels, IGNORE)
                if most > 1:
                    engine.set_gradient_accumulation_boundary(turn + 1 == len(parts))
                loss = engine(ids, labels) * (world / labelled)
                engine.backward(loss, scale_wrt_gas=False)
                total += loss.detach()
            rate = engine.get_lr()[0]
            if not math.isfinite(value := _mean_over_ranks(total, world)):
                raise TrainingDiverged(f"stage {stage}: the loss is {value} at step {step + 1} of {len(plan)}, "
                                       f"learning rate {rate:.3g}; try a lower train.lr")  # fmt: skip
            logged = (step + 1) % METRICS_EVERY == 0 or step + 1 == len(plan)
            # ZeRO, and what keeps weights in float32 beside those in bfloat16, take the gradients and leave their norm
            taken = engine.optimizer is not optimizer
            if logged and not taken:
                norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]).item()
            engine.step()
            if logged and taken:
                norm = float(engine.get_global_grad_norm())
            state["tokens"] += sum(lengths[i] for i in batch)
            state["step"] = step + 1
            if logged:
                state["metrics"].append(
                    {
                        "step": step + 1,
                        "loss": value,
                        "learning_rate": rate,
                        "gradient_norm": norm,
                        "tokens": state["tokens"],
                    }
                )
                now = time.monotonic()
                speed = round((state["tokens"] - tokens_logged) / (now - logged_at))
                logged_at, tokens_logged = now, state["tokens"]
                state["throughput"].append([step + 1, speed])
                context.add_metrics(state["metrics"][-1] | {"tokens_per_second": speed})
                context.report(done=step + 1, total=len(plan), tokens_per_second=speed, **state["metrics"][-1])
            due = step + 1 < len(plan) and time.monotonic() - saved > pause
            wish = _agree(STOP if context.stop_requested else SAVE if due else GO_ON, world, engine.device)
            if wish != GO_ON:
                began = time.monotonic()
                _checkpoint(engine, context, state, rank, world)
                saved = time.monotonic()
                pause = max(context.checkpoint_seconds, SAVING * (saved - began))
            if wish == STOP:
                log.info("stage %s: asked to stop, saved at step %d of %d", stage, step + 1, len(plan))
                context.stop()
    seconds = time.monotonic() - started
    summary = {
        "examples": len(kept),
        "dropped_too_long": len(examples) - len(kept),
        "steps": len(plan),
        "tokens": state["tokens"],
        "tokens_per_second": round((state["tokens"] - tokens_before) / max(seconds, 1e-9)),
        "throughput": state["throughput"],
        "resumed_at_step": first,
        "final_loss": state["metrics"][-1]["loss"] if state["metrics"] else None,
        **sizes,
    }
    return History(state["metrics"], summary)


def gathered(model: torch.nn.Module) -> AbstractContextManager[None]:
    """Within it, every rank has the whole of each trained parameter, which ZeRO-3 leaves in shares. All must enter."""
    shared = [p for p in model.parameters() if p.requires_grad and hasattr(p, "ds_id")]
    gather: AbstractContextManager[None] = deepspeed.zero.GatheredParameters(shared, enabled=bool(shared))
    return gather


def _mean_over_ranks(loss: torch.Tensor, world: int) -> float:
    if world > 1:
        torch.distributed.all_reduce(loss)
    return loss.item() / world


def _agree(wish: int, world: int, device: torch.device) -> int:
    """What rank 0 wishes: clocks and signals differ between ranks, and all must save together."""
    if world == 1:
        return wish
    flag = torch.tensor([wish], device=device)
    torch.distributed.broadcast(flag, 0)
    return int(flag.item())


def _checkpoint(engine: Any, context: Context, state: dict[str, Any], rank: int, world: int) -> None:
    """Save everything that the next step depends on; the one before is removed only then."""
    tag = f"step-{state['step']}"
    client = {"state": json.dumps(state)}
    # what is frozen is in the base model
    engine.save_checkpoint(str(context.checkpoints), tag=tag, client_state=client, exclude_frozen_parameters=True)
    if world > 1:
        torch.distributed.barrier()  # no rank leaves before all have written
    if rank == 0:
        context.keep_only(context.checkpoints / tag)


def _resume(engine: Any, checkpoint: Path) -> dict[str, Any]:
    path, client = engine.load_checkpoint(str(checkpoint.parent), tag=checkpoint.name, load_module_strict=False)
    if path is None:
        raise RuntimeError(f"{checkpoint} cannot be loaded; remove that folder to start the stage again")
    state: dict[str, Any] = json.loads(client["state"])
    return state
