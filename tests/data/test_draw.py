"""Draws against sorting everything."""

import random

import pytest

from src.data.draw import Lowest, draw, rank


@pytest.mark.parametrize("count", [1, 5, 40, 400])
def test_the_lowest_ranks_once_each_in_any_order(count: int) -> None:
    rng = random.Random(count)
    offered = [(rng.randrange(150), str(rng.randrange(1000)).encode()) for _ in range(300)]
    least = {number: min(item for other, item in offered if other == number) for number, _ in offered}
    expected = [least[number] for number in sorted(least)[:count]]
    for _ in range(5):
        rng.shuffle(offered)
        lowest = Lowest(count)
        for number, item in offered:
            lowest.offer(number, item)
        assert lowest.items() == expected


def test_ranks_are_even_and_of_their_arguments_alone() -> None:
    ranks = [rank(seed, purpose, str(n)) for seed in range(2) for purpose in "ab" for n in range(1000)]
    assert len(set(ranks)) == 4000 and all(0 <= number < 2**64 for number in ranks)
    assert sum(ranks) / 4000 / 2**64 == pytest.approx(0.5, abs=0.02)
    assert rank(3, "speech", "103-1240-0000") == 0xc3843b88b5b09497  # on every machine


def test_a_draw_of_more_than_there_are() -> None:
    assert draw("abc", 9, 0, "x") == draw("abc", None, 0, "x") == set("abc")
    assert len(draw("abc", 2, 0, "x")) == 2
