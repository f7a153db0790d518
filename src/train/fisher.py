"""The diagonal of a model's Fisher information on text, as EWC weighs weights by it (src/train/methods/ewc.py).

F_i = mean over examples of (d/d theta_i log p(response | prompt))^2, each answer token drawn from the model's own
distribution after the example's earlier tokens. This is the Fisher information by its definition. With the data's own
tokens instead it would be the "empirical Fisher", which is near zero wherever the model fits its data, and no estimate
of curvature (Kunstner et al. 2019, arXiv 1905.12558).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional

from src.model.adapter import trainable
from src.model.chat import Example
from src.model.settings import Adapter
from src.train.loss import answer_states, causal_model, collate
from src.train.penalty import FISHER


def diagonal(
    model: torch.nn.Module, examples: Sequence[Example], seed: int,
    progress: Callable[[int], object] = lambda done: None,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Name of each trained parameter -> F, float32 on the CPU, of the parameter's shape.

    Examples are taken one at a time. seed: of the drawn tokens; those of an example depend on its place alone.
    progress: told how many examples are done.

    Raises ValueError where there are none.
    """
    if not examples:
        raise ValueError("there are no examples to compute the Fisher information on")
    model.eval()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    device = next(iter(trained.values())).device
    total = {name: torch.zeros_like(parameter, dtype=torch.float32) for name, parameter in trained.items()}
    for i, example in enumerate(examples):
        ids, labels = collate([example], device)
        hidden, _ = answer_states(model, ids, labels)
        likelihood = functional.log_softmax(causal_model(model).lm_head(hidden).float(), dim=-1)
        generator = torch.Generator(device).manual_seed(seed * len(examples) + i)
        drawn = torch.multinomial(likelihood.detach().exp(), 1, generator=generator)
        gradients = torch.autograd.grad(likelihood.gather(-1, drawn).sum(), list(trained.values()))
        for name, gradient in zip(trained, gradients, strict=True):
            total[name] += gradient.float().square()
        progress(i + 1)
    return {name: (squares / len(examples)).cpu() for name, squares in total.items()}


def write(
    base: Path, adapter: Adapter, examples: Sequence[Example], seed: int, out: Path,
    progress: Callable[[int], object] = lambda done: None,
) -> None:  # fmt: skip
    """Write FISHER: F of what a first stage with this adapter trains, at the base's weights, by PEFT's names.

    base: artifact of the base model. seed: that of the stages, by which LoRA's A is drawn, on which F of B depends.
    """
    model = trainable(base, None, adapter, seed)
    if torch.cuda.is_available():
        model.cuda()
    save_file(diagonal(model, examples, seed, progress), out / FISHER, metadata={"format": "pt"})
