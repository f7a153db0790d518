"""Which base model a score rests on."""

import pytest

from src.grid.step import Step
from src.report import curves


@pytest.mark.parametrize("kind", ["base", "backbone"])
def test_a_score_rests_on_the_base_of_its_model_trained_here_or_published(kind: str) -> None:
    base = Step(kind, kind, {})
    stage = Step("train", "train-asr", {}, {"base": base})
    for model in (base, stage, Step("discount", "discount", {}, {"stage": stage})):
        responses = Step("generate", "generate", {}, {"model": model, "base": base})
        score = Step("score", "score", {}, {"responses": responses})
        assert curves.base_of(score) == base and curves.model_of(score) == model
