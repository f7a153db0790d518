"""Batched generation with a KV cache.

    responses = generate(model, prompts, max_new_tokens=40, stop=stop_tokens(model, tokenizer))

A response does not depend on which prompts are answered beside it (beyond the rounding of floats), sampled ones
included: each prompt has random numbers of its own, drawn from the seed and its place in the list.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from src.evaluate import continuous, padded, slots
from src.evaluate.asking import Decoding
from src.evaluate.row import Row, Saying

TOLD_AT_ONCE = 64
"""Responses after which those that are new are told."""


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
    first: int = 0,
    known: Mapping[int, list[int]] | None = None,
    finished: Callable[[Mapping[int, list[int]]], None] | None = None,
) -> list[list[int]]:
    """Token ids of a response to each prompt, in the order of the prompts, without the token that ended it.

    max_new_tokens: of a response, its ending token included. batch_tokens: most tokens of the cache (rows x their
    longest, padding included); a single row may exceed it, and where a GPU's memory is less, it is halved. first: the
    place of the first prompt, where the list is a part of a longer one. known: place -> response of an earlier attempt,
    which is not asked again. finished: called with place -> response for some responses at a time, new ones only.
    Raises ValueError for an empty prompt.
    """
    for i, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(f"prompt {i} of {len(prompts)} is empty")
    responses = dict(known or {})
    rows = [Row(first + i, prompt) for i, prompt in enumerate(prompts) if first + i not in responses]
    if max_new_tokens == 0:
        return [[] for _ in prompts]
    saying = Saying(max_new_tokens, frozenset(stop), decoding or Decoding())
    answered = continuous.answered if slots.fits(model) else padded.answered
    was_training = model.training
    model.eval()
    new: dict[int, list[int]] = {}
    for row in answered(model, rows, saying, batch_tokens):
        new[row.place] = row.answer
        if len(new) == TOLD_AT_ONCE:
            responses |= new
            if finished:
                finished(new)
            new = {}
    if new and finished:
        finished(new)
    model.train(was_training)
    responses |= new
    return [responses[first + i] for i in range(len(prompts))]
