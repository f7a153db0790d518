"""One line on a plan that does not fit its GPUs, and on what would."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from src.machine import loads
from src.machine.loads import Load
from src.machine.memory import GIB, estimate
from src.machine.overrides import overrides
from src.machine.remedies import remedy
from src.machine.requirements import Answers, Requirement

Needing = TypeVar("Needing", Requirement, Answers)


def refusal(
    found: Iterable[Requirement], answering: Iterable[Answers] = (), others: Iterable[Load] = ()
) -> str | None:
    """One line for training, one for answering and one for other steps, joined: the step that needs most and does not
    fit, and the settings with which all steps fit.

    Only steps that are still to be computed count. None if all of them fit.
    """
    return "; and ".join(filter(None, (_of_training(found), _of_answers(answering), loads.refusal(others)))) or None


def _of_training(found: Iterable[Requirement]) -> str | None:
    missing = [each for each in found if not each.cached]
    worst = _worst(missing)
    if worst is None:
        return None
    line = _too_large(worst, missing, worst.training.gpus)
    alike = [each for each in missing if each.common == worst.common]
    helped = remedy(alike)
    if helped is None:
        return f"{line}; no setting brings it below: larger GPUs, a smaller model, or fewer modules trained in full"
    after = [estimate(each.model, setting) for each, setting in zip(alike, helped, strict=True)]
    host = max(each.host for each in after)
    kept = f", and each process {host / GIB:.0f} GiB of the machine's" if host else ""
    needed = max(each.total for each in after) / GIB
    return f"{line}; with {' '.join(overrides(alike, helped))} the largest needs {needed:.1f}{kept}"


def _of_answers(found: Iterable[Answers]) -> str | None:
    missing = [each for each in found if not each.cached]
    worst = _worst(missing)
    if worst is None:
        return None
    line = _too_large(worst, missing, 1)
    for helped in worst.remedies():
        after = [replace(each, batch_tokens=helped.batch_tokens, dtype=helped.dtype) for each in missing]
        if all(each.fits for each in after):
            told = [f"evaluate.batch_tokens={helped.batch_tokens}"] if helped.batch_tokens < worst.batch_tokens else []
            told += [f"speech.recognizer.dtype={helped.dtype}"] if helped.dtype != worst.dtype else []
            return f"{line}; with {' '.join(told)} they need {max(each.memory.total for each in after) / GIB:.1f}"
    return f"{line}; no setting brings it below: larger GPUs, or a smaller model"


def _worst(missing: Sequence[Needing]) -> Needing | None:
    """The step that needs most, of the steps that do not fit."""
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
