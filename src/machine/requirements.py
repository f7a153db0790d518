"""What the training steps of a plan need, before anything is loaded: memory of a GPU, tokens, disk, GPU-hours. And the
memory of its steps that generate answers.

Only steps on a published model (a base of the kind `backbone`) are looked at, and only where `model.architecture` says
what its sizes are. The formulas are in src/train/memory.py; here they get the settings of a plan. Importing this module
imports no torch; counting a model does.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

import yaml

from src.data.replay import replay_count
from src.grid.cell import CONF, STAGES, Row
from src.grid.errors import ConfigError
from src.grid.plan import Entry, Plan
from src.grid.step import Step, canonical, closure
from src.grid.store import Store
from src.train import memory
from src.train.memory import ELEMENT, GIB, PEAK_TFLOPS, WHISPER, Answering, Disk, Memory, Model, Training

UTILIZATION = 0.4
"""Share of a GPU's peak that training is assumed to reach."""
MOST_RANKS = 64
"""No remedy asks for more GPUs."""
LEAST_BATCH = 4
"""No remedy asks for a smaller batch of answers than so many of the longest."""


@dataclass(frozen=True)
class Gpu:
    """What one training process has; None: not known."""

    name: str | None = None
    memory_gb: float | None = None
    """GiB."""

    @classmethod
    def of(cls, launcher: Mapping[str, Any] | None, cell: Mapping[str, Any] | None) -> "Gpu":
        """From `hydra.launcher.gpu`, and where a field of it is null from the cell's `gpu`.

        Raises ConfigError where the launcher names another GPU and not its memory.
        """
        own = {key: value for key, value in (launcher or {}).items() if value is not None}
        other = cell or {}
        same = own.get("name") in (None, other.get("name")) or "memory_gb" in own or not other
        if not same:
            raise ConfigError(f"hydra.launcher.gpu.memory_gb is null; it must be that of the {own['name']}, for "
                              f"gpu.memory_gb={other['memory_gb']:g} is of the {other['name']}")  # fmt: skip
        return cls(**{**other, **own})

    @property
    def peak_tflops(self) -> float | None:
        """Of the GPU whose name, as NVIDIA writes it too ("NVIDIA A100-SXM4-80GB"), is known."""
        known = [name for name in PEAK_TFLOPS if self.name and name.lower() in self.name.lower()]
        return PEAK_TFLOPS[max(known, key=len)] if known else None


@dataclass(frozen=True)
class Size:
    """A list of examples, as a stage trains on it."""

    stored: int
    """Its examples, those too that are longer than the stage takes."""
    examples: int
    """Those that the stage takes."""
    tokens: float
    """Of these together."""
    counted: bool
    """Read from an artifact of the store, not assumed."""

    def part(self, drawn: int) -> "Size":
        """So many of its examples, drawn from long and short ones alike."""
        share = drawn / max(self.stored, 1)
        return replace(self, stored=drawn, examples=round(self.examples * share), tokens=self.tokens * share)


@dataclass(frozen=True)
class Requirement:
    """What one training step needs."""

    step: Step
    cached: bool
    model: Model
    training: Training
    gpu: Gpu
    sets: Mapping[str, Size] | None
    """Set (its own, text, earlier stages) -> what of it an epoch has; None where a size is not known."""

    @cached_property
    def memory(self) -> Memory:
        """Of one GPU."""
        return memory.estimate(self.model, self.training)

    @property
    def disk(self) -> Disk:
        """With a merge in the type that is trained in."""
        return memory.disk(self.model, self.training, self.training.element)

    @property
    def examples(self) -> int | None:
        """Of one epoch."""
        return None if self.sets is None else sum(size.examples for size in self.sets.values())

    @property
    def tokens(self) -> float | None:
        """Of all epochs, without padding."""
        if self.sets is None:
            return None
        return self._optimization["epochs"] * sum(size.tokens for size in self.sets.values())

    @property
    def counted(self) -> bool:
        """Whether every size was counted in the store."""
        return self.sets is not None and all(size.counted for size in self.sets.values())

    @property
    def optimizer_steps(self) -> int | None:
        examples, tokens, settings = self.examples, self.tokens, self._optimization
        if examples is None or tokens is None:
            return None
        if settings["batch_size"]:
            return int(settings["epochs"]) * math.ceil(examples / settings["batch_size"])
        return math.ceil(tokens / settings["batch_tokens"])

    @property
    def gpu_hours(self) -> float | None:
        """Of all GPUs together, those that wait for the others of a batch too; None where tokens or GPU are not known.
        """
        peak = self.gpu.peak_tflops
        if not self.tokens or not self.examples or peak is None:
            return None
        mean = math.ceil(self.tokens / self._optimization["epochs"] / self.examples)
        typical = replace(self.training, length=mean)
        return memory.gpu_hours(self.model, typical, round(self.tokens), peak, UTILIZATION) / self.busy

    @property
    def busy(self) -> float:
        """Share of the GPUs' places for examples that the examples of a batch fill, all of the same length."""
        ranks, size = self.training.gpus, self._optimization["batch_size"]
        return size / (ranks * math.ceil(size / ranks)) if size else 1.0

    @property
    def idle(self) -> str | None:
        """One line where there are more GPUs than a batch has examples."""
        ranks, size, stage = self.training.gpus, self._optimization["batch_size"], self.step.config["stage"]
        if not size or ranks <= size:
            return None
        return (
            f"train.ranks={ranks}, and a batch of {stage} has {size} examples: {ranks - size} GPUs compute nothing. "
            f"With train.ranks={size} none waits; train.stages.{stage}.batch_size={ranks} is another experiment."
        )

    @property
    def seconds(self) -> float | None:
        """From start to end, on all its GPUs."""
        return None if self.gpu_hours is None else 3600 * self.gpu_hours / self.training.gpus

    @property
    def fits(self) -> bool:
        """Also where the memory of the GPU is not known."""
        return self.gpu.memory_gb is None or self.memory.fits(self.gpu.memory_gb)

    @property
    def common(self) -> str:
        """Equal where the settings that a remedy changes are set together: those of one cell."""
        return canonical([self._optimization[key] for key in ("ranks", "deepspeed")])

    @property
    def _optimization(self) -> Mapping[str, Any]:
        settings: Mapping[str, Any] = self.step.config["optimization"]
        return settings


@dataclass(frozen=True)
class Answers:
    """What one step needs in which a model answers."""

    step: Step
    cached: bool
    model: Model
    gpu: Gpu
    batch_tokens: int
    recognizer: str | None
    """The published one that hears spoken answers; None: nothing is heard, or it is one of the laptop's."""
    dtype: str
    """Of the recognizer."""

    @property
    def memory(self) -> Answering:
        """Of its GPU, without a recognizer whose size is not known."""
        heard = WHISPER.get(self.recognizer or "", 0) * (4 if self.dtype == "float32" else 2)
        return memory.answering(self.model, self.batch_tokens, min(self._longest), heard, ELEMENT["bf16"])

    @property
    def known(self) -> bool:
        """Whether the size of the recognizer is known, if there is one."""
        return self.recognizer is None or self.recognizer in WHISPER

    @property
    def fits(self) -> bool:
        """Also where the memory of the GPU is not known."""
        return self.gpu.memory_gb is None or self.memory.fits(self.gpu.memory_gb)

    def remedies(self) -> Iterator["Answers"]:
        """With less memory: smaller batches, down to a few of the longest answers, then the recognizer in float16."""
        for dtype in dict.fromkeys((self.dtype, "float16")) if self.recognizer else (self.dtype,):
            tokens = self.batch_tokens
            while tokens >= LEAST_BATCH * max(self._longest):
                yield replace(self, batch_tokens=tokens, dtype=dtype)
                tokens //= 2

    @property
    def _longest(self) -> list[int]:
        return list(self.step.config["max_new_tokens"].values())


def requirements(plan: Plan, store: Store, launcher_gpu: Mapping[str, Any] | None = None) -> list[Requirement]:
    """Of every training step of the plan on a published model of known sizes. launcher_gpu: `hydra.launcher.gpu`."""
    found = []
    for entry, settings, model in _on_published_models(plan, "train"):
        step, gpu = entry.step, Gpu.of(launcher_gpu, settings.get("gpu"))
        made = training(step.config["optimization"])
        found.append(Requirement(step, entry.cached, model, made, gpu, sets(step, settings["expected"], store)))
    return found


def answers(plan: Plan, launcher_gpu: Mapping[str, Any] | None = None) -> list[Answers]:
    """The same of every step that generates answers."""
    found = []
    for entry, settings, model in _on_published_models(plan, "generate"):
        step, gpu = entry.step, Gpu.of(launcher_gpu, settings.get("gpu"))
        heard = step.inputs.get("recognizer")
        known = heard.config if heard is not None and heard.kind == "pretrained" else {}
        tokens, dtype = step.config["batch_tokens"], known.get("dtype", "float32")
        found.append(Answers(step, entry.cached, model, gpu, tokens, known.get("model"), dtype))
    return found


def _on_published_models(plan: Plan, kind: str) -> Iterator[tuple[Entry, Mapping[str, Any], Model]]:
    """The plan's steps of a kind on models of known sizes, each with the settings of a row that needs it."""
    rows: dict[str, Row] = {}
    for row in plan.rows:
        for step in closure(row.steps):
            rows.setdefault(step.name, row)
    models = dict[str, Model]()
    for name, entry in plan.entries.items():
        base = entry.step.inputs.get("base")
        if entry.step.kind != kind or base is None or base.kind != "backbone" or not base.config["architecture"]:
            continue
        adapter = rows[name].config["train"]["adapter"]
        key = canonical([base.config, adapter])
        if key not in models:
            models[key] = count(base.config, adapter)
        yield entry, rows[name].config, models[key]


def count(base: Mapping[str, Any], adapter: Mapping[str, Any]) -> Model:
    """The parameters of a model after the unit tokens are added. base: settings of the step `backbone`."""
    from transformers import AutoConfig

    from src.model.settings import Adapter

    fields = dict(base["architecture"])
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    return memory.describe(config, Adapter(**adapter), vocabulary(base, config.vocab_size))


def vocabulary(base: Mapping[str, Any], rows: int) -> int:
    """Rows of embeddings and head with the units. rows: of the published model, if its tokens are not known."""
    tokens = (base["text_tokens"] or rows) + base["units"]
    multiple = base["pad_to_multiple_of"] or 1
    return math.ceil(tokens / multiple) * multiple


def training(optimization: Mapping[str, Any]) -> Training:
    """A training step's settings as far as they decide on memory. optimization: as in the step's config."""
    ranks, size, length = optimization["ranks"], optimization["batch_size"], optimization["max_length"]
    share = math.ceil(size / ranks) if size else max(1, optimization["batch_tokens"] // (ranks * length))
    return Training(
        batch=min(optimization.get("micro_batch_size") or share, share),
        length=length,
        gpus=ranks,
        gradient_checkpointing=optimization.get("gradient_checkpointing", False),
        fused_loss=optimization.get("fused_loss", False),
        **sharding(optimization["deepspeed"]),
    )


def sharding(deepspeed: Mapping[str, Any]) -> dict[str, Any]:
    """What DeepSpeed's configuration says of a memory.Training."""
    zero = deepspeed.get("zero_optimization", {})

    def offloaded(what: str) -> bool:
        return (zero.get(what) or {}).get("device", "none") != "none"

    stage = zero.get("stage", 0)
    bucket = int(zero.get("reduce_bucket_size", Training.reduce_bucket))
    overlapping = zero.get("overlap_comm", stage == 3)  # DeepSpeed then fills one while it sends the other
    enabled = [name for name in ("bf16", "fp16") if deepspeed.get(name, {}).get("enabled", False)]
    return {
        "zero_stage": stage,
        "precision": enabled[0] if enabled else "fp32",
        "offload_optimizer": offloaded("offload_optimizer"),
        "offload_parameters": offloaded("offload_param"),
        "reduce_bucket": 2 * bucket if overlapping else bucket,
    }


def sets(step: Step, expected: Mapping[str, Mapping[str, Any]], store: Store) -> dict[str, Size] | None:
    """What an epoch of a training step is made of: its own set, and what it replays of others.

    Counted in the store's artifacts where there are any, else `expected`: set -> examples and their lengths.
    """
    stage, replay, longest = step.config["stage"], step.config["replay"], step.config["optimization"]["max_length"]
    earlier = ["text", *STAGES[: STAGES.index(stage)]] if replay else []
    sizes = {name: _size(step.inputs.get(name), expected.get(name), store, longest) for name in (stage, *earlier)}
    known = {name: size for name, size in sizes.items() if size is not None}
    if known.keys() < sizes.keys():
        return None
    made = {stage: known[stage]}
    for name in earlier:
        ratio = replay["text_ratio"] if name == "text" else replay["ratio"]
        number = replay_count(ratio, replay["basis"], known[name].stored, known[stage].stored)
        made[name] = known[name].part(number)
    return made


def _size(source: Step | None, expected: Mapping[str, Any] | None, store: Store, longest: int) -> Size | None:
    """longest: tokens of the longest example that is trained on."""
    if source is not None and source.kind == "examples" and store.lookup(source) is not None:
        from src.train.examples import Stored

        lengths = Stored(store.folder(source)).lengths
        taken = lengths[lengths <= longest]
        return Size(len(lengths), len(taken), float(taken.sum()), True)
    if expected is None:
        return None
    share, tokens = _taken(expected["lengths"], longest)
    stored = expected["examples"]
    return Size(stored, round(stored * share), stored * tokens, False)


def _taken(lengths: Sequence[float], longest: float) -> tuple[float, float]:
    """The share of examples of at most `longest` tokens, and their tokens for each example of all.

    lengths: as in src.config.Expected.
    """
    share = tokens = 0.0
    for least, most in pairwise(lengths):
        below = 1.0 if most <= longest else max(0.0, (longest - least) / (most - least))
        share += below
        tokens += below * (least + min(most, longest)) / 2
    return share / (len(lengths) - 1), tokens / (len(lengths) - 1)


Needing = TypeVar("Needing", Requirement, Answers)


def refusal(found: Iterable[Requirement], answering: Iterable[Answers] = ()) -> str | None:
    """One line on the step that needs most and does not fit, and what would make all fit, of training and of answering;
    None if all that are still to be computed do."""
    return "; and ".join(filter(None, (_training_refusal(found), _answers_refusal(answering)))) or None


def _answers_refusal(found: Iterable[Answers]) -> str | None:
    missing = [each for each in found if not each.cached]
    worst = _worst(missing)
    if worst is None:
        return None
    line = _too_large(worst, missing, 1)
    for helped in worst.remedies():
        after = [_answering_like(each, helped) for each in missing]
        if all(each.fits for each in after):
            told = [f"evaluate.batch_tokens={helped.batch_tokens}"] if helped.batch_tokens < worst.batch_tokens else []
            told += [f"speech.recognizer.dtype={helped.dtype}"] if helped.dtype != worst.dtype else []
            return f"{line}; with {' '.join(told)} they need {max(each.memory.total for each in after) / GIB:.1f}"
    return f"{line}; no setting brings it below: larger GPUs, or a smaller model"


def _worst(missing: Sequence[Needing]) -> Needing | None:
    """The one that needs most of those that do not fit."""
    return max((each for each in missing if not each.fits), key=lambda each: each.memory.total, default=None)


def _too_large(worst: Requirement | Answers, missing: Sequence[Requirement | Answers], gpus: int) -> str:
    """What does not fit, and how many others do not."""
    has = "its GPU has" if gpus == 1 else f"each of its {gpus} GPUs has"
    others = sum(not each.fits for each in missing) - 1
    told = f"; nor {'does another step' if others == 1 else f'do {others} other steps'} fit" if others else ""
    return (
        f"{worst.step.name} needs {worst.memory.total / GIB:.1f} GiB, and {has} {worst.gpu.memory_gb:g} "
        f"(hydra.launcher.gpu, or else gpu){told}"
    )


def _answering_like(each: Answers, helped: Answers) -> Answers:
    """By the settings of `helped`."""
    return replace(each, batch_tokens=helped.batch_tokens, dtype=helped.dtype)


def _training_refusal(found: Iterable[Requirement]) -> str | None:
    missing = [each for each in found if not each.cached]
    worst = _worst(missing)
    if worst is None:
        return None
    line = _too_large(worst, missing, worst.training.gpus)
    alike = [each for each in missing if each.common == worst.common]
    helped = remedy(alike)
    if helped is None:
        return f"{line}; no setting brings it below: larger GPUs, a smaller model, or fewer modules trained in full"
    after = [memory.estimate(each.model, setting) for each, setting in zip(alike, helped, strict=True)]
    host = max(each.host for each in after)
    kept = f", and each process {host / GIB:.0f} GiB of the machine's" if host else ""
    needed = max(each.total for each in after) / GIB
    return f"{line}; with {' '.join(overrides(alike, helped))} the largest needs {needed:.1f}{kept}"


def remedy(found: Sequence[Requirement]) -> list[Training] | None:
    """Settings with which all of them fit, changed alike and as little as need be; None if there are none."""
    ranks = found[0].training.gpus
    while True:
        changed = _fitting(found, [_with_ranks(each, ranks) for each in found])
        if changed is not None or ranks >= MOST_RANKS:
            return changed
        ranks *= 2


def _with_ranks(requirement: Requirement, ranks: int) -> Training:
    before = requirement.training
    if ranks == before.gpus:
        return before
    share = math.ceil(before.batch * before.gpus / ranks)
    return replace(before, gpus=ranks, batch=min(before.batch, share))


def _fitting(found: Sequence[Requirement], before: list[Training]) -> list[Training] | None:
    """`before`, changed until each fits its GPU. One change is made in all, as the settings are common to them."""
    settings = before
    for _ in range(2 * len(found) + 2):
        if _fit(found, settings):
            return _relaxed(found, before, settings)
        pairs = zip(found, settings, strict=True)
        worst, setting = max(pairs, key=lambda pair: memory.estimate(pair[0].model, pair[1]).total)
        changes = memory.remedy(worst.model, setting, worst.gpu.memory_gb or math.inf)
        if not changes:
            return None
        settings = [_changed(each, one, changes) for each, one in zip(found, settings, strict=True)]
    return None


def _relaxed(found: Sequence[Requirement], before: list[Training], settings: list[Training]) -> list[Training]:
    """Without the changes that those made later, for another step, have made needless."""
    for name in memory.ORDER:
        values = [getattr(one, name) for one in before]
        most, now = max(values), max(getattr(one, name) for one in settings)
        weaker = range(most, now, -1) if name == "batch" else range(min(values), now)
        for value in weaker:
            with suppress(ValueError):  # a later change may need this one
                larger = [
                    replace(one, batch=first.batch) if name == "batch" else one
                    for first, one in zip(before, settings, strict=True)
                ]
                change = {name: type(now)(value)}
                candidate = [_changed(each, one, change) for each, one in zip(found, larger, strict=True)]
                if _fit(found, candidate):
                    settings = candidate
                    break
    return settings


def _fit(found: Sequence[Requirement], settings: Sequence[Training]) -> bool:
    return all(
        each.gpu.memory_gb is None or memory.estimate(each.model, one).fits(each.gpu.memory_gb)
        for each, one in zip(found, settings, strict=True)
    )


def _changed(each: Requirement, setting: Training, changes: Mapping[str, Any]) -> Training:
    """Never a larger batch; other sharding with the buffers of its file in conf/deepspeed; no fused loss with ZeRO-3,
    where no GPU has the whole head."""
    changed = replace(setting, **{**changes, "batch": min(setting.batch, changes.get("batch", setting.batch))})
    changed = replace(changed, fused_loss=each.training.fused_loss and changed.zero_stage < 3)
    own = shards(changed) == shards(each.training)
    return replace(changed, reduce_bucket=each.training.reduce_bucket if own else preset(changed)[1])


def shards(setting: Training) -> dict[str, Any]:
    """What a file in conf/deepspeed decides, apart from the sizes of buffers."""
    names = ("zero_stage", "precision", "offload_optimizer", "offload_parameters")
    return {name: getattr(setting, name) for name in names}


def preset(setting: Training) -> tuple[str | None, int]:
    """The file in conf/deepspeed that shards like `setting`, and its reduce_bucket; None and the setting's if none."""
    wanted = shards(setting)
    for file in sorted((CONF / "deepspeed").glob("*.yaml")):
        told = sharding(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
        if {key: told[key] for key in wanted} == wanted:
            return file.stem, told["reduce_bucket"]
    return None, setting.reduce_bucket


def overrides(found: Sequence[Requirement], settings: Sequence[Training]) -> list[str]:
    """What to write on the command line for `settings`, those of `found` being as they are."""
    before, after = found[0].training, settings[0]
    told = []
    if after.gpus != before.gpus:
        told.append(f"train.ranks={after.gpus}")
    if shards(after) != shards(before):
        name, _ = preset(after)
        if name is not None:
            told.append(f"deepspeed={name}")
        else:
            zero = "++deepspeed.zero_optimization"
            told.append(f"{zero}.stage={after.zero_stage}")
            told += [f"{zero}.offload_optimizer.device=cpu"] if after.offload_optimizer else []
            told += [f"{zero}.offload_param.device=cpu"] if after.offload_parameters else []
    if before.fused_loss and not after.fused_loss:
        told.append("train.fused_loss=false")
    if after.gradient_checkpointing and not before.gradient_checkpointing:
        told.append("train.gradient_checkpointing=true")
    pairs = list(zip(found, settings, strict=True))
    if any(one.batch < _with_ranks(each, after.gpus).batch for each, one in pairs):
        told.append(f"train.micro_batch_size={max(one.batch for one in settings)}")
    return told


def by_setting(found: Iterable[Requirement]) -> dict[str, list[Requirement]]:
    """Those that need the same memory, together."""
    same: dict[str, list[Requirement]] = {}
    for each in found:
        same.setdefault(canonical([asdict(each.model), asdict(each.training)]), []).append(each)
    return same
