"""How the losses of a batch's tokens become one loss, and how much of it each origin of examples has."""

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

from src.train.settings import Average

Origin = TypeVar("Origin", bound=Hashable)


def factors(learned: Sequence[int], ranks: int, average: Average) -> list[float]:
    """The factor of each example's summed loss, times the number of ranks, over which DeepSpeed averages gradients.

    learned: tokens that are learned in each example of a batch, of which rank r has the examples r, r + ranks ...
    At least one of them is above 0. With n_i learned tokens in example i and B examples that have any, the loss is

        tokens     sum of all tokens' losses / sum of n_i
        examples   1 / B * sum over i of (sum of its tokens' losses / n_i)
        ranks      the mean over ranks of the loss by tokens of each rank's share; a rank without tokens is left out

    As trainers of the transformers library before 4.46 average: over examples with one example at a time in each
    process, however many are accumulated; over ranks where each process has its share of the batch at once.
    """
    if average == "tokens":
        return [ranks / sum(learned)] * len(learned)
    if average == "examples":
        having = sum(number > 0 for number in learned)
        return [ranks / (having * number) if number else 0.0 for number in learned]
    own = [sum(learned[rank::ranks]) for rank in range(ranks)]
    busy = sum(number > 0 for number in own)
    by_rank = [ranks / (busy * number) if number else 0.0 for number in own]
    return [by_rank[place % ranks] for place in range(len(learned))]


def shares(
    batches: Iterable[Sequence[int]], learned: Sequence[int], origins: Sequence[Origin], ranks: int, average: Average
) -> dict[Origin, float]:
    """The share of each origin in the loss over all batches: what it has of it where all tokens have equal losses.

    batches: numbers of examples. learned, origins: of each example, its learned tokens and where it is from.
    """
    total = dict.fromkeys(origins, 0.0)
    count = 0
    for batch in batches:
        tokens = [learned[i] for i in batch]
        for i, number, factor in zip(batch, tokens, factors(tokens, ranks, average), strict=True):
            total[origins[i]] += number * factor
        count += ranks
    return {origin: weight / count for origin, weight in total.items()}
