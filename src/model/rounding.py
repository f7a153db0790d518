"""How far rounding moves a model's answers: the divergence of the model as it is used from the model as it was trained.

The reference has exactly the weights that were trained: the base's, the modules trained in full, and the adapter beside
them, unmerged, by PEFT; or the tensors of a merge as mergekit left them. It computes in float32.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from safetensors import safe_open

from src.model import difference
from src.model.adapter import ADAPTER, LORA, load_base, overlay

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Prompts = Sequence[Sequence[int]]
LENGTH = 64
"""Most tokens of a prompt that is measured on."""


def measure(base: Path, artifact: Path, used: "PreTrainedModel", prompts: Prompts) -> dict[str, Any]:
    """What is lost where `used` stands for the model of an artifact: `kl`, the `tokens` it is a mean of, and `dtype`.

    base, artifact: as for `difference.load`. prompts: token ids. kl: KL(trained || used) of the next token's
    distribution, in nats, the mean over all tokens of the prompts. Raises ValueError where a model's answers are not
    finite.
    """
    device, dtype = used.device, str(used.dtype).removeprefix("torch.")
    found = logits(used, prompts)
    scored: Any = used
    scored.to("cpu")  # a GPU need not hold both
    trained: Any = as_trained(base, artifact).to(device)
    expected = logits(trained, prompts)
    del trained
    scored.to(device)
    if not _finite(expected):
        raise ValueError(f"{artifact.name}: the model's answers are not finite numbers: its training or merge failed")
    if not _finite(found):
        raise ValueError(f"{artifact.name}: in {dtype} the model's answers are not finite numbers; float32 holds them")
    return {"kl": divergence(expected, found), "tokens": sum(map(len, prompts)), "dtype": dtype}


def shown(base: Path, texts: Sequence[str]) -> list[list[int]]:
    """What users say as prompts to measure on: the last tokens of each, in the model's chat format."""
    from transformers import AutoTokenizer

    talks = [[{"role": "user", "content": text}] for text in texts]
    tokenizer = AutoTokenizer.from_pretrained(base / difference.MODEL)
    ids: Any = tokenizer.apply_chat_template(talks, add_generation_prompt=True, return_dict=False)
    return [prompt[-LENGTH:] for prompt in ids]


def as_trained(base: Path, artifact: Path) -> torch.nn.Module:
    """The reference: weights in the types in which they are stored, computing in float32."""
    from transformers import AutoModelForCausalLM

    if not (artifact / ADAPTER).is_dir():
        model: Any = AutoModelForCausalLM.from_pretrained(base / difference.MODEL, dtype="auto")
        for name, tensor in difference.changed_tensors(base, artifact):
            model.get_parameter(name).data = tensor
        return _in_float32(model.eval())
    with safe_open(artifact / ADAPTER / LORA, framework="pt") as lora:
        dtype = lora.get_tensor(min(lora.keys())).dtype
    model = load_base(base, dtype)
    overlay(model, artifact)
    peft = PeftModel.from_pretrained(model, str(artifact / ADAPTER), autocast_adapter_dtype=False)
    return _in_float32(peft.eval())


def _in_float32(model: torch.nn.Module) -> torch.nn.Module:
    """Have each module compute in float32, its weights widened only meanwhile: memory stays that of their own types."""

    def widen(module: Any, _: Any) -> None:
        module.narrow = [parameter.data for parameter in module.parameters(recurse=False)]
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.float()

    def restore(module: Any, *_: Any) -> None:
        for parameter, data in zip(module.parameters(recurse=False), module.narrow, strict=True):
            parameter.data = data

    for module in model.modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_pre_hook(widen)
            module.register_forward_hook(restore)
    return model


@torch.no_grad()  # in inference mode weights cannot be replaced
def logits(model: Any, prompts: Prompts) -> list[torch.Tensor]:
    """The logits after each token of each prompt, [tokens, vocabulary], float32 on the CPU."""
    device = next(model.parameters()).device
    with disable_input_dtype_casting(model) if isinstance(model, PeftModel) else nullcontext():
        return [model(input_ids=torch.tensor([ids], device=device)).logits[0].float().cpu() for ids in prompts]


def divergence(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> float:
    """KL(expected || found) of distributions by their logits, in nats, the mean over all rows.

    In float64: in float32 normalizing alone would cost more than what is measured.
    """
    total = 0.0
    for ours, theirs in zip(expected, found, strict=True):
        p, q = ours.double().log_softmax(-1), theirs.double().log_softmax(-1)
        total += (p.exp() * (p - q)).sum().item()
    return total / sum(map(len, expected))


def _finite(found: Sequence[torch.Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in found)
