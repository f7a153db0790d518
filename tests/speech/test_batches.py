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


def test_a_size_that_did_not_fit_is_not_tried_again() -> None:
    tried = []

    def compute(places: list[int]) -> int:
        tried.append(len(places))
        if len(places) > 3:
            raise torch.OutOfMemoryError
        return len(places)

    batches = [list(range(start, start + 8)) for start in range(0, 32, 8)]
    done = list(within_memory([*batches, [32, 33, 34]], compute))
    assert [i for places, _ in done for i in places] == list(range(35))
    assert tried == [8, 4, *[2] * 16, 3], "three fit, and were never seen to fail"


def test_size_is_what_the_memory_grows_with() -> None:
    lengths = [8, 8, 8, 8, 2, 2, 2, 2]

    def size(places: list[int]) -> float:
        return sum(lengths[i] for i in places)

    def compute(places: list[int]) -> None:
        if size(places) > 16:
            raise torch.OutOfMemoryError

    done = within_memory([[0, 1, 2, 3], [4, 5, 6, 7]], compute, size)
    assert [places for places, _ in done] == [[0, 1], [2, 3], [4, 5, 6, 7]], "as many rows, but a quarter of the size"


def test_an_example_that_does_not_fit_alone() -> None:
    def compute(places: list[int]) -> int:
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError):
        list(within_memory([[0, 1]], compute))
