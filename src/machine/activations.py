"""Bytes of activations and logits in one training step, on one GPU.

The accounting is that of Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models",
section 4.1. It is done again for what autograd keeps of a Llama of transformers with fused attention, in which LoRA and
a few modules are trained. A frozen linear layer keeps no input.
"""

import math

from src.machine.parameters import Model
from src.machine.training import Training


def activations(model: Model, training: Training) -> tuple[int, int]:
    """Bytes kept until the backward pass, and bytes of the layer that is recomputed (0 without checkpointing)."""
    e, tokens = training.element, training.tokens
    layer = _layer(model, e) * tokens
    # the last norm, the head's input, the numbers of the tokens and the places of the labels
    last = (4 * model.hidden + 4 + 8) * tokens + (model.hidden * e + 8) * training.labels
    if training.gradient_checkpointing:
        kept = model.layers * model.hidden * e * tokens  # each layer's input
        return kept + last, layer + 3 * model.intermediate * e * tokens
    full = model.full_inputs * e * tokens if model.dropout else 0  # without dropout LoRA keeps the same input
    return model.layers * layer + full + last, 0


def _layer(model: Model, e: int) -> int:
    """Bytes that autograd keeps of one token in one layer; `e` bytes an element.

    The norms: their input in float32 and a scale. Attention: queries, keys, values, result, and float32 sums. The
    feed-forward part: gate, up and the gate's activation. LoRA: each module's input after dropout with a mask of a byte
    (without dropout, each input once), and what its first matrix makes of it. The paper's 34 sbh + 5 a s^2 b of a layer
    whose weights are all trained has, besides, the inputs of the frozen layers and attention's scores.
    """
    norms = 2 * (4 * model.hidden + 4)
    if model.head_norms:
        width = model.queries + model.keys
        norms += 4 * width + 4 * width * model.heads // model.queries
    attention = 2 * e * (model.queries + model.keys) + 4 * model.heads
    lora = (e + 1) * model.lora_inputs if model.dropout else e * model.lora_shared_inputs
    return norms + attention + lora + e * model.lora_ranks + 3 * e * model.intermediate


def logits(model: Model, training: Training) -> int:
    """Three float32 copies of the logits at the start of the backward pass: log-probabilities and two gradients.

    With a fused loss: one chunk of logits in the model's type, the gradient of its input, and that of the head, which
    is made in the forward pass already: in float32, and at the end in the model's type too. A chunk has as many tokens
    as make it about as large as the input.
    """
    if not training.fused_loss:
        return 12 * model.vocabulary * training.labels
    e, labels = training.element, training.labels
    tokens = math.ceil(labels / math.ceil(model.vocabulary / model.hidden))
    chunk = min(labels, 2 ** math.ceil(math.log2(tokens)))
    head = (4 if e == 4 else 4 + e) * model.vocabulary * model.hidden
    return e * (chunk * model.vocabulary + labels * model.hidden) + head
