"""The compiled path against that of transformers."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers.models.whisper import generation_whisper

from src.speech import whisper
from src.speech.warping import warp


@pytest.fixture(scope="module")
def theirs() -> Any:
    """transformers' own function, out of its source: in its module ours stands in its place."""
    assert generation_whisper._dynamic_time_warping is whisper.warp is warp
    body = ast.parse(Path(generation_whisper.__file__).read_text()).body
    (found,) = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "_dynamic_time_warping"]
    space: dict[str, Any] = {"np": np}
    exec(compile(ast.Module([found], []), "theirs", "exec"), space)
    return space["_dynamic_time_warping"]


def attention(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Costs as they are of Whisper: minus attention, normalized over the tokens. Every second one is rounded, so that
    there are ties."""
    tokens, frames = shape
    weights = np.random.default_rng(seed).standard_normal(shape)
    weights += 4 * np.exp(-0.5 * (np.arange(tokens)[:, None] - np.arange(frames) * tokens / frames) ** 2)
    costs = -(weights - weights.mean(0)) / weights.std(0) if tokens > 1 else -weights
    return np.round(costs, 1) if seed % 2 else costs


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (30, 1), (7, 50), (50, 7), (20, 20), (60, 300)])
def test_the_path_is_that_of_transformers(theirs, shape):
    for seed in range(4):
        costs = attention(shape, seed)
        assert np.array_equal(np.stack(warp(costs)), np.stack(theirs(costs)))


@pytest.mark.parametrize(("costs", "path"), [
    ([[0, 9, 9], [9, 0, 9], [9, 9, 0]], [(0, 0), (1, 1), (2, 2)]),
    ([[0, 0, 9], [9, 9, 0]], [(0, 0), (0, 1), (1, 2)]),
    ([[0], [0]], [(0, 0), (1, 0)]),
])  # fmt: skip
def test_paths_that_are_seen_at_once(costs, path):
    tokens, frames = warp(np.array(costs, float))
    assert list(zip(tokens.tolist(), frames.tolist(), strict=True)) == path
