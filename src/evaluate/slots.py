"""Keys and values of many rows, in memory that is taken once: each row has a slot and writes into it in place."""

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

    Row i has slot i; the rows are the first ones, without a gap. A layer has [slots, length, heads, dimension], in which
    what a token writes is one piece of memory.
    """

    def __init__(self, like: DynamicCache, slots: int, length: int):
        """like: what the model has read somewhere, whose layers have the shapes to take."""
        super().__init__(layers=[])
        self.slots, self.length = slots, length
        self.keys, self.values = [], []
        for layer in like.layers:
            for kept, tensor in ((self.keys, layer.keys), (self.values, layer.values)):
                kept.append(tensor.new_zeros(slots, length, tensor.shape[1], tensor.shape[3]))
        self._where = torch.empty(0)
        self._seen = (0, 0)

    def fill(self, first: int, read: DynamicCache) -> None:
        """Give the rows that were read together the slots from `first` on. What stands behind a row's end is masked."""
        for kept, layer in self._tensors(read):
            rows, _, width, _ = layer.shape
            kept[first : first + rows, :width] = layer.transpose(1, 2)

    def move(self, sources: list[int], targets: list[int]) -> None:
        """Copy slots onto others."""
        for kept in (*self.keys, *self.values):
            kept[targets] = kept[sources]

    def at(self, lengths: torch.Tensor, longest: int) -> torch.Tensor:
        """Say where the step writes and how far it reads. lengths: tokens of each row before it [rows]; longest: most
        of them. Returns the mask [rows, 1, 1, longest + 1] that is added to the scores of attention."""
        rows = len(lengths)
        places = torch.arange(max(rows, longest + 1), device=lengths.device)
        self._where = places[:rows] * self.length + lengths
        self._seen = (rows, longest + 1)
        mask = torch.zeros(self._seen, dtype=self.keys[0].dtype, device=lengths.device)
        return mask.masked_fill_(places[: longest + 1] > lengths[:, None], -torch.inf)[:, None, None]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values of all tokens, [rows, heads, longest + 1, dimension], after each row's new ones
        [rows, heads, 1, dimension] are written."""
        rows, length = self._seen
        found = []
        for kept, new in ((self.keys[layer_idx], key_states), (self.values[layer_idx], value_states)):
            kept.flatten(0, 1).index_copy_(0, self._where, new.squeeze(2))
            found.append(kept[:rows, :length].transpose(1, 2))
        return found[0], found[1]

    def _tensors(self, read: DynamicCache) -> list[tuple[torch.Tensor, torch.Tensor]]:
        keys = [(kept, layer.keys) for kept, layer in zip(self.keys, read.layers, strict=True)]
        return keys + [(kept, layer.values) for kept, layer in zip(self.values, read.layers, strict=True)]
