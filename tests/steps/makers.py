"""Steps of every kind, as tests need them: small, and never run."""

from dataclasses import replace
from typing import Any

from src.grid.typed import typed
from src.model.settings import Adapter
from src.steps.train import Train
from src.train.settings import Optimization
from tests.conftest import TINY_ADAPTER, TINY_OPTIMIZATION
from tests.grid.toys import toy


def train_step(stage: str = "asr", **fields: Any) -> Train:
    """A training step on toys."""
    made = Train(
        stage=stage,
        adapter=typed(Adapter, TINY_ADAPTER),
        optimization=typed(Optimization, TINY_OPTIMIZATION),
        base=toy("base"),
        examples={stage: toy(f"examples-{stage}")},
    )
    return replace(made, **fields)
