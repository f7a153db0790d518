"""What a stage needs before it is run: GPU memory by part in training and in evaluation, GPU-hours, disk. No weights
are loaded.

The model is built on the meta device and counted (`describe`); all else are formulas on these counts. Sources:

- weights, gradients, optimizer states and their shares: Rajbhandari et al. 2020, "ZeRO", section 3.1 and figure 1. What
  is frozen has no gradient and no state here.
- activations: the accounting of Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer
  Models", section 4.1, done again for what autograd keeps of a Llama of transformers whose weights are frozen but for
  LoRA and a few modules, with fused attention (`_layer_activations`). A frozen linear layer keeps no input.
- floating-point operations: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1, and for
  attention Chowdhery et al. 2022, "PaLM", appendix B; hardware utilization as in Korthikanti et al., section 6.3.

Sizes are bytes unless a name says otherwise. Memory is that of one GPU.
"""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from src.model.settings import Adapter

GIB = 2**30

ELEMENT = {"bf16": 2, "fp16": 2, "fp32": 4}
OVERHEAD = int(1.5 * GIB)
"""CUDA's context, workspaces of cuBLAS and NCCL, and what the allocator loses to fragments: an assumption."""
WHISPER = {"openai/whisper-large-v3": 1_543_490_560}
"""Parameters of the recognizer that evaluations hear with."""
LIVE_PARAMETERS = 10**9
"""How many parameters ZeRO-3 gathers at once: DeepSpeed's default of stage3_max_live_parameters."""

PEAK_TFLOPS = {
    "V100": 125,
    "A10": 125,
    "A40": 149.7,
    "RTX A6000": 154.8,
    "RTX 4090": 165.2,
    "L40S": 362,
    "A100": 312,
    "H100": 989,
    "H200": 989,
}
"""Dense 16-bit tensor operations a second, in 10^12, from NVIDIA's data sheets."""


@dataclass(frozen=True)
class Model:
    """Counts of a causal language model and of what is trained in it."""

    total: int
    """Parameters of the model itself, LoRA apart."""
    lora: int
    embeddings: int
    head: int
    projections: int
    """Trained in full beside embeddings and head: the projections of the last layers."""
    changed: int
    """Elements of the model's tensors that differ after training: those under LoRA and those trained in full."""
    largest: int
    """Elements of the largest trained tensor."""
    body: int
    """Weights of the linear layers but the head: what every token is multiplied with."""
    body_in_full: int
    """Of these, trained in full."""
    head_trained: bool
    """Also where the head is the embeddings, and is counted there."""
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

    @property
    def trainable(self) -> int:
        return self.lora + self.embeddings + self.head + self.projections

    @property
    def all(self) -> int:
        return self.total + self.lora


@dataclass(frozen=True)
class Training:
    """A setting, as far as it decides what is needed."""

    batch: int
    """Examples on one GPU at a time: the micro-batch, however many of them make a step."""
    length: int
    """Tokens of an example, with padding."""
    gpus: int = 1
    zero_stage: int = 0
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    gradient_checkpointing: bool = False
    offload_optimizer: bool = False
    offload_parameters: bool = False
    fused_loss: bool = False
    """Logits are made in chunks and not kept (Hsu et al. 2024, "Liger Kernel")."""
    labelled: float = 1.0
    """Share of the tokens that have a label: logits are made for these alone."""
    reduce_bucket: int = 5 * 10**8
    """Elements of ZeRO's buffers for gradients: DeepSpeed's reduce_bucket_size, and twice that with overlap_comm."""

    def __post_init__(self) -> None:
        if not 0 <= self.zero_stage <= 3:
            raise ValueError(f"zero_stage={self.zero_stage}: must be 0, 1, 2 or 3")
        if self.precision not in ELEMENT:
            raise ValueError(f"precision={self.precision}: must be one of {', '.join(ELEMENT)}")
        if not 0 < self.labelled <= 1:
            raise ValueError(f"labelled={self.labelled}: must be above 0 and at most 1")
        for name in ("batch", "length", "gpus"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.offload_optimizer and self.zero_stage == 0:
            raise ValueError("offload_optimizer=true: needs zero_stage 1, 2 or 3")
        if self.offload_parameters and self.zero_stage != 3:
            raise ValueError(f"offload_parameters=true: needs zero_stage=3, not {self.zero_stage}")

    @property
    def tokens(self) -> int:
        return self.batch * self.length

    @property
    def labels(self) -> int:
        return math.ceil(self.tokens * self.labelled)

    @property
    def element(self) -> int:
        return ELEMENT[self.precision]


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU."""

    weights: int
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
        return self.weights + self.gradients + self.optimizer + self.overhead + working

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
    """Of one layer, where the prompts of a batch go through it, or of the logits."""
    overhead: int

    @property
    def total(self) -> int:
        return self.weights + self.recognizer + self.cache + self.working + self.overhead

    def fits(self, gpu_gb: float) -> bool:
        """Whether a GPU of `gpu_gb` GiB is enough."""
        return self.total <= gpu_gb * GIB


@dataclass(frozen=True)
class Disk:
    checkpoint: int
    """One checkpoint to go on from, with the optimizer's states."""
    artifact: int
    """A stage: adapter and modules trained in full."""
    model: int
    """A whole model."""
    merged: int
    """A merge by difference: the tensors that differ; the others are shared with the base."""


def describe(config: Any, adapter: "Adapter", vocabulary: int | None = None) -> Model:
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


def estimate(model: Model, training: Training) -> Memory:
    """The memory of one GPU."""
    e, gpus, stage = training.element, training.gpus, training.zero_stage
    share = lambda least: gpus if stage >= least else 1  # noqa: E731
    trainable = model.trainable
    own = math.ceil(model.all * e / share(3))
    gathered = min(model.all, LIVE_PARAMETERS) * e if stage == 3 and (gpus > 1 or training.offload_parameters) else 0
    gradients = 0 if training.offload_optimizer and stage >= 2 else math.ceil(trainable * e / share(2))
    if stage:
        gradients += (training.reduce_bucket + (model.largest if stage >= 2 else 0)) * e
    optimizer = optimizer_bytes(trainable, training)
    step = 0 if stage == 0 or training.offload_optimizer else math.ceil(trainable * 4 / share(1))
    kept, working = _activations(model, training)
    host = (optimizer + math.ceil(trainable * 4 / share(1))) if training.offload_optimizer else 0
    return Memory(
        weights=gathered + (0 if training.offload_parameters else own),
        gradients=gradients,
        optimizer=0 if training.offload_optimizer else optimizer,
        activations=kept,
        recomputed=working,
        logits=_logits(model, training),
        step=step,
        overhead=OVERHEAD,
        host=host + (own if training.offload_parameters else 0),
    )


def answering(model: Model, batch_tokens: int, shortest: int, recognizer: int = 0, element: int = 2) -> Answering:
    """The memory of the GPU that a model answers on (src/evaluate/generate.py).

    batch_tokens: prompts and answers of a batch. shortest: least of the longest answers of the tasks, in tokens, which
    bounds the rows of a batch. recognizer: bytes of its weights; what it hears with besides is there when the cache is
    not. The vocoder (some 0.1 GiB) counts as overhead. Prompts are taken to be all of a batch, as those of ASR nearly
    are: then a layer's hidden states, gate, up and their product are there beside a full cache.
    """
    layer = element * (2 * model.hidden + 3 * max(model.intermediate, 2 * model.queries))
    rows = math.ceil(batch_tokens / (shortest + 1))
    return Answering(
        weights=model.total * element,
        recognizer=recognizer,
        cache=batch_tokens * model.layers * 2 * model.keys * element,
        working=max(batch_tokens * layer, rows * model.vocabulary * (element + 4)),
        overhead=OVERHEAD,
    )


def optimizer_bytes(trainable: int, training: Training) -> int:
    """AdamW's two moments in float32, and the float32 weights that it updates where they are not the model's own.

    ZeRO keeps weights of its own even where the model is in float32. Each GPU holds its share.
    """
    own_weights = training.precision != "fp32" or training.zero_stage > 0
    return math.ceil(trainable * (12 if own_weights else 8) / (training.gpus if training.zero_stage else 1))


def _activations(model: Model, training: Training) -> tuple[int, int]:
    """Bytes kept until the backward pass, and bytes of the layer that is recomputed (0 without checkpointing)."""
    e, tokens = training.element, training.tokens
    layer = _layer_activations(model, e) * tokens
    # the last norm, the head's input, the numbers of the tokens and the places of the labels
    last = (4 * model.hidden + 4 + 8) * tokens + (model.hidden * e + 8) * training.labels
    if training.gradient_checkpointing:
        kept = model.layers * model.hidden * e * tokens  # each layer's input
        return kept + last, layer + 3 * model.intermediate * e * tokens
    full = model.full_inputs * e * tokens if model.dropout else 0  # without dropout LoRA keeps the same input
    return model.layers * layer + full + last, 0


def _layer_activations(model: Model, e: int) -> int:
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


def _logits(model: Model, training: Training) -> int:
    """Three float32 copies of the logits at the start of the backward pass: log-probabilities and two gradients.

    With a fused loss: one chunk of logits in the model's type, the gradient of its input, and that of the head, which
    is made in the forward pass already. A chunk has as many tokens as make it about as large as the input.
    """
    if not training.fused_loss:
        return 12 * model.vocabulary * training.labels
    e, labels = training.element, training.labels
    tokens = math.ceil(labels / math.ceil(model.vocabulary / model.hidden))
    chunk = min(labels, 2 ** math.ceil(math.log2(tokens)))
    return e * (chunk * model.vocabulary + labels * model.hidden + model.vocabulary * model.hidden)


def remedy(model: Model, training: Training, gpu_gb: float) -> dict[str, Any] | None:
    """The settings to change so that it fits, as few as possible; {} if it does already, None if nothing helps.

    Tried in this order, each on top of those before: gradient checkpointing, a smaller batch (accumulate gradients
    instead), ZeRO-2 and 3, offloading the optimizer, offloading the parameters.
    """

    def fits(setting: Training) -> bool:
        return estimate(model, setting).fits(gpu_gb)

    found = training
    for step in _steps(training):
        if fits(found):
            break
        found = replace(found, **step)
    if not fits(found):
        return None
    changed = {name: value for name in ORDER if (value := getattr(found, name)) != getattr(training, name)}
    for name in list(changed):  # an earlier step may not be needed beside a later one, or not as much of it
        weaker = [getattr(training, name)]
        if name == "batch":
            weaker += range(training.batch - 1, changed[name], -1)
        for value in weaker:
            candidate = changed | {name: value}
            with suppress(ValueError):  # the later one may need the earlier one
                if fits(replace(training, **candidate)):
                    changed = candidate
                    break
    return {name: value for name, value in changed.items() if value != getattr(training, name)}


ORDER = ("gradient_checkpointing", "batch", "zero_stage", "offload_optimizer", "offload_parameters")


def _steps(training: Training) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    if not training.gradient_checkpointing:
        steps.append({"gradient_checkpointing": True})
    batch = training.batch
    while batch > 1:
        batch = math.ceil(batch / 2)
        steps.append({"batch": batch})
    if training.gpus > 1:
        steps += [{"zero_stage": stage} for stage in (2, 3) if stage > training.zero_stage]
    if not training.offload_optimizer:
        stage = 3 if training.gpus > 1 else max(2, training.zero_stage)
        steps.append({"offload_optimizer": True, "zero_stage": stage})
    if not training.offload_parameters:
        steps.append({"offload_parameters": True, "zero_stage": 3})
    return steps


def refusal(model: Model, training: Training, gpu_gb: float) -> str | None:
    """One line on why a GPU of `gpu_gb` GiB is not enough and what would help; None if it is."""
    needed = estimate(model, training)
    changes = remedy(model, training, gpu_gb)
    if changes == {}:
        return None
    line = f"needs {needed.total / GIB:.1f} GiB on each GPU of {gpu_gb:g}"
    if changes is None:
        return f"{line}, and no setting brings it below: use larger or more GPUs, or a smaller model"
    better = estimate(model, replace(training, **changes)).total / GIB
    listed = ", ".join(f"{name}={str(value).lower()}" for name, value in changes.items())
    return f"{line}; with {listed} it needs {better:.1f}"


def flops_per_token(model: Model, training: Training) -> int:
    """Floating-point operations that one token costs in training, recomputation counted.

    Trained in full, a weight costs 6: 2 forward, 2 for the gradient of its input, 2 for its own (Kaplan et al.). A
    frozen one costs 4, as gradients still pass through it to the LoRA and the embeddings below; LoRA's own few weights
    cost 6. Attention costs 12 times layers, width and length (PaLM, appendix B). Checkpointing makes each layer's
    forward pass again, up to the last input that autograd keeps: without its down_proj. The head counts for the tokens
    that have a label.
    """
    attention = 4 * model.layers * model.queries * training.length
    forward = 2 * (model.body + model.lora) + attention
    backward = 2 * (model.body + model.body_in_full) + 4 * model.lora + 2 * attention
    head = (6 if model.head_trained else 4) * model.vocabulary * model.hidden
    again = forward - 2 * model.layers * model.intermediate * model.hidden if training.gradient_checkpointing else 0
    return forward + backward + again + round(head * training.labelled)


def gpu_hours(model: Model, training: Training, tokens: int, peak_tflops: float, utilization: float = 0.4) -> float:
    """GPU-hours (of all GPUs together) for `tokens`, padding included.

    utilization: the share of `peak_tflops` that is reached, recomputation counted as work; 0.4 is an assumption, of the
    order that is seen with dense models of this size.
    """
    return tokens * flops_per_token(model, training) / (peak_tflops * 1e12 * utilization) / 3600


def tokens_per_second(model: Model, training: Training, peak_tflops: float, utilization: float = 0.4) -> float:
    """Of all GPUs together, by the same assumption."""
    return training.gpus * peak_tflops * 1e12 * utilization / flops_per_token(model, training)


def disk(model: Model, training: Training, merged_element: int = 4) -> Disk:
    """Bytes on disk.

    merged_element: bytes of an element of a merge's result. A checkpoint holds what is trained and all shares of the
    optimizer's states; with ZeRO-3 the former is only in the latter.
    """
    e = training.element
    states = optimizer_bytes(model.trainable, replace(training, gpus=1))
    weights = model.trainable if training.zero_stage < 3 else 0
    return Disk(
        checkpoint=weights * e + states,
        artifact=model.trainable * e,
        model=model.total * e,
        merged=model.changed * merged_element,
    )
