"""What training and evaluating published models needs, shown below a plan."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launchers.view import duration, size
from src.machine.hours import BANDWIDTH_SHARE, UTILIZATION
from src.machine.loads import Load
from src.machine.memory import GIB, Answering, Memory
from src.machine.requirements import Answers, Requirement
from src.train.settings import AVERAGES


def needs_table(found: Sequence[Requirement], asked: Sequence[Answers], others: Sequence[Load]) -> RenderableType:
    """Parameters, one line for each training step, and the memory of each setting by part; then the memory of the steps
    `asked`, in which a model answers, and of `others`."""
    parts: list[RenderableType] = []
    if found:
        models = {each.model: each for each in found}
        parts += [Text(_parameters(each)) for each in models.values()]
        parts += [Text(), _steps(found), Text(), *_origins(found), _memory(found), Text()]
    if asked:
        parts += [_answers(asked), Text()]
    if others:
        parts += [_others(others), Text()]
    parts += [Text(line) for line in _assumptions(found)] if found else []
    parts += [Text(line) for line in _answered(found, asked)]
    unknown = dict.fromkeys(each.recognizer for each in asked if not each.known)
    parts += [Text(f"The size of speech.recognizer.model={name} is not known, and not counted.") for name in unknown]
    every: list[Requirement | Answers | Load] = [*found, *asked, *others]
    if all(each.fits for each in every):
        parts.append(Text(verdict(found, asked, others)))
    return Group(*parts)


def missing_verdict(found: Sequence[Requirement], asked: Sequence[Answers], others: Sequence[Load]) -> str | None:
    """The verdict of a run; None where the store has all of these steps."""
    every: list[Requirement | Answers | Load] = [*found, *asked, *others]
    return None if all(each.cached for each in every) else verdict(found, asked, others)


def verdict(found: Sequence[Requirement], asked: Sequence[Answers], others: Sequence[Load]) -> str:
    """One line on whether the GPU that is named is large enough; a refusal is made elsewhere."""
    groups: dict[str, Sequence[Requirement | Answers]] = {"training": found, "evaluation": asked}
    most = {what: max(each.memory.total for each in group) / GIB for what, group in groups.items() if group}
    for kind in dict.fromkeys(each.step.kind for each in others):
        most[kind] = max(each.total for each in others if each.step.kind == kind) / GIB
    every: list[Requirement | Answers | Load] = [*found, *asked, *others]
    named = [each.gpu for each in every]
    limits = sorted({gpu.memory_gb for gpu in named if gpu.memory_gb is not None})
    if not limits:
        enough = max(most.values())
        return f"No GPU is named (hydra.launcher.gpu, gpu), so none was checked: one of {enough:.1f} GiB is enough."
    told = " and ".join(f"{what} {gib:.1f} GiB" for what, gib in most.items())
    return f"Needed at most, of the {limits[0]:g} GiB of each {named[0].name or 'GPU'}: {told}."


def _parameters(each: Requirement) -> str:
    model, layers = each.model, each.step.adapter.full_last_layers
    trained = {
        "LoRA": model.lora_trained,
        "embeddings": model.embeddings,
        "head": model.head,
        f"projections of the last {layers} layers": model.projections,
    }
    listed = ", ".join(f"{name} {number:,}" for name, number in trained.items() if number)
    return (
        f"{model.total:,} parameters ({model.vocabulary:,} tokens) and LoRA; trained are {model.trainable:,}: {listed}"
    )


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, header in enumerate(headers):
        table.add_column(header, justify="right" if number else "left", no_wrap=True)
    return table


def _steps(found: Sequence[Requirement]) -> Table:
    headers = ("examples", "tokens", "batches", "GPU-hours", "GiB a GPU", "GPUs", "artifact", "checkpoint")
    table = _table("training", *headers)
    for each in found:
        hours = each.gpu_hours
        table.add_row(
            each.step.name,
            "-" if each.examples is None else f"{each.examples:,}",
            "-" if each.tokens is None else _millions(each.tokens),
            "-" if each.optimizer_steps is None else f"{each.optimizer_steps:,}",
            "-" if hours is None else f"{hours:,.1f}",
            f"{each.memory.total / GIB:.1f}",
            str(each.training.gpus),
            size(each.disk.artifact / 1e6),
            size(each.disk.checkpoint / 1e6),
        )
    total = [each.gpu_hours for each in found]
    if len(found) > 1 and None not in total:
        table.add_row("together", "", "", "", f"{sum(hours for hours in total if hours):,.1f}")
    return table


def _origins(found: Sequence[Requirement]) -> list[RenderableType]:
    """What each stage trains on, and what each origin has of its examples and, by each average, of its loss."""
    known = [(each, each.sets) for each in found if each.sets and each.loss_shares]
    if not known:
        return []
    table = _table("training", "set", "examples", "share", *(f"loss by {average}" for average in AVERAGES))
    for each, sets in known:
        every = sum(part.examples for part in sets.values())
        marks = {average: "*" if average == each.step.optimization.loss_average else "" for average in AVERAGES}
        for number, (name, part) in enumerate(sets.items()):
            of_loss = (marks[average] + _percent(each.loss_shares[average][name]) for average in AVERAGES)
            step = "" if number else each.step.name
            table.add_row(step, name, f"{part.examples:,}", _percent(part.examples / every), *of_loss)
    told = "* as it is trained (train.loss_average); shares are those of tokens whose losses are equal."
    return [table, Text(told), Text()]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _millions(tokens: float) -> str:
    return f"{tokens / 1e6:,.1f} M" if tokens >= 1e5 else f"{tokens:,.0f}"


def _memory(found: Sequence[Requirement]) -> Table:
    names = [name for name in Memory.__dataclass_fields__ if any(getattr(each.memory, name) for each in found)]
    table = _table(f"GiB of one GPU, {_setting(found[0])}", "batch x length", *names, "peak")
    alike: dict[Any, list[Requirement]] = {}
    for each in found:
        alike.setdefault((each.model, each.training), []).append(each)
    for same in alike.values():
        first = same[0]
        stages = dict.fromkeys(each.step.stage for each in same)
        own = _setting(first)
        table.add_row(
            ", ".join(stages) + ("" if own == _setting(found[0]) else f" ({own})"),
            f"{first.training.batch} x {first.training.length}",
            *_parts(first.memory, names),
        )
    return table


def _answers(asked: Sequence[Answers]) -> Table:
    names = list(Answering.__dataclass_fields__)
    table = _table("GiB of one GPU, answering", "tokens at a time", *names, "peak", "GPU-hours")
    same: dict[Any, list[Answers]] = {}
    for each in asked:
        same.setdefault((each.memory, each.batch_tokens), []).append(each)
    for group in same.values():
        first = group[0]
        what = "speech and text" if first.step.recognizer else "text"
        hours = [each.gpu_hours for each in group]
        told = "-" if None in hours else f"{sum(each for each in hours if each):,.1f}"
        table.add_row(f"{what} ({len(group)})", f"{first.batch_tokens:,}", *_parts(first.memory, names), told)
    return table


def _answered(found: Sequence[Requirement], asked: Sequence[Answers]) -> list[str]:
    """What the hours of answering assume, and all that the grid takes."""
    known = [each.gpu_hours for each in asked if each.gpu_hours is not None]
    if not known:
        return []
    total, gpu = sum(known), asked[0].gpu
    lines = [
        f"Answering assumes expected_answers, {100 * BANDWIDTH_SHARE:.0f} % of {gpu.bandwidth_gb:g} GB/s and "
        f"{100 * UTILIZATION:.0f} % of {gpu.peak_tflops:g} TFLOPS ({gpu.name}). Hearing spoken answers is not counted."
    ]
    trained = [each.gpu_hours for each in found]
    if found and None not in trained:
        hours = sum(each for each in trained if each)
        lines.append(f"Together {hours + total:,.1f} GPU-hours: training {hours:,.1f}, answering {total:,.1f}.")
    return lines


def _others(others: Sequence[Load]) -> Table:
    table = _table("GiB of one GPU, other steps", "weights", "working", "peak")
    same: dict[Any, list[Load]] = {}
    for each in others:
        same.setdefault((each.step.kind, each.weights, each.working), []).append(each)
    for group in same.values():
        sizes = (group[0].weights, group[0].working, group[0].total)
        table.add_row(f"{group[0].step.kind} ({len(group)})", *(f"{size / GIB:.1f}" for size in sizes))
    return table


def _parts(memory: Memory | Answering, names: Sequence[str]) -> list[str]:
    """The named parts and the peak, in GiB."""
    return [f"{number / GIB:.1f}" for number in (*(getattr(memory, name) for name in names), memory.total)]


def _setting(each: Requirement) -> str:
    training = each.training
    told = [f"ZeRO-{training.zero_stage}", training.precision]
    told += ["offloaded"] if training.offload_optimizer or training.offload_parameters else []
    return " ".join(told)


def _assumptions(found: Sequence[Requirement]) -> list[str]:
    first = found[0]
    peak, name = first.gpu.peak_tflops, first.gpu.name
    tokens = "were counted" if all(each.counted for each in found) else "are assumed (expected)"
    lines = [f"Tokens {tokens}, without padding."]
    if any(each.sets is None for each in found):
        lines = ["Tokens are not known: neither counted in the store nor given as expected."]
    if peak is None:
        why = f"{name} is not one of src/machine/settings.py's" if name else "no GPU is named (hydra.launcher.gpu, gpu)"
        lines[0] += f" GPU-hours are not known: {why}."
    else:
        seconds = max((each.seconds or 0 for each in found), default=0)
        lines[0] += (
            f" GPU-hours assume {100 * UTILIZATION:.0f} % of {peak:g} TFLOPS ({name}); the longest step then takes "
            f"{duration(seconds)}."
        )
    lines.append(
        f"On disk, beside that: a merge {size(first.disk.merged / 1e6)}, a whole model (base, export) "
        f"{size(first.disk.model / 1e6)}. The parts of memory are not all there at once; the peak is."
    )
    return [*lines, *dict.fromkeys(each.idle for each in found if each.idle)]
