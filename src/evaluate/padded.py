"""Batches for models whose cache is not plain keys and values: left-padded, with the model's own cache; rows that have
ended are dropped, and none comes in."""

from collections.abc import Iterator, Sequence

import torch
from transformers import DynamicCache, PreTrainedModel

from src.evaluate.row import Row, Saying
from src.speech.batches import by_length, within_memory

COMPACT = 0.8
"""Ended rows go once no more than this share is left; below 1, as dropping a row copies the cache of the others."""


def answered(model: PreTrainedModel, rows: Sequence[Row], saying: Saying, budget: int) -> Iterator[Row]:
    """Each row when its answer has ended.

    budget: most tokens of a batch, rows x (longest prompt + longest answer); a single row may exceed it. A batch that
    does not fit into a GPU's memory is halved. Raises torch.OutOfMemoryError where a single row does not fit.
    """
    lengths = [len(row.prompt) + saying.longest for row in rows]

    def compute(places: list[int]) -> list[Row]:
        batch = [Row(rows[i].place, rows[i].prompt) for i in places]
        _answer(model, batch, saying)
        return batch

    for _, batch in within_memory(by_length(lengths, budget), compute, lambda places: len(places) * lengths[places[0]]):
        yield from batch


def _answer(model: PreTrainedModel, rows: list[Row], saying: Saying) -> None:
    """Extend each row up to the end of its answer."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row.tokens for row in rows], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    live = [True] * len(rows)
    while True:
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        kept = [i for i, each in enumerate(live) if each]
        ended = saying.extend([rows[i] for i in kept], logits[kept])
        for i, end in zip(kept, ended, strict=True):
            live[i] = not end
        if not any(live):
            return
        positions = positions[:, -1:] + 1
        if sum(live) <= COMPACT * len(rows):
            kept = [i for i, each in enumerate(live) if each]
            rows, live = [rows[i] for i in kept], [True] * len(kept)
            chosen = torch.tensor(kept, device=model.device)
            cache.batch_select_indices(chosen)
            mask, positions = mask[chosen], positions[chosen]
        ids = torch.tensor([[row.answer[-1] if row.answer else 0] for row in rows], device=model.device)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
