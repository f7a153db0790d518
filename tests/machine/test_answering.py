"""The hours of answering against what can be said in closed form."""

from dataclasses import replace

import pytest

from src.evaluate.room import room
from src.machine.hours import BANDWIDTH_SHARE, UTILIZATION, answering_seconds
from src.machine.settings import BANDWIDTH_GB, PEAK_TFLOPS, ExpectedAnswers, Gpu
from tests.machine.test_memory import LLAMA_8B, PAPER, describe

TASK = ExpectedAnswers(examples=1000, prompt=300, answer=200)


def seconds(task: ExpectedAnswers = TASK, limit: int = 200, budget: int = 50_000, peak=154.8, bandwidth=768.0) -> float:
    return answering_seconds(describe(LLAMA_8B, PAPER, 138_256), task, limit, budget, 2, peak, bandwidth)


def test_a_step_takes_as_long_as_reading_weights_and_cache() -> None:
    """100 rows, ten times one after another: 16 GB of weights less the embeddings, and 131,072 bytes a cached token."""
    head = 138_256 * 4096
    weights = describe(LLAMA_8B, PAPER, 138_256).total - head
    step = (2 * weights + 100 * 400 * 131_072) / (768e9 * BANDWIDTH_SHARE)
    reading = 1000 * 300 * 2 * (weights - head) / (154.8e12 * UTILIZATION)
    assert seconds() == pytest.approx(2000 * step + reading, rel=0.01)


def test_more_of_anything_takes_longer_and_more_slots_do_not() -> None:
    assert seconds(replace(TASK, examples=2000)) == pytest.approx(2 * seconds())
    assert seconds(replace(TASK, answer=100)) < seconds() < seconds(replace(TASK, prompt=400))
    assert seconds(replace(TASK, answer=900)) == seconds()  # no answer is longer than the limit
    assert seconds(budget=100_000) < seconds() < seconds(budget=10)
    assert seconds(limit=2000) < seconds(replace(TASK, answer=250), limit=2000)


def test_arithmetic_takes_longer_than_reading_where_the_peak_is_low() -> None:
    assert seconds(peak=1.0, bandwidth=768.0) == pytest.approx(seconds(peak=1.0, bandwidth=7680.0))
    assert room(300, 0, 200, 50_000, 1000) == 200


def test_every_gpu_has_both_figures() -> None:
    assert PEAK_TFLOPS.keys() == BANDWIDTH_GB.keys()
    assert Gpu(name="NVIDIA A100-SXM4-80GB").bandwidth_gb == 2039 and Gpu(name="Tesla T4").bandwidth_gb is None
