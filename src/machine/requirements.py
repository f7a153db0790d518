"""What the steps of a plan need before anything is loaded: memory, tokens, disk and GPU-hours of a stage, and memory
where a model answers.

Only steps on a published model (a base of the kind `backbone`) are looked at, and only where `model.architecture` says
what its sizes are. Importing this module imports no torch; counting a model does.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, TypeVar

from src.grid.plan import Plan
from src.grid.row import Row
from src.grid.step import canonical, closure
from src.grid.store import Store
from src.grid.typed import typed
from src.machine import hours, memory
from src.machine.disk import Disk, disk
from src.machine.memory import WHISPER, Answering, Memory
from src.machine.parameters import Model, describe
from src.machine.settings import Expected, ExpectedAnswers, Gpu
from src.machine.sizes import Size, loss_shares, sets
from src.machine.training import Training, training
from src.model.settings import Adapter
from src.stages import TEXT
from src.steps.backbone import Backbone
from src.steps.generate import Generate
from src.steps.harness import Harness
from src.steps.train import Train
from src.train.methods import made_of
from src.train.settings import Average

SPEECH_ELEMENT = {"float32": 4, "tf32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a weight by the dtype of a speech component."""
LEAST_BATCH = 4
"""No remedy asks for a smaller batch of answers than so many of the longest."""


@dataclass(frozen=True)
class Requirement:
    """What one stage of training needs."""

    step: Train
    cached: bool
    model: Model
    training: Training
    gpu: Gpu
    sets: Mapping[str, Size] | None
    """Set -> what an epoch has of it; None where a size is not known."""
    section: str
    """Where the stage's own settings stand: "train.stages.asr"."""
    own: frozenset[str] = field(default_factory=frozenset)
    """Names of the settings that stand there, and so are not those of `train`."""

    @cached_property
    def memory(self) -> Memory:
        """Bytes on one GPU."""
        return memory.estimate(self.model, self.training)

    @property
    def disk(self) -> Disk:
        """Bytes on disk."""
        return disk(self.model, self.training)

    @property
    def examples(self) -> int | None:
        """Examples of one epoch."""
        return None if self.sets is None else sum(size.examples for size in self.sets.values())

    @property
    def tokens(self) -> float | None:
        """Tokens of all epochs, without padding."""
        if self.sets is None:
            return None
        return self.step.optimization.epochs * sum(size.tokens for size in self.sets.values())

    @cached_property
    def loss_shares(self) -> Mapping[Average, Mapping[str, float]]:
        """`loss_average` -> set -> its share of the loss; empty where a size is not known."""
        return {} if self.sets is None else loss_shares(self.sets, self.step.optimization)

    @property
    def counted(self) -> bool:
        """Whether every size was counted in the store."""
        return self.sets is not None and all(size.counted for size in self.sets.values())

    @property
    def optimizer_steps(self) -> int | None:
        """Batches of all epochs."""
        examples, tokens, settings = self.examples, self.tokens, self.step.optimization
        if examples is None or tokens is None:
            return None
        if settings.batch_size:
            return settings.epochs * math.ceil(examples / settings.batch_size)
        return math.ceil(tokens / (settings.batch_tokens or 1))

    @property
    def gpu_hours(self) -> float | None:
        """Hours of all GPUs together, waiting ones too; None where tokens or GPU are not known."""
        peak = self.gpu.peak_tflops
        if not self.tokens or not self.examples or peak is None:
            return None
        mean = math.ceil(self.tokens / self.step.optimization.epochs / self.examples)
        typical = replace(self.training, length=mean)
        return hours.gpu_hours(self.model, typical, round(self.tokens), peak) / self.busy

    @property
    def busy(self) -> float:
        """Share of the GPUs' places for examples that the examples of a batch fill, if all have the same length."""
        ranks, size = self.training.gpus, self.step.optimization.batch_size
        return size / (ranks * math.ceil(size / ranks)) if size else 1.0

    @property
    def idle(self) -> str | None:
        """One line where there are more GPUs than a batch has examples."""
        ranks, size, stage = self.training.gpus, self.step.optimization.batch_size, self.step.stage
        if not size or ranks <= size:
            return None
        return (
            f"train.ranks={ranks}, and a batch of {stage} has {size} examples: {ranks - size} GPUs compute nothing. "
            f"With train.ranks={size} none waits; {self.section}.batch_size={ranks} is another experiment."
        )

    @property
    def seconds(self) -> float | None:
        """Time from start to end, on all its GPUs."""
        return None if self.gpu_hours is None else 3600 * self.gpu_hours / self.training.gpus

    @property
    def fits(self) -> bool:
        """Whether one GPU is enough; true where its memory is not known."""
        return self.gpu.memory_gb is None or self.memory.fits(self.gpu.memory_gb)

    @property
    def common(self) -> str:
        """Equal for stages that one remedy is sought for."""
        return canonical([self.step.optimization.ranks, self.step.optimization.deepspeed])


@dataclass(frozen=True)
class Answers:
    """What one step needs in which a model answers."""

    step: Generate
    cached: bool
    model: Model
    gpu: Gpu
    longest: Mapping[str, int]
    """Task -> tokens of the longest answer."""
    expected: Mapping[str, ExpectedAnswers]
    """Task -> what is assumed of its prompts and answers; not each task need be there."""
    batch_tokens: int
    element: int
    """Bytes of an element of the model, as `evaluate.dtype` has it."""
    recognizer: str | None
    """The published model that hears spoken answers. None: nothing is heard, or by a recognizer that is fitted here."""
    dtype: str
    """The recognizer's type."""

    @property
    def memory(self) -> Answering:
        """Bytes on its GPU, without a recognizer whose size is not known."""
        heard = WHISPER.get(self.recognizer or "", 0) * SPEECH_ELEMENT[self.dtype]
        return memory.answering(self.model, self.batch_tokens, min(self.longest.values()), heard, self.element)

    @property
    def gpu_hours(self) -> float | None:
        """Hours of its GPU for the answers, without what is heard of them; None where lengths or GPU are not known."""
        peak, bandwidth = self.gpu.peak_tflops, self.gpu.bandwidth_gb
        if peak is None or bandwidth is None or not self.longest.keys() <= self.expected.keys():
            return None
        seconds = (
            hours.answering_seconds(
                self.model, self.expected[task], limit, self.batch_tokens, self.element, peak, bandwidth
            )
            for task, limit in self.longest.items()
        )
        return sum(seconds) / 3600

    @property
    def known(self) -> bool:
        """Whether the size of the recognizer is known, if there is one."""
        return self.recognizer is None or self.recognizer in WHISPER

    @property
    def fits(self) -> bool:
        """Whether its GPU is enough; true where its memory is not known."""
        return self.gpu.memory_gb is None or self.memory.fits(self.gpu.memory_gb)

    def remedies(self) -> Iterator["Answers"]:
        """With less memory: smaller batches, down to a few of the longest answers, then the recognizer in float16."""
        for dtype in dict.fromkeys((self.dtype, "float16")) if self.recognizer else (self.dtype,):
            tokens = self.batch_tokens
            while tokens >= LEAST_BATCH * max(self.longest.values()):
                yield replace(self, batch_tokens=tokens, dtype=dtype)
                tokens //= 2


def requirements(plan: Plan, store: Store, launcher_gpu: Mapping[str, Any] | None = None) -> list[Requirement]:
    """What every stage of the plan needs that trains a published model of known sizes.

    launcher_gpu: `hydra.launcher.gpu`. Raises ConfigError where that GPU has another name than the row's and no memory.
    """
    found = []
    for step, base, cached, settings in on_published_models(plan, Train):
        expected = {name: typed(Expected, told, f"expected.{name}") for name, told in settings["expected"].items()}
        section, own = _own_settings(step, settings["train"]["stages"])
        found.append(
            Requirement(
                step=step,
                cached=cached,
                model=_trained(step, count(base, step.adapter)),
                training=training(step.optimization, _has_teacher(step)),
                gpu=Gpu.of(launcher_gpu, settings["gpu"]),
                sets=sets(step, expected, store),
                section=section,
                own=own,
            )
        )
    return found


def answers(plan: Plan, launcher_gpu: Mapping[str, Any] | None = None) -> list[Answers]:
    """What every step of the plan needs in which a published model of known sizes answers. The rest is as above."""
    found = []
    for step, base, cached, settings in on_published_models(plan, Generate):
        heard: Any = step.recognizer
        whisper = heard.config if heard is not None and heard.kind == "pretrained" else None
        found.append(
            Answers(
                step=step,
                cached=cached,
                model=count(base, typed(Adapter, settings["train"]["adapter"], "train.adapter")),
                gpu=Gpu.of(launcher_gpu, settings["gpu"]),
                longest=step.config.max_new_tokens,
                expected={
                    task: typed(ExpectedAnswers, told, f"expected_answers.{task}")
                    for task, told in settings["expected_answers"].items()
                },
                batch_tokens=step.config.batch_tokens,
                element=4 if step.config.dtype == "float32" else 2,
                recognizer=whisper.model if whisper else None,
                dtype=whisper.dtype if whisper else "float32",
            )
        )
    return found


Kind = TypeVar("Kind", Train, Generate, Harness)


def on_published_models(plan: Plan, kind: type[Kind]) -> Iterator[tuple[Kind, Backbone, bool, Mapping[str, Any]]]:
    """(step, its base, whether it is cached, settings of a row that needs it) for steps on a model of known sizes."""
    rows = rows_by_step(plan)
    for name, entry in plan.entries.items():
        step = entry.step
        if isinstance(step, kind) and isinstance(step.base, Backbone) and step.base.config.architecture:
            yield step, step.base, entry.cached, rows[name].config


def _trained(step: Train, model: Model) -> Model:
    """The model as a stage trains it: LoRA may be frozen after the first."""
    frozen = step.previous is not None and step.adapter.lora_in_later_stages == "frozen"
    return replace(model, lora_frozen=True) if frozen else model


def rows_by_step(plan: Plan) -> dict[str, Row]:
    """Name of a step -> the first row that needs it."""
    rows: dict[str, Row] = {}
    for row in plan.rows:
        for each in closure(row.steps):
            rows.setdefault(each.name, row)
    return rows


def _has_teacher(step: Train) -> bool:
    """Whether a stage holds a frozen copy of the base: its method compares with the base, on text that it has."""
    replayed = TEXT in step.replayed and step.replay is not None and step.replay.of_text > 0
    text = TEXT in step.examples or replayed or step.text is not None
    return text and step.method is not None and made_of(step.method).teacher


def _own_settings(step: Train, stages: Mapping[str, Any]) -> tuple[str, frozenset[str]]:
    """The section of a stage, and the names of what is set there. stages: `train.stages`."""
    name = step.stage if step.stage in stages else step.stage.rpartition("_")[0]  # the second asr is asr_2
    return f"train.stages.{name}", frozenset(key for key, value in stages[name].items() if value is not None)


@cache
def count(base: Backbone, adapter: Adapter) -> Model:
    """The parameters of a published model, the unit tokens added. `base.config.architecture` must be known."""
    from transformers import AutoConfig

    fields = dict(base.config.architecture or {})
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    return describe(config, adapter, vocabulary(base, config.vocab_size))


def vocabulary(base: Backbone, rows: int) -> int:
    """Rows of embeddings and head with the units. rows: of the published model, if its tokens are not known."""
    tokens = (base.config.text_tokens or rows) + base.units
    multiple = base.config.pad_to_multiple_of or 1
    return math.ceil(tokens / multiple) * multiple
