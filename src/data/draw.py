"""Subsets: random ones, that depend on a seed and on what is drawn and not on the order in which it is met, and the
first of each question set."""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def rank(seed: int, purpose: str, identity: str) -> int:
    """A random number of 64 bits that the three arguments determine: who has the lowest is drawn first."""
    return int.from_bytes(hashlib.blake2b(f"{seed}-{purpose}-{identity}".encode(), digest_size=8).digest())


def draw(identities: Iterable[str], count: int | None, seed: int, purpose: str) -> set[str]:
    """`count` of the identities (all of them if it is None, or if there are no more)."""
    if count is None:
        return set(identities)
    return set(heapq.nsmallest(count, identities, key=lambda identity: rank(seed, purpose, identity)))


class Lowest:
    """Keeps the items with the `count` lowest ranks, each rank once, and forgets the rest."""

    def __init__(self, count: int):
        self.count = count
        self._highest_first: list[int] = []
        self._items: dict[int, bytes] = {}

    def offer(self, rank: int, item: bytes) -> None:
        """Consider an item. If two have one rank, the lesser is kept."""
        if rank in self._items:
            self._items[rank] = min(item, self._items[rank])
        elif len(self._items) < self.count:
            heapq.heappush(self._highest_first, -rank)
            self._items[rank] = item
        elif self._highest_first and rank < -self._highest_first[0]:
            del self._items[-heapq.heappushpop(self._highest_first, -rank)]
            self._items[rank] = item

    def items(self) -> list[bytes]:
        """The items, lowest rank first."""
        return [self._items[rank] for rank in sorted(self._items)]


def first_of_each_set(rows: Iterable[Mapping[str, Any]], count: int) -> set[str]:
    """The ids of the first `count` rows of each question set."""
    seen: Counter[str] = Counter()
    kept = set()
    for row in rows:
        seen[row["set"]] += 1
        if seen[row["set"]] <= count:
            kept.add(row["id"])
    return kept
