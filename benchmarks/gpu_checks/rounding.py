"""What rounding costs on a GPU beside what alpha changes: the trained against the scored model, in nats a token."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_checks import shapes
from benchmarks.gpu_checks.findings import Findings
from src.model import adapter, difference, rounding
from src.speech.batches import default_device

LAYERS = 4
EFFECT = 8e-6
"""Nats a token by which alpha 15 moves the answers of a trained stage (docs/log.md): the noise in LoRA's B is scaled so
that it does here."""
LEAST = 20
"""How many times smaller the cost of rounding is to be in the type that the paper's profile evaluates in."""
DTYPES = ("float32", "float16", "bfloat16")


def divergences(found: Findings, quick: bool) -> None:
    """A stage of noise on random weights, its alpha changed, and the model that is scored in each type."""
    config = shapes.architecture(quick, layers=LAYERS)
    generator = torch.Generator().manual_seed(3)
    prompts = torch.randint(config.vocab_size, (4, 12 if quick else rounding.LENGTH), generator=generator).tolist()
    with tempfile.TemporaryDirectory() as scratch:
        base, stage = Path(scratch) / "base", Path(scratch) / "stage"
        stage.mkdir()
        _write(quick, config, prompts, base, stage)
        trained = rounding.as_trained(base, stage).to(default_device())
        expected = rounding.logits(trained, prompts)
        told = {alpha: rounding.divergence(expected, _with_alpha(trained, alpha, prompts)) for alpha in (14, 15, 16)}
        del trained
        for alpha, kl in told.items():
            found.figure(f"KL(alpha 16, alpha {alpha})", kl, "nats a token")
        found.criterion("alpha 16 again is the same model", told[16] == 0)
        found.criterion("alpha 14 moves about four times as far as 15", 3 < told[14] / told[15] < 5.5)
        for dtype in DTYPES:
            used: Any = difference.load(base, stage, getattr(torch, dtype)).eval()
            kl = rounding.divergence(expected, rounding.logits(used.to(default_device()), prompts))
            del used
            found.figure(f"KL(trained, scored in {dtype})", kl, "nats a token")
            found.figure(f"alpha 15 beside {dtype}", told[15] / kl if kl > 0 else None, "times")
            if dtype == "float32":
                found.criterion(f"in float32 rounding is {LEAST} times below alpha 15", kl * LEAST <= told[15])


def _write(quick: bool, config: Any, prompts: list[list[int]], base: Path, stage: Path) -> None:
    """The artifacts of a base and of a stage, made on the device."""
    model = shapes.random_model(config, torch.bfloat16)
    with torch.no_grad():
        model.get_parameter("model.norm.weight").fill_(2.4)  # answers as peaked as a trained model's
    model.save_pretrained(base / difference.MODEL)
    given = shapes.paper_adapter(quick, alpha=16, dropout=0.0)
    trained: Any = adapter.adapted(model, given, 0)
    torch.manual_seed(1)
    inner = [parameter for name, parameter in trained.named_parameters() if "lora_B" in name]
    with torch.no_grad():
        for parameter in inner:
            parameter.normal_(std=1e-3)
        for parameter in trained.parameters():
            if parameter.requires_grad and not any(parameter is each for each in inner):
                parameter.add_(1e-4 * torch.randn_like(parameter))
    trained.eval()
    adapter.save(trained, stage)
    exact: Any = rounding.as_trained(base, stage).to(default_device())
    effect = rounding.divergence(rounding.logits(exact, prompts), _with_alpha(exact, 15, prompts))
    with torch.no_grad():
        for parameter in inner:
            parameter.mul_((EFFECT / effect) ** 0.5)  # KL grows with the square
    adapter.save(trained, stage)


def _with_alpha(trained: Any, alpha: float, prompts: list[list[int]]) -> list[torch.Tensor]:
    """The answers of the adapter's model with another alpha than 16; it has its own again afterwards."""
    layers = [module for module in trained.modules() if hasattr(module, "set_scale")]
    for layer in layers:
        layer.set_scale("default", alpha / 16)
    found = rounding.logits(trained, prompts)
    for layer in layers:
        layer.set_scale("default", 1.0)
    return found
