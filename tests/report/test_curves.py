"""Which base model a score rests on."""

import pytest

from src.report import curves
from tests.report.fakegrid import Fake


@pytest.mark.parametrize("kind", ["base", "backbone"])
def test_a_score_rests_on_the_base_of_its_model_trained_here_or_published(kind: str) -> None:
    base = Fake(of=kind, named=kind)
    stage = Fake(of="train", named="train-asr", base=base)
    for model in (base, stage, Fake(of="discount", named="discount", stage=stage)):
        responses = Fake(of="generate", named="generate", model=model, base=base)
        score = Fake(of="score", named="score", responses=responses)
        assert curves.base_of(score) == base and curves.model_of(score) == model
