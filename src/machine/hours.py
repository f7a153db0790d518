"""How long training takes: floating-point operations of a token, and GPU-hours.

Sources: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1; for attention Chowdhery et al.
2022, "PaLM", appendix B; for the utilization of the hardware Korthikanti et al. 2022, "Reducing Activation
Recomputation in Large Transformer Models", section 6.3.
"""

from src.machine.parameters import Model
from src.machine.training import Training

UTILIZATION = 0.4
"""Share of a GPU's peak that training is assumed to reach, recomputation counted as work. Dense models of some billion
parameters reach about as much."""


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
