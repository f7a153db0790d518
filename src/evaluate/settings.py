"""The section `evaluate` of the configuration. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from src.checks import positive, require
from src.evaluate.asking import SPEECH, Asking
from src.evaluate.scoring import Scoring
from src.evaluate.tasks import TASKS, any_spoken

Part = TypeVar("Part")


@dataclass(frozen=True, kw_only=True)
class HarnessOptions:
    """How lm-evaluation-harness asks, by the names of its command's options."""

    num_fewshot: int | None = None
    """Solved examples before each question; null: each task's own number."""
    limit: float | None = None
    """Examples of each task, or below 1 a share of them; null: all."""
    batch_size: int = 1
    apply_chat_template: bool = True

    def __post_init__(self) -> None:
        shots, limit = self.num_fewshot, self.limit
        require(shots is None or shots >= 0, "num_fewshot", shots, "at least 0, or null for each task's own")
        whole = limit is None or 0 < limit < 1 or (limit >= 1 and float(limit).is_integer())
        require(whole, "limit", limit, "a whole number above 0, a share below 1, or null for all")
        positive(self, "batch_size")


@dataclass(frozen=True, kw_only=True)
class LmEval(HarnessOptions):
    """Tasks of lm-evaluation-harness as further columns."""

    tasks: tuple[str, ...] = ()
    """Names of tasks, groups or tags; each is a step of its own."""
    include_path: str | None = None
    """Folder with tasks of one's own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        distinct = len(set(self.tasks)) == len(self.tasks)
        require(distinct, "tasks", list(self.tasks), "a list that names each task once")
        folder = self.include_path
        right = "a folder with task files (*.yaml), or null"
        require(folder is None or Path(folder).is_dir(), "include_path", folder, right)

    @property
    def options(self) -> HarnessOptions:
        """The options of every task's step."""
        return _part(HarnessOptions, self)


@dataclass(frozen=True, kw_only=True)
class Evaluate(Asking, Scoring):
    """How models are asked, and by which rules their responses are scored."""

    lm_eval: LmEval = LmEval()

    def __post_init__(self) -> None:
        positive(self, "asr_examples", "tts_examples")
        Asking.__post_init__(self)
        Scoring.__post_init__(self)
        each = set(self.max_new_tokens) == set(TASKS)
        require(each, "max_new_tokens", dict(self.max_new_tokens), "a number for each of " + ", ".join(TASKS))

    def asking(self, tasks: Sequence[str]) -> Asking:
        """How these tasks are asked. The settings of speech keep their defaults where no task is spoken."""
        asked = _part(Asking, self, without=() if any_spoken(tasks) else SPEECH)
        return replace(asked, max_new_tokens={task: self.max_new_tokens[task] for task in tasks})

    def scoring(self, tasks: Sequence[str]) -> Scoring:
        """How these tasks are scored. Text tasks have no word errors: their normalization keeps its default."""
        return _part(Scoring, self, without=() if any_spoken(tasks) else ("wer_normalization",))


def _part(kind: type[Part], settings: Any, without: Sequence[str] = ()) -> Part:
    """The settings of `kind` among those of a section, by its fields. without: those that keep their defaults."""
    declared = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(settings, name) for name in declared if name not in without})
