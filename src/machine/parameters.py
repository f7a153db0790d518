"""The parameters of a language model, counted: of all, and of what is trained in it. No weights are loaded.

The model is built on torch's meta device, where tensors have a shape and no data.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from src.model.settings import Adapter


@dataclass(frozen=True)
class Model:
    """Counts of a causal language model and of what is trained in it."""

    total: int
    """Parameters of the model itself, LoRA apart."""
    lora: int
    embeddings: int
    """Trained parameters of the embeddings."""
    head: int
    """Trained parameters of the head, where it is not the embeddings."""
    projections: int
    """Trained in full beside embeddings and head: the projections of the last layers."""
    changed: int
    """Elements of the model's tensors that differ after training: those under LoRA and those trained in full."""
    largest: int
    """Elements of the largest trained tensor."""
    body: int
    """Weights of the linear layers but the head: what every token is multiplied with."""
    body_in_full: int
    """The part of `body` that is trained in full."""
    head_trained: bool
    """Whether the head is trained in full. Where the head is the embeddings, `embeddings` counts it."""
    vocabulary: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    queries: int
    """Width of all queries of a token in one layer."""
    keys: int
    """Width of all keys, or values."""
    head_norms: bool
    """Whether queries and keys are normalized in each head, as in Qwen3."""
    lora_inputs: int
    """Width of the inputs of one layer's LoRA modules, added up."""
    lora_shared_inputs: int
    """The same, where modules with the same input count once: without dropout it is kept once."""
    lora_ranks: int
    """Rank times the number of LoRA modules in a layer."""
    dropout: float
    full_inputs: int
    """Width of the inputs of the linear layers of the body that are trained in full, over all layers."""
    lora_frozen: bool = False
    """Whether LoRA is there, and not trained."""

    @property
    def trainable(self) -> int:
        """All parameters that are trained."""
        return self.lora_trained + self.embeddings + self.head + self.projections

    @property
    def lora_trained(self) -> int:
        """Trained parameters of LoRA."""
        return 0 if self.lora_frozen else self.lora

    @property
    def all(self) -> int:
        """All parameters, LoRA's too."""
        return self.total + self.lora


def describe(config: Any, adapter: Adapter, vocabulary: int | None = None) -> Model:
    """Count a model from its transformers configuration.

    vocabulary: rows of embeddings and head after the unit tokens are added; None is the configuration's.
    Raises ValueError where nothing of the model would be trained.
    """
    import copy

    import torch
    from transformers import AutoModelForCausalLM

    from src.model.adapter import is_full

    config = copy.deepcopy(config)
    config.vocab_size = vocabulary or config.vocab_size
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    full = {
        name: parameter
        for name, parameter in model.named_parameters()
        if is_full(name, config.num_hidden_layers, adapter)
    }
    body = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module.weight is not head
    }
    adapted = {name: module for name, module in body.items() if name.rsplit(".", 1)[-1] in adapter.target_modules}
    if not full and not adapted:
        raise ValueError(f"none of {(*adapter.target_modules, *adapter.full_modules)} is a module of the model")
    lora = {name: adapter.r * (module.in_features + module.out_features) for name, module in adapted.items()}
    first = {name: module for name, module in adapted.items() if ".layers.0." in name}
    whole = {name: module for name, module in body.items() if f"{name}.weight" in full}
    changed = {name: parameter.numel() for name, parameter in full.items()}
    changed |= {f"{name}.weight": module.weight.numel() for name, module in adapted.items()}
    return Model(
        total=sum(parameter.numel() for parameter in model.parameters()),
        lora=sum(lora.values()),
        embeddings=sum(parameter.numel() for parameter in full.values() if parameter is embeddings),
        head=sum(parameter.numel() for parameter in full.values() if parameter is head and head is not embeddings),
        projections=sum(p.numel() for p in full.values() if p is not embeddings and p is not head),
        changed=sum(changed.values()),
        largest=max([*(parameter.numel() for parameter in full.values()), *lora.values()]),
        body=sum(module.weight.numel() for module in body.values()),
        body_in_full=sum(module.weight.numel() for module in whole.values()),
        head_trained=any(parameter is head for parameter in full.values()),
        vocabulary=config.vocab_size,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        heads=config.num_attention_heads,
        queries=body["model.layers.0.self_attn.q_proj"].out_features,
        keys=body["model.layers.0.self_attn.k_proj"].out_features,
        head_norms=any(name.endswith(".q_norm") for name, _ in model.named_modules()),
        lora_inputs=sum(module.in_features for module in first.values()),
        lora_shared_inputs=_distinct_inputs(first),
        lora_ranks=adapter.r * len(first),
        dropout=adapter.dropout,
        full_inputs=_distinct_inputs(whole),
    )


def _distinct_inputs(modules: Mapping[str, Any]) -> int:
    """Width of the inputs of linear layers, where those that read the same count once: q, k and v, gate and up."""
    widths = {
        re.sub(r"(q|k|v)_proj$", "qkv", re.sub(r"(gate|up)_proj$", "gate_up", name)): module.in_features
        for name, module in modules.items()
    }
    return sum(widths.values())
