"""The memory of the GPU of steps that neither train nor ask the table's own questions: tasks of lm-evaluation-harness,
and speech that becomes units.

Batches of speech that do not fit are halved while they are computed (src/speech/batches.py), so that a single audio
counts.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from src.grid.plan import Plan
from src.grid.step import Step
from src.grid.typed import typed
from src.machine.memory import GIB, OVERHEAD, WHISPER
from src.machine.parameters import Model
from src.machine.requirements import SPEECH_ELEMENT, count, on_published_models, rows_by_step
from src.machine.settings import Gpu
from src.model.settings import Adapter
from src.speech.published_settings import XLSR2_1B, EncoderSettings
from src.steps.harness import Harness
from src.steps.utterances import Utterances

HARNESS_PROMPT, HARNESS_ANSWER = 1024, 256
"""Tokens of a prompt, an assumption, and of an answer: lm-evaluation-harness's max_gen_toks."""
SPEECHT5 = {"microsoft/speecht5_tts": 158_000_000}
"""Parameters of the voice with its vocoder."""
WORD_TIMES = 6 * 10**8
"""What an audio takes while Whisper large-v3 tells when its words are spoken: mostly the decoder's cache."""


@dataclass(frozen=True)
class Load:
    """What one step needs."""

    step: Step
    cached: bool
    gpu: Gpu
    weights: int
    """Bytes of its models."""
    working: int
    """Bytes of what is computed with them."""
    lighter: tuple[str, int] | None = None
    """Settings with which it needs less, and the bytes that it needs then."""

    @property
    def total(self) -> int:
        """The peak."""
        return self.weights + self.working + OVERHEAD

    @property
    def fits(self) -> bool:
        """Whether its GPU is enough; true where its memory is not known."""
        return self.gpu.memory_gb is None or self.total <= self.gpu.memory_gb * GIB


def loads(plan: Plan, launcher_gpu: Mapping[str, Any] | None = None) -> list[Load]:
    """What every step of these kinds needs whose models have known sizes. launcher_gpu: `hydra.launcher.gpu`."""
    found = []
    for step, base, cached, settings in on_published_models(plan, Harness):
        model = count(base, typed(Adapter, settings["train"]["adapter"], "train.adapter"))
        size = step.options.batch_size
        element = 4 if step.dtype == "float32" else 2
        weights, working = model.total * element, _harness(model, size, element)
        least = weights + _harness(model, 1, element) + OVERHEAD
        lighter = ("evaluate.lm_eval.batch_size=1", least) if size > 1 else None
        found.append(Load(step, cached, Gpu.of(launcher_gpu, settings["gpu"]), weights, working, lighter))
    rows = rows_by_step(plan)
    for name, entry in plan.entries.items():
        if isinstance(entry.step, Utterances):
            gpu = Gpu.of(launcher_gpu, rows[name].config["gpu"])
            found.append(_utterances(entry.step, entry.cached, gpu))
    return found


def refusal(found: Iterable[Load]) -> str | None:
    """One line: the step that needs most and does not fit, and what would. Only steps that are still to be computed
    count."""
    missing = [each for each in found if not each.cached and not each.fits]
    if not missing:
        return None
    worst = max(missing, key=lambda each: each.total)
    others = f"; nor do {len(missing) - 1} others fit" if len(missing) > 1 else ""
    limit = worst.gpu.memory_gb or math.inf
    line = (
        f"{worst.step.name} needs {worst.total / GIB:.1f} GiB, and its GPU has {limit:g} (hydra.launcher.gpu, or else "
        f"gpu){others}"
    )
    if worst.lighter and worst.lighter[1] <= limit * GIB:
        return f"{line}; with {worst.lighter[0]} it needs {worst.lighter[1] / GIB:.1f}"
    return f"{line}; no setting brings it below: larger GPUs, or a smaller model"


def _harness(model: Model, batch: int, element: int) -> int:
    """Bytes of a batch: keys and values, and logits of all tokens of its prompts, with their logarithms in float32.

    element: bytes of an element of the model.
    """
    cache = batch * (HARNESS_PROMPT + HARNESS_ANSWER) * model.layers * 2 * model.keys * element
    return cache + batch * HARNESS_PROMPT * model.vocabulary * (element + 4)


def _utterances(step: Utterances, cached: bool, gpu: Gpu) -> Load:
    """The models of a shard, all in memory at once. One of unknown size is not counted."""
    models: dict[str, tuple[Any, Callable[[Any], int]]] = {
        "encoder": (step.encoder, encoder_parameters),
        "aligner.whisper": (step.aligner, lambda own: WHISPER.get(own.model, 0)),
        "synthesizer": (step.synthesizer, lambda own: SPEECHT5.get(own.model, 0)),
    }
    weights, least, told = 0, 0, []
    for setting, (source, parameters) in models.items():
        if source is not None:
            config = source.config
            number = parameters(config)
            weights += number * SPEECH_ELEMENT[config.dtype]
            least += number * 2
            told += [f"speech.{setting}.dtype=float16"] if number and SPEECH_ELEMENT[config.dtype] == 4 else []
    working = WORD_TIMES if step.aligner is not None else 0
    lighter = (" ".join(told), least + working + OVERHEAD) if told else None
    return Load(step, cached, gpu, weights, working, lighter)


def encoder_parameters(settings: EncoderSettings) -> int:
    """Parameters of a .pt checkpoint of wav2vec 2.0 up to its layer; 0 for a model that brings its own shape."""
    if not settings.model.endswith(".pt"):
        return 0
    shape = {"num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 16, **(settings.architecture or XLSR2_1B)}
    hidden, inner, widths = shape["hidden_size"], shape["intermediate_size"], shape["conv_dim"]
    kernel, groups = shape["num_conv_pos_embeddings"], shape["num_conv_pos_embedding_groups"]
    convolutions = sum(
        before * width * size + (1 + 2) * width  # bias, and the norm's scale and shift
        for before, width, size in zip([1, *widths], widths, shape["conv_kernel"], strict=False)
    )
    projection = 2 * widths[-1] + (widths[-1] + 1) * hidden
    positions = kernel + hidden * hidden // groups * kernel + hidden
    layer = 4 * (hidden + 1) * hidden + 2 * hidden * inner + hidden + inner + 4 * hidden
    return convolutions + projection + positions + settings.layer * layer + hidden  # the mask that fills gaps
