"""The averages of the loss against their definitions, in plain Python and in plain PyTorch."""

import sys
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from src.model import adapter
from src.model.chat import IGNORE
from src.model.settings import Adapter
from src.train.averaging import factors, shares
from src.train.loss import ResponseLoss
from src.train.methods import Role, made_of
from src.train.settings import AVERAGES, Average
from tests.conftest import TINY_ADAPTER
from tests.train.test_loop import LIGER, Reference

losses = st.lists(st.floats(0.0, 9.0), max_size=5)


def mean(batch: list[list[float]], ranks: int, average: Average) -> float:
    """Of the tokens' losses of each example."""
    if average == "tokens":
        return fmean(loss for example in batch for loss in example)
    if average == "examples":
        return fmean(fmean(example) for example in batch if example)
    of_ranks = ([loss for example in batch[rank::ranks] for loss in example] for rank in range(ranks))
    return fmean(fmean(own) for own in of_ranks if own)


@given(st.lists(losses, min_size=1, max_size=9).filter(any), st.integers(1, 4), st.sampled_from(AVERAGES))
def test_factors_make_the_mean_that_they_are_named_after(
    batch: list[list[float]], ranks: int, average: Average
) -> None:
    found = factors([len(example) for example in batch], ranks, average)
    of_ranks = [
        sum(factor * sum(example) for factor, example in list(zip(found, batch, strict=True))[rank::ranks])
        for rank in range(ranks)
    ]
    assert fmean(of_ranks) == pytest.approx(mean(batch, ranks, average), abs=1e-9)


def test_the_shares_of_origins_by_hand() -> None:
    """Two batches on two ranks: short answers a and long texts b."""
    learned, origins = [10, 90, 10, 10, 40, 60], ["a", "b", "a", "a", "b", "b"]
    batches = [[0, 1, 2], [3, 4, 5]]
    found = {average: shares(batches, learned, origins, 2, average) for average in AVERAGES}
    assert found["tokens"] == pytest.approx({"a": (20 / 110 + 10 / 110) / 2, "b": (90 / 110 + 100 / 110) / 2})
    assert found["examples"] == pytest.approx({"a": (2 / 3 + 1 / 3) / 2, "b": (1 / 3 + 2 / 3) / 2})
    # ranks: [0, 2] and [1], then [3, 5] and [4]
    assert found["ranks"] == pytest.approx({"a": (1 / 2 + 10 / 70 / 2) / 2, "b": (1 / 2 + 60 / 70 / 2 + 1 / 2) / 2})
    assert all(sum(each.values()) == pytest.approx(1) for each in found.values())


@pytest.mark.parametrize("fused", [False, True])
def test_weights_are_of_the_examples_with_a_method_too(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, fused: bool
) -> None:
    """Loss and gradients, against the whole logits of transformers; the second example has no answer."""
    fake = ModuleType(LIGER)
    fake.LigerFusedLinearCrossEntropyFunction = Reference  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, LIGER, fake)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(50, (4, 20), generator=generator)
    labels = torch.where(torch.rand(4, 20, generator=generator) < 0.4, ids, IGNORE)
    labels[1] = IGNORE
    roles = torch.tensor([int(role) for role in (Role.CROSS_ENTROPY, Role.BOTH, Role.BOTH, Role.METHOD)])
    weights = [0.3, 0.0, 0.05, 2.0]
    model: Any = adapter.trainable(tiny_base, None, Adapter(**{**TINY_ADAPTER, "dropout": 0.0}), 0)
    teacher: Any = adapter.load_base(tiny_base).requires_grad_(False)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    method = made_of({"name": "distill", "weight": 0.7, "temperature": 2.0, "ratio": 0.1})

    def by_hand(with_method: bool) -> Any:
        ours, theirs = model(input_ids=ids).logits[:, :-1], teacher(input_ids=ids).logits[:, :-1]
        total: Any = 0.0
        for row, weight in enumerate(weights):
            at = labels[row, 1:] != IGNORE
            if not with_method or roles[row] & Role.CROSS_ENTROPY:
                targets = labels[row, 1:][at]
                total = total + weight * functional.cross_entropy(ours[row][at], targets, reduction="sum")
            if with_method and roles[row] & Role.METHOD:
                p, q = (x[row][at].div(2.0).log_softmax(-1) for x in (theirs, ours))
                total = total + weight * 0.7 * 4 * (p.exp() * (p - q)).sum()
        return total

    for with_method in (False, True):
        loss = ResponseLoss(model, fused, method if with_method else None, teacher if with_method else None)
        found = loss(ids, labels, roles if with_method else None, weights)
        wanted = by_hand(with_method)
        torch.testing.assert_close(found, wanted)
        trained = [p for p in model.parameters() if p.requires_grad]
        gradients = [torch.autograd.grad(each, trained, allow_unused=True) for each in (found, wanted)]
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
