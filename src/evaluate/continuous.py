"""Continuous batching: a row that has ended leaves at once, and waiting prompts take its place.

The rows that are answered together hold their keys and values in slots of one length (src/evaluate/room.py). A row
whose answer needs more is put aside, and taken up with the others that do, in longer slots. What it has said is kept;
what was computed of it is computed again, once for each doubling of the answer.
"""

from collections.abc import Iterator, Sequence

import torch
from transformers import DynamicCache, PreTrainedModel

from src.evaluate.attention import by_products
from src.evaluate.room import CPU_ROWS, READ_AT_ONCE, room
from src.evaluate.row import Row, Saying
from src.evaluate.slots import Slots

REFILL = 8
"""Waiting rows come in when one of so many slots is empty: reading few prompts takes as long as reading some."""


def answered(model: PreTrainedModel, rows: Sequence[Row], saying: Saying, budget: int) -> Iterator[Row]:
    """Each row when its answer has ended; the longest are begun first, so that a lack of memory shows at once.

    budget: most tokens of the cache, slots x length; a single row may exceed it. It is halved where a GPU's memory is
    less. Raises torch.OutOfMemoryError where a single row does not fit.
    """
    waiting = list(rows)
    while waiting:
        waiting.sort(key=lambda row: (-len(row), row.place))
        batch = _Batch(model, waiting, saying, budget)
        try:
            with by_products(model):
                yield from batch.run()
        except torch.OutOfMemoryError:
            if batch.slots == 1:
                raise
            budget = batch.slots * batch.length // 2
        waiting = batch.left


class _Batch:
    """Rows that are answered in slots of one length."""

    def __init__(self, model: PreTrainedModel, waiting: Sequence[Row], saying: Saying, budget: int):
        """waiting: the longest first."""
        self.model = model
        self.saying = saying
        self.waiting = list(reversed(waiting))
        self.live: list[Row] = []
        self.aside: list[Row] = []
        longest = len(waiting[0])
        most = min(len(waiting), CPU_ROWS if model.device.type == "cpu" else len(waiting))
        said = max(len(row.answer) for row in waiting)
        left = max(saying.longest - len(row.answer) for row in waiting)
        self.length = longest + room(longest, said, left, budget, most)
        self.slots = max(1, min(most, budget // self.length))
        self.cache: Slots | None = None

    @property
    def left(self) -> list[Row]:
        """The rows whose answers have not ended."""
        return self.waiting + self.live + self.aside

    def run(self) -> Iterator[Row]:
        """Each row whose answer has ended; the others are `left`."""
        while self.waiting or self.live:
            if self.waiting and (self.slots - len(self.live)) * REFILL >= self.slots:
                yield from self._refill()
            if self.live:
                yield from self._step()
        self.cache = None

    def _refill(self) -> Iterator[Row]:
        """Read waiting prompts into the empty slots."""
        while self.waiting and len(self.live) < self.slots:
            width = len(self.waiting[-1])
            count = min(self.slots - len(self.live), max(1, READ_AT_ONCE // width))
            new = self.waiting[-count:][::-1]
            logits, read = _read(self.model, new)
            if self.cache is None:
                self.cache = Slots(read, self.slots, self.length)
            self.cache.fill(len(self.live), read)
            del self.waiting[-count:]
            ended = self.saying.extend(new, logits)
            self.live += new
            yield from self._leave([False] * (len(self.live) - len(new)) + ended)

    def _step(self) -> Iterator[Row]:
        """One more token for each row."""
        assert self.cache is not None
        read = [len(row) - 1 for row in self.live]
        ids, lengths = torch.tensor([[row.answer[-1] for row in self.live], read], device=self.model.device)
        mask = self.cache.at(lengths, max(read))
        logits = self.model(
            input_ids=ids[:, None],
            attention_mask=mask,
            position_ids=lengths[:, None],
            past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]
        yield from self._leave(self.saying.extend(self.live, logits))

    def _leave(self, ended: Sequence[bool]) -> Iterator[Row]:
        """Take out the rows that have ended, and put aside those whose slot is full; the last ones fill the gaps."""
        gone = [i for i, row in enumerate(self.live) if ended[i] or len(row) > self.length]
        if not gone:
            return
        out = [self.live[i] for i in gone]
        done = [row for row, i in zip(out, gone, strict=True) if ended[i]]
        self.aside += [row for row, i in zip(out, gone, strict=True) if not ended[i]]
        kept = len(self.live) - len(gone)
        targets = [i for i in gone if i < kept]
        sources = [i for i in range(kept, len(self.live)) if i not in set(gone)]
        for source, target in zip(sources, targets, strict=True):
            self.live[target] = self.live[source]
        del self.live[kept:]
        if targets:
            assert self.cache is not None
            self.cache.move(sources, targets, max(map(len, self.live)))
        yield from done


def _read(model: PreTrainedModel, rows: Sequence[Row]) -> tuple[torch.Tensor, DynamicCache]:
    """The logits of the next token of each row [rows, vocabulary], and the keys and values of all its tokens.

    Rows are padded at their ends, where causal attention does not look from before: no mask is needed.
    """
    width = max(map(len, rows))
    ids = torch.tensor([row.tokens + [0] * (width - len(row)) for row in rows], device=model.device)
    cache = DynamicCache(config=model.config)
    ends = sorted({len(row) - 1 for row in rows})
    logits = model(
        input_ids=ids,
        position_ids=torch.arange(width, device=model.device)[None],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=torch.tensor(ends, device=model.device),
    ).logits
    last = torch.tensor([ends.index(len(row) - 1) for row in rows], device=model.device)
    return logits[torch.arange(len(rows), device=model.device), last], cache
