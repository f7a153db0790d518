"""Batches hold every example once, within their limits."""

import random

from hypothesis import given
from hypothesis import strategies as st

from src.train.batches import batches

lengths = st.lists(st.integers(1, 50), max_size=300)


@given(lengths, st.integers(60, 400))
def test_token_budget(sizes: list[int], budget: int) -> None:
    made = batches(sizes, random.Random(0), batch_tokens=budget)
    assert sorted(i for batch in made for i in batch) == list(range(len(sizes)))
    assert all(max(sizes[i] for i in batch) * len(batch) <= budget for batch in made)


@given(lengths, st.integers(1, 9))
def test_batch_size(sizes: list[int], size: int) -> None:
    made = batches(sizes, random.Random(0), batch_size=size)
    assert sorted(i for batch in made for i in batch) == list(range(len(sizes)))
    assert all(len(batch) <= size for batch in made)
    assert sum(len(batch) < size for batch in made) <= 1


def test_an_example_over_the_budget_stands_alone() -> None:
    assert sorted(batches([5, 500, 5], random.Random(0), batch_tokens=20)) == [[0, 2], [1]]
