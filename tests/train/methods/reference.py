"""Training with a method, written a second time: one process, plain PyTorch, the formulas of the papers by hand."""

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from src.model import adapter
from src.model.chat import IGNORE
from src.model.settings import Adapter
from src.train import methods
from src.train.batches import plan
from src.train.methods import Role
from src.train.settings import Optimization
from tests.train.methods.body import selection


def rate(step: int, steps: int, settings: Optimization) -> float:
    """The learning rate: linear up, then a cosine down to `min_lr_ratio`."""
    warmup = math.ceil(settings.warmup_ratio * steps)
    if step < warmup:
        return settings.lr * step / warmup
    cosine = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
    return settings.lr * (settings.min_lr_ratio + (1 - settings.min_lr_ratio) * cosine)


def penalty_gradient(method: Any, name: str, weights: torch.Tensor, around: dict[str, Any]) -> torch.Tensor:
    if method.name == "l2":
        return 2 * method.strength * (weights - around["start"][name])
    if method.name == "ewc":
        return method.strength * around["fisher"][name] * (weights - around["base"][name])
    return torch.zeros_like(weights)


def penalty(method: Any, weights: dict[str, torch.Tensor], around: dict[str, Any]) -> float:
    if method.name == "l2":
        return sum(method.strength * float((w - around["start"][n]).square().sum()) for n, w in weights.items())
    if method.name == "ewc":
        return sum(
            method.strength / 2 * float((around["fisher"][n] * (w - around["base"][n]) ** 2).sum())
            for n, w in weights.items()
        )
    return 0.0


def weights_of(counts: list[int], ranks: int, settings: Optimization) -> list[float]:
    """The weight of a token's loss in the mean, for each example of a batch with so many learned tokens."""
    if settings.loss_average == "examples":
        return [1 / len(counts) / count for count in counts]
    if settings.loss_average == "ranks":
        return [1 / ranks / sum(counts[place % ranks :: ranks]) for place in range(len(counts))]
    return [1 / sum(counts)] * len(counts)


def train(config: dict[str, Any], inputs: dict[str, Path], ranks: int) -> tuple[dict[str, torch.Tensor], list[Any]]:
    """The trained weights by PEFT's names, and (loss, the method's part of it) of every step."""
    settings, method = Optimization(**config["optimization"]), methods.made_of(config["method"])
    model = adapter.trainable(inputs["base"], inputs.get("previous"), Adapter(**config["adapter"]), settings.seed)
    model.train()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    initial = load_file(inputs["base"] / "model" / "model.safetensors")
    around = {
        "start": {name: p.detach().clone() for name, p in trained.items()},
        "base": {
            name: torch.zeros_like(p)
            if "lora_" in name
            else initial[name.removeprefix("base_model.model.").replace(".base_layer", "")]
            for name, p in trained.items()
        },
        "fisher": load_file(inputs["fisher"] / "fisher.safetensors"),
    }
    teacher = adapter.load_base(inputs["base"]).eval()
    if method.name == "neftune":
        alpha = method.alpha  # type: ignore[attr-defined]

        def noisy(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            _, length, width = output.shape
            return output + (2 * torch.rand_like(output) - 1) * (alpha / math.sqrt(length * width))

        model.get_input_embeddings().register_forward_hook(noisy)
    betas = (settings.betas[0], settings.betas[1])
    optimizer = torch.optim.AdamW(trained.values(), lr=settings.lr, betas=betas, weight_decay=settings.weight_decay)
    rows = selection(inputs, method, config["replay"])
    batches = plan(rows.lengths.tolist(), settings, "asr")
    history = []
    for step, batch in enumerate(batches):
        optimizer.zero_grad()
        optimizer.param_groups[0]["lr"] = rate(step, len(batches), settings)
        weight = weights_of([sum(label != IGNORE for label in rows[i].labels) for i in batch], ranks, settings)
        sums = [0.0, 0.0]
        for rank in range(ranks):
            torch.manual_seed((settings.seed * len(batches) + step) * ranks + rank)
            share = batch[rank::ranks]
            size = settings.micro_batch_size or len(batch)
            for part in (share[i : i + size] for i in range(0, len(share), size)):
                longest = max(int(rows.lengths[i]) for i in part)
                pad = lambda values, fill: values + [fill] * (longest - len(values))  # noqa: E731, B023
                ids = torch.tensor([pad(rows[i].ids, 0) for i in part])
                logits = model(input_ids=ids).logits
                with torch.no_grad():
                    theirs = teacher(input_ids=ids).logits
                cross_entropy, extra = torch.zeros(()), torch.zeros(())
                for row, i in enumerate(part):
                    for place, label in enumerate(rows[i].labels):
                        if label == IGNORE:
                            continue
                        if rows.roles[i] & Role.CROSS_ENTROPY:
                            own = -logits[row, place - 1].log_softmax(-1)[label]
                            cross_entropy = cross_entropy + weight[batch.index(i)] * own
                        if rows.roles[i] & Role.METHOD:
                            t = method.temperature  # type: ignore[attr-defined]
                            p, q = (x[row, place - 1].div(t).softmax(-1) for x in (theirs, logits))
                            kl = (p * (p / q).log()).sum()
                            part_of_method = method.weight * t**2 * kl  # type: ignore[attr-defined]
                            extra = extra + weight[batch.index(i)] * part_of_method
                (cross_entropy + extra).backward()
                sums[0] += cross_entropy.item()
                sums[1] += extra.item()
        norm = float(torch.nn.utils.clip_grad_norm_(trained.values(), settings.max_grad_norm))
        value = penalty(method, {name: p.detach() for name, p in trained.items()}, around)
        for name, parameter in trained.items():
            assert parameter.grad is not None
            factor = min(1, settings.max_grad_norm / (norm + 1e-6))
            parameter.grad += factor * penalty_gradient(method, name, parameter.detach(), around)
        optimizer.step()
        history.append((sums[0] + sums[1] + value, sums[1] + value))
    return {name: p.detach() for name, p in trained.items()}, history
