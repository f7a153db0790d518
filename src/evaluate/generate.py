"""Batched generation with a KV cache: sorted by length, left-padded, finished rows dropped from the batch.

    responses = generate(model, prompts, max_new_tokens=40, stop=stop_tokens(model, tokenizer))

A response does not depend on which prompts share its batch (beyond the rounding of floats), sampled ones included: each
prompt has random numbers of its own, drawn from the seed and its place in the list.
"""

import random
from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from src.evaluate.asking import Decoding
from src.speech.batches import within_memory

COMPACT = 0.8
"""Finished rows go once no more than this share is left; below 1, as dropping a row copies the cache of the others."""


def stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids that end a response: those of the model's generation settings and the tokenizer's end of sequence."""
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stop: Collection[int],
    decoding: Decoding | None = None,
    batch_tokens: int = 8192,
    finished: Callable[[int], None] | None = None,
    first: int = 0,
    keep: Callable[[str, Callable[[], list[list[int]]]], list[list[int]]] | None = None,
) -> list[list[int]]:
    """Token ids of a response to each prompt, in the order of the prompts, without the token that ended it.

    max_new_tokens: of a response, its ending token included. batch_tokens: most tokens of a batch (rows x (longest
    prompt + max_new_tokens)), which bounds the cache; a single row may exceed it, and a batch that does not fit into a
    GPU's memory is halved. finished: called with the size of each batch that is done. first: the place of the first
    prompt, where the list is a part of a longer one. keep: called with a name for each batch and what computes its
    responses; returns them, computed now or by an earlier attempt. Raises ValueError for an empty prompt.
    """
    for i, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(f"prompt {i} of {len(prompts)} is empty")
    decoding = decoding or Decoding()
    was_training = model.training
    model.eval()
    responses: list[list[int]] = [[] for _ in prompts]

    def compute(rows: list[int]) -> list[list[int]]:
        places = [first + i for i in rows]

        def answer() -> list[list[int]]:
            return _batch(model, [prompts[i] for i in rows], max_new_tokens, frozenset(stop), decoding, places)

        # batches follow one another by length, so that first and number name one
        return keep(f"{places[0]}-{len(places)}", answer) if keep else answer()

    def size(rows: list[int]) -> int:
        return len(rows) * (len(prompts[rows[0]]) + max_new_tokens)

    made = _batches([len(prompt) for prompt in prompts], max_new_tokens, batch_tokens)
    for rows, batch in within_memory(made, compute, size):
        for i, response in zip(rows, batch, strict=True):
            responses[i] = response
        if finished is not None:
            finished(len(rows))
    model.train(was_training)
    return responses


def _batches(lengths: Sequence[int], extra: int, budget: int) -> Iterator[list[int]]:
    """Indices of the prompts of each batch; the longest come first, so that a lack of memory shows at once."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * (lengths[batch[0]] + extra) > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _batch(
    model: PreTrainedModel,
    prompts: list[Sequence[int]],
    max_new_tokens: int,
    stop: frozenset[int],
    decoding: Decoding,
    numbers: list[int],
) -> list[list[int]]:
    """The responses of one batch; `numbers` are the places of its prompts in the whole list."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    ids, mask = ids.to(model.device), mask.to(model.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    chance = _chance(decoding, numbers, max_new_tokens).to(model.device) if decoding.temperature > 0 else None
    cache = DynamicCache(config=model.config)
    rows = list(range(len(prompts)))  # the prompt of each row that is still in the batch
    live = set(rows)
    responses: list[list[int]] = [[] for _ in prompts]
    for step in range(max_new_tokens):
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        chosen = logits.argmax(-1) if chance is None else _draw(logits.float(), decoding, chance[rows, step])
        for row, token in zip(rows, chosen.tolist(), strict=True):
            if row not in live:
                continue
            if token in stop:
                live.discard(row)
            else:
                responses[row].append(token)
        if not live or step + 1 == max_new_tokens:
            break
        positions = positions[:, -1:] + 1
        if len(live) <= COMPACT * len(rows):
            keep = torch.tensor([j for j, row in enumerate(rows) if row in live], device=model.device)
            rows = [row for row in rows if row in live]
            cache.batch_select_indices(keep)
            mask, positions, chosen = mask[keep], positions[keep], chosen[keep]
        ids = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return responses


def _chance(decoding: Decoding, numbers: list[int], steps: int) -> torch.Tensor:
    """Uniform random numbers in [0, 1] for each prompt and step, [prompts, steps]."""
    generators = [random.Random(f"{decoding.seed}-{number}") for number in numbers]
    return torch.tensor([[generator.random() for _ in range(steps)] for generator in generators])


def _draw(logits: torch.Tensor, decoding: Decoding, chance: torch.Tensor) -> torch.Tensor:
    """One token a row of logits [rows, vocabulary], by inverting the cumulative distribution at `chance` [rows]."""
    count = min(decoding.top_k or logits.shape[-1], logits.shape[-1])
    best, tokens = logits.topk(count, dim=-1)
    cumulative = (best / decoding.temperature).softmax(-1).cumsum(-1)
    place = torch.searchsorted(cumulative, chance[:, None], right=True).clamp(max=count - 1)
    return tokens.gather(-1, place).squeeze(-1)
