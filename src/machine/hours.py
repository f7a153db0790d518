"""How long training and answering take: floating-point operations of a token, bytes of a step, and GPU-hours.

Sources: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1; for attention Chowdhery et al.
2022, "PaLM", appendix B; for the utilization of the hardware Korthikanti et al. 2022, "Reducing Activation
Recomputation in Large Transformer Models", section 6.3; for a step of answering Pope et al. 2022, "Efficiently Scaling
Transformer Inference", section 2: it takes as long as its arithmetic or as reading weights and cache, whichever is
longer.
"""

from src.evaluate.room import room
from src.machine.parameters import Model
from src.machine.settings import ExpectedAnswers
from src.machine.training import Training

UTILIZATION = 0.4
"""Share of a GPU's peak that training is assumed to reach, recomputation counted as work. Dense models of some billion
parameters reach about as much."""

BANDWIDTH_SHARE = 0.7
"""Share of a GPU's memory bandwidth that reading weights and cache is assumed to reach."""


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
    backward = 2 * (model.body + model.body_in_full + model.lora + model.lora_trained) + 2 * attention
    head = (6 if model.head_trained else 4) * model.vocabulary * model.hidden
    again = forward - 2 * model.layers * model.intermediate * model.hidden if training.gradient_checkpointing else 0
    return forward + backward + again + round(head * training.labelled)


def gpu_hours(model: Model, training: Training, tokens: int, peak_tflops: float) -> float:
    """GPU-hours (of all GPUs together) for `tokens`, padding included, at UTILIZATION of `peak_tflops`."""
    return tokens * flops_per_token(model, training) / (peak_tflops * 1e12 * UTILIZATION) / 3600


def answering_seconds(
    model: Model, task: ExpectedAnswers, limit: int, budget: int, element: int, peak_tflops: float, bandwidth_gb: float
) -> float:
    """Seconds of one GPU for the answers to a task, in the slots of src/evaluate/room.py, refilled up to the end.

    limit: tokens of the longest answer. budget: of the cache (evaluate.batch_tokens). element: bytes of a weight.
    A step gives each row a token. It reads the weights once, and the keys and values of each row. A weight costs 2
    operations a token, attention 4 times layers, width and length. Prompts are read at UTILIZATION of the peak. What is
    read again, where an answer is longer than its first slot, is not counted.
    """
    rows = max(1, min(task.examples, budget // (task.prompt + room(task.prompt, 0, limit, budget, task.examples))))
    said = min(task.answer, limit)
    cached = task.prompt + said / 2
    weights = model.body + model.vocabulary * model.hidden
    read = element * (weights + rows * cached * model.layers * 2 * model.keys)
    done = rows * (2 * weights + 4 * model.layers * model.queries * cached)
    step = max(read / (bandwidth_gb * 1e9 * BANDWIDTH_SHARE), done / (peak_tflops * 1e12 * UTILIZATION))
    head = 2 * model.vocabulary * model.hidden
    prompt = task.prompt * (2 * model.body + 2 * model.layers * model.queries * task.prompt) + head
    return task.examples * (said * step / rows + prompt / (peak_tflops * 1e12 * UTILIZATION))
