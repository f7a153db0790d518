"""How much is replayed, and that it is a sample."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data.replay import replay_count, sample_earlier


def test_basis() -> None:
    assert replay_count(0.05, "old", old=281_241, current=100_000) == 14_062
    assert replay_count(0.05, "current", old=281_241, current=100_000) == 5_000
    assert replay_count(2.0, "current", old=10, current=100) == 10
    with pytest.raises(ValueError, match="old, current"):
        replay_count(0.1, "new", 1, 1)


@given(st.integers(0, 200), st.floats(0, 1), st.integers())
def test_sample_has_no_repetition_and_is_reproducible(size: int, ratio: float, seed: int) -> None:
    drawn = sample_earlier({"text": size}, {"text": ratio}, "old", 7, str(seed))["text"]
    assert len(drawn) == len(set(drawn)) == round(ratio * size)
    assert set(drawn) <= set(range(size))
    assert drawn == sample_earlier({"text": size}, {"text": ratio}, "old", 7, str(seed))["text"]


@given(st.lists(st.text(), max_size=200), st.floats(0, 1))
def test_numbers_are_drawn_as_the_examples_themselves_would_be(examples: list[str], ratio: float) -> None:
    drawn = sample_earlier({"asr": len(examples)}, {"asr": ratio}, "old", 7, "3-tts")["asr"]
    count = replay_count(ratio, "old", len(examples), 7)
    assert [examples[i] for i in drawn] == random.Random("3-tts-asr").sample(examples, count)
