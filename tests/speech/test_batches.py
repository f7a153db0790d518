import pytest
import torch

from src.speech.batches import by_length, within_memory


def test_the_longest_come_first() -> None:
    assert list(by_length([3, 9, 1, 4], most=9)) == [[1], [3, 0], [2]]
    assert list(by_length([3, 9, 1, 4], most=100, rows=3)) == [[1, 3, 0], [2]]
    assert list(by_length([], most=9)) == []


def test_batches_that_do_not_fit_are_halved() -> None:
    tried = []

    def compute(places: list[int]) -> int:
        tried.append(places)
        if len(places) > 2:
            raise torch.OutOfMemoryError
        return sum(places)

    assert list(within_memory([[1, 2, 3, 4, 5], [6]], compute)) == [([1, 2], 3), ([3], 3), ([4, 5], 9), ([6], 6)]
    assert tried[:3] == [[1, 2, 3, 4, 5], [1, 2], [3, 4, 5]]


def test_an_example_that_does_not_fit_alone() -> None:
    def compute(places: list[int]) -> int:
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError):
        list(within_memory([[0, 1]], compute))
