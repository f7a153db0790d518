"""How many examples and tokens a stage trains on, and what each origin has of its loss: counted in the store, or
assumed."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from src.data.replay import replay_count
from src.grid.step import Step
from src.grid.store import Store
from src.machine.settings import Expected
from src.stages import TEXT
from src.steps.train import Train
from src.train.averaging import shares
from src.train.batches import GROUP, batches
from src.train.methods import made_of
from src.train.settings import AVERAGES, Average, Optimization

SAMPLE = 1000
"""Examples by which the lengths of a set are told."""
SIMULATED = 4 * GROUP
"""Examples of the epoch by which shares of the loss are told."""


@dataclass(frozen=True)
class Size:
    """A set of examples, as a stage trains on it."""

    examples: int
    tokens: float
    lengths: tuple[tuple[float, float], ...]
    """(tokens, learned tokens) of some of its examples, from the shortest to the longest."""
    counted: bool
    """Whether the numbers were read from an artifact of the store, and not assumed."""

    def part(self, drawn: int) -> "Size":
        """So many of its examples, drawn from long and short ones alike."""
        return replace(self, examples=drawn, tokens=self.tokens * drawn / max(self.examples, 1))

    def spread(self, count: int) -> list[tuple[int, int]]:
        """Tokens and learned tokens of `count` examples, evenly spread over its lengths."""
        places = ((2 * i + 1) * len(self.lengths) // (2 * count) for i in range(count))
        return [(round(tokens), round(learned)) for tokens, learned in (self.lengths[place] for place in places)]


def sets(step: Train, expected: Mapping[str, Expected], store: Store) -> dict[str, Size] | None:
    """Set -> what an epoch of a stage has of it: all of its own sets, what it replays of others, and the text that its
    method draws where the stage has none.

    expected: set -> what is assumed where the store has no artifact yet. Returns None where a set is neither stored nor
    expected.
    """
    sources = {**step.examples, **step.replayed} | ({TEXT: step.text} if step.text else {})
    found = {name: _size(source, expected.get(name), store, step.optimization) for name, source in sources.items()}
    known = {name: size for name, size in found.items() if size is not None}
    if len(known) < len(found):
        return None
    own = {name: known[name] for name in step.examples}
    current, drawn = sum(size.examples for size in own.values()), {}
    if step.replay is not None:
        for name in step.replayed:
            ratio = step.replay.of_text if name == TEXT else step.replay.ratio
            drawn[name] = replay_count(ratio, step.replay.basis, known[name].examples, current)
    if step.text and step.method:
        drawn[TEXT] = replay_count(made_of(step.method).text_ratio, "current", known[TEXT].examples, current)
    return own | {name: known[name].part(count) for name, count in drawn.items()}


def loss_shares(found: Mapping[str, Size], settings: Optimization) -> dict[Average, dict[str, float]]:
    """`loss_average` -> set -> its share of the loss of a stage that trains on these sets.

    By making the batches of an epoch, of at most SIMULATED examples, with the lengths that the sets have.
    """
    every = sum(size.examples for size in found.values())
    scale = min(1.0, SIMULATED / max(every, 1))
    epoch = [(name, *lengths) for name, size in found.items() for lengths in size.spread(round(size.examples * scale))]
    if not any(learned for _, _, learned in epoch):
        return {}
    names, tokens, learned = zip(*epoch, strict=True)
    made = batches(tokens, random.Random(0), settings.batch_tokens, settings.batch_size)
    learning = [batch for batch in made if any(learned[i] for i in batch)]
    return {
        average: dict.fromkeys(found, 0.0) | shares(learning, learned, names, settings.ranks, average)
        for average in AVERAGES
    }


def _size(source: Step, expected: Expected | None, store: Store, settings: Optimization) -> Size | None:
    """What a stage can use of one set."""
    if store.lookup(source) is not None:
        from src.train.examples import Stored

        stored = Stored(store.folder(source))
        taken = stored.usable(settings)
        lengths = stored.lengths[taken].clip(max=settings.max_length)
        learned = stored.learned(settings.max_length)[taken]
        order = lengths.argsort(kind="stable")[:: max(1, len(lengths) // SAMPLE)]
        some = tuple(zip(lengths[order].tolist(), learned[order].tolist(), strict=True))
        return Size(len(lengths), float(lengths.sum()), some, True)
    return None if expected is None else _assumed(expected, settings)


def _assumed(expected: Expected, settings: Optimization) -> Size:
    longest, part = settings.max_length, expected.learned
    most = float(longest)  # of a whole example of which something is used
    if settings.too_long == "cut" and part < 1:
        most = longest / (1 - part)  # the response stands at the end: of longer ones nothing is learned
    share = tokens = 0.0
    for least, end in pairwise(expected.lengths):
        whole, whole_tokens = _below(least, end, longest)
        taken, _ = _below(least, end, most)
        share += taken
        tokens += whole_tokens + (taken - whole) * longest
    parts = len(expected.lengths) - 1
    share, tokens = share / parts, tokens / parts
    lengths = []
    for i in range(SAMPLE):
        place = (i + 0.5) / SAMPLE * share * parts
        least, end = expected.lengths[int(place) : int(place) + 2]
        length = least + (place - int(place)) * (end - least)
        used = min(length, longest)
        lengths.append((used, used - (1 - part) * length))
    return Size(round(expected.examples * share), expected.examples * tokens, tuple(lengths), False)


def _below(least: float, end: float, longest: float) -> tuple[float, float]:
    """The share of examples of at most `longest` tokens among lengths evenly spread from `least` to `end`, and their
    tokens for each example of them all."""
    share = 1.0 if end <= longest else max(0.0, (longest - least) / (end - least))
    return share, share * (least + min(end, longest)) / 2
