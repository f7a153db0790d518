"""A row: one cell's line in the table, and the steps it rests on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from src.grid.step import Step


@dataclass(frozen=True)
class Row:
    """One cell of the grid, laid out as steps."""

    name: str
    label: str
    seed: int
    config: dict[str, Any]
    """The cell's settings, as JSON types."""
    evaluate: Step
    """The scores of its model. The responses that they rate are `evaluate.inputs["responses"]`."""
    curve: Mapping[str, Step] = field(default_factory=dict)
    """Stage -> scores after it, in the order of training, of a row that is a training chain and nothing else."""
    recognizer: Step | None = None
    """The recognizer whose own word error rate bounds S2S, where it is measured."""
    further: Mapping[str, Step] = field(default_factory=dict)
    """Task of lm-evaluation-harness -> its scores."""
    estimate: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Label or kind of a step -> seconds and megabytes, until the store has measured."""
    overrides: tuple[str, ...] = field(default=(), compare=False)
    """The command line that the cell was composed from."""

    @property
    def steps(self) -> list[Step]:
        """What the row needs, without what these steps need in turn."""
        recognizer = [self.recognizer] if self.recognizer else []
        return [self.evaluate, *self.curve.values(), *recognizer, *self.further.values()]

    def estimated(self, step: Step) -> tuple[float, float]:
        """Seconds and megabytes of a step, by its label or its kind; zeros where nothing is known."""
        return self.estimate.get(step.label) or self.estimate.get(step.kind) or (0.0, 0.0)
