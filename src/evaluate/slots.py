"""Keys and values of many rows, in memory that is taken once: each row has a slot and writes into it in place."""

from collections.abc import Iterator
from typing import Any

import torch
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer


def fits(model: PreTrainedModel) -> bool:
    """Whether a model's cache is plain keys and values of all tokens, and its attention takes a mask for each row.

    It is not where a layer sees a window of the last tokens, or keeps a state that is no list of keys and values.
    """
    plain = all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
    return plain and model.config._attn_implementation in ("sdpa", "eager")


class Slots(Cache):
    """The cache of a decoding step, in which every row has one new token.

    Row i has slot i; the rows are the first ones, without a gap. A layer has [slots, heads, length, dimension], and is
    nearly as long as the longest row, so that what is read lies close together.
    """

    def __init__(self, like: DynamicCache, slots: int, longest: int):
        """like: what the model has read somewhere, whose layers have the shapes to take. longest: most tokens of a
        slot, ever."""
        super().__init__(layers=[])
        self.longest = longest
        self.keys = [_empty(keys, slots, 0) for keys, _ in _tensors(like)]
        self.values = [_empty(values, slots, 0) for _, values in _tensors(like)]
        self._rows: torch.Tensor = torch.empty(0)
        self._lengths: torch.Tensor = torch.empty(0)
        self._seen = 0

    @property
    def length(self) -> int:
        """Tokens that a slot has place for now."""
        return self.keys[0].shape[2]

    def fill(self, first: int, read: DynamicCache) -> None:
        """Give the rows that were read together the slots from `first` on. What stands behind a row's end is masked."""
        self._reach(read.get_seq_length())
        for i, (keys, values) in enumerate(_tensors(read)):
            for kept, new in ((self.keys[i], keys), (self.values[i], values)):
                kept[first : first + new.shape[0], :, : new.shape[2]] = new

    def move(self, sources: list[int], targets: list[int], longest: int) -> None:
        """Copy slots onto others. longest: tokens of the longest row."""
        for kept in (*self.keys, *self.values):
            kept[targets, :, :longest] = kept[sources, :, :longest]

    def at(self, lengths: torch.Tensor, longest: int) -> torch.Tensor:
        """Say where the step writes and how far it reads. lengths: tokens of each row before it [rows]; longest: most
        of them. Returns the mask [rows, 1, 1, longest + 1] that is added to the scores of attention."""
        self._seen = longest + 1
        self._reach(self._seen)
        self._rows, self._lengths = torch.arange(len(lengths), device=lengths.device), lengths
        mask = torch.zeros(len(lengths), self._seen, dtype=self.keys[0].dtype, device=lengths.device)
        behind = torch.arange(self._seen, device=lengths.device) > lengths[:, None]
        return mask.masked_fill_(behind, -torch.inf)[:, None, None]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values of all tokens, [rows, heads, longest + 1, dimension], after each row's new ones
        [rows, heads, 1, dimension] are written."""
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        keys[self._rows, :, self._lengths] = key_states[:, :, 0]
        values[self._rows, :, self._lengths] = value_states[:, :, 0]
        rows = len(key_states)
        return keys[:rows, :, : self._seen], values[:rows, :, : self._seen]

    def _reach(self, length: int) -> None:
        """Make the slots so long, and a quarter longer, layer by layer: each step would copy them otherwise."""
        if length <= self.length:
            return
        longer = max(length, min(self.longest, length * 5 // 4))
        for layers in (self.keys, self.values):
            for i, old in enumerate(layers):
                layers[i] = _empty(old, len(old), longer)
                layers[i][:, :, : old.shape[2]] = old


def _tensors(cache: DynamicCache) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of each layer, [rows, heads, length, dimension]."""
    for layer in cache.layers:
        assert isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
        yield layer.keys, layer.values


def _empty(like: torch.Tensor, slots: int, length: int) -> torch.Tensor:
    """Zeros: what is masked is multiplied by 0, which makes NaN of what is no number."""
    return like.new_zeros(slots, like.shape[1], length, like.shape[3])
