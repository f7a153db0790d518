"""The memory of one GPU, by part, in training and while a model answers. No weights are loaded.

All are formulas on counted parameters (src/machine/parameters.py). Weights, gradients, optimizer states and the share
of each GPU are as in Rajbhandari et al. 2020, "ZeRO", section 3.1 and figure 1. A frozen weight has no gradient and no
state.

Sizes are bytes unless a name says otherwise.
"""

import math
from dataclasses import dataclass

from src.evaluate import room
from src.machine.activations import activations, logits
from src.machine.parameters import Model
from src.machine.training import Training

GIB = 2**30

OVERHEAD = int(1.5 * GIB)
"""CUDA's context, workspaces of cuBLAS and NCCL, and what the allocator loses to fragments: an assumption."""
WHISPER = {"openai/whisper-large-v3": 1_543_490_560}
"""Parameters of the recognizer that evaluations hear with."""
LIVE_PARAMETERS = 10**9
"""How many parameters ZeRO-3 gathers at once: DeepSpeed's default of stage3_max_live_parameters."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU."""

    weights: int
    teacher: int
    """The frozen copy of the base model that a student is compared with."""
    gradients: int
    """As if all were there while all activations are: a little more than ever is."""
    optimizer: int
    activations: int
    """Kept from the forward pass on."""
    recomputed: int
    """With gradient checkpointing, one layer's activations and their gradients."""
    logits: int
    step: int
    """The optimizer's copy of the gradients in float32, when no activation is left."""
    overhead: int
    host: int
    """What is offloaded, in the machine's memory; for one GPU too."""

    @property
    def total(self) -> int:
        """The peak. Logits and recomputed layers are never there together, nor is the optimizer's copy with them."""
        working = max(self.activations + max(self.logits, self.recomputed), self.step)
        return self.weights + self.teacher + self.gradients + self.optimizer + self.overhead + working

    def fits(self, gpu_gb: float) -> bool:
        """Whether a GPU of `gpu_gb` GiB is enough."""
        return self.total <= gpu_gb * GIB


@dataclass(frozen=True)
class Answering:
    """Bytes on one GPU while a model answers what it is evaluated on."""

    weights: int
    recognizer: int
    cache: int
    """Keys and values of a whole batch."""
    working: int
    """Activations of one layer, where the prompts of a batch go through it, or the logits."""
    overhead: int

    @property
    def total(self) -> int:
        return self.weights + self.recognizer + self.cache + self.working + self.overhead

    def fits(self, gpu_gb: float) -> bool:
        """Whether a GPU of `gpu_gb` GiB is enough."""
        return self.total <= gpu_gb * GIB


def estimate(model: Model, training: Training) -> Memory:
    """The memory of one GPU."""
    e, gpus, stage = training.element, training.gpus, training.zero_stage
    share = lambda least: gpus if stage >= least else 1  # noqa: E731
    trainable = model.trainable
    own = math.ceil(model.all * e / share(3))
    gathered = min(model.all, LIVE_PARAMETERS) * e if stage == 3 and (gpus > 1 or training.offload_parameters) else 0
    gradients = 0 if training.offload_optimizer and stage >= 2 else math.ceil(trainable * training.gradient / share(2))
    if stage:
        gradients += (training.reduce_bucket + (model.largest if stage >= 2 else 0)) * e
    optimizer = optimizer_bytes(trainable, training)
    step = 0 if stage == 0 or training.offload_optimizer else math.ceil(trainable * 4 / share(1))
    kept, working = activations(model, training)
    host = (optimizer + math.ceil(trainable * 4 / share(1))) if training.offload_optimizer else 0
    return Memory(
        weights=gathered + (0 if training.offload_parameters else own),
        teacher=model.total * e if training.teacher else 0,  # DeepSpeed does not know of it
        gradients=gradients,
        optimizer=0 if training.offload_optimizer else optimizer,
        activations=kept,
        recomputed=working,
        logits=logits(model, training),
        step=step,
        overhead=OVERHEAD,
        host=host + (own if training.offload_parameters else 0),
    )


def answering(model: Model, batch_tokens: int, shortest: int, recognizer: int = 0, element: int = 2) -> Answering:
    """The memory of the GPU that a model answers on (src/evaluate/continuous.py).

    batch_tokens: most tokens of the cache. shortest: least of the longest answers of the tasks, in tokens: a slot has
    room for it, or for room.LEAST tokens, which bounds the rows. recognizer: bytes of its weights; what it hears with
    besides is there when the cache is not. The vocoder (some 0.1 GiB) counts as overhead. While prompts are read, their
    own keys and values and a layer's hidden states, gate, up and their product are there beside a full cache; a single
    prompt of more than room.READ_AT_ONCE tokens takes more.
    """
    layer = element * (2 * model.hidden + 3 * max(model.intermediate, 2 * model.queries))
    token = model.layers * 2 * model.keys * element
    rows = math.ceil(batch_tokens / (min(shortest, room.LEAST) + 1))
    return Answering(
        weights=model.total * element,
        recognizer=recognizer,
        cache=batch_tokens * token,
        working=max(min(batch_tokens, room.READ_AT_ONCE) * (layer + token), rows * model.vocabulary * (element + 4)),
        overhead=OVERHEAD,
    )


def optimizer_bytes(trainable: int, training: Training) -> int:
    """AdamW's two moments in float32, and the float32 weights that it updates where they are not the model's own.

    ZeRO keeps weights of its own even where the model is in float32. Each GPU holds its share.
    """
    own_weights = training.precision != "fp32" or training.zero_stage > 0
    return math.ceil(trainable * (12 if own_weights else 8) / (training.gpus if training.zero_stage else 1))
