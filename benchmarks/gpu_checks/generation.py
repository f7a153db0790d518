"""Answers of the 8 B shape: time a step and memory beside the plan's, and the same answers alone and in a batch."""

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.gpu_checks import memory, shapes
from benchmarks.gpu_checks.findings import Findings
from src.evaluate.generate import generate
from src.machine.memory import GIB, OVERHEAD, answering

ROWS, PROMPT, ANSWER = 28, 300, 200
FEW_LAYERS = 4
"""Of the model whose answers are compared in float32."""
ALONE = 3
"""Prompts that are answered alone too."""

Prompts = Sequence[Sequence[int]]


def generation(found: Findings, quick: bool) -> None:
    """As in a row's evaluation: float16, greedy, 28 rows, prompts of many lengths; beside transformers' generate."""
    prompt, answer = (12, 8) if quick else (PROMPT, ANSWER)
    _equal(found, quick, prompt, answer)
    dtype = getattr(torch, shapes.settings_file("evaluate/paper.yaml")["dtype"])
    config = shapes.architecture(quick)
    model: Any = shapes.random_model(config, dtype).eval()
    prompts = _prompts(prompt, config.vocab_size)
    _ours(model, prompts, 2)
    with memory.watch() as first:
        _ours(model, prompts, 1)
    with memory.watch() as watched:
        ours = _ours(model, prompts, answer)
    counted = shapes.counted(config, shapes.paper_adapter(quick))
    needed = answering(counted, ROWS * (prompt + answer), answer, element=dtype.itemsize)
    found.beside("peak memory of tensors", watched.peak, "GiB", (needed.total - OVERHEAD) / GIB)
    found.figure("plan: cache", needed.cache / GIB, "GiB")
    found.figure("plan: working", needed.working / GIB, "GiB")
    found.gpu_figure("prompts and first token", 1000 * first.seconds, "ms")
    step = (watched.seconds - first.seconds) / (answer - 1)
    found.gpu_figure("a step", 1000 * step, "ms")
    found.gpu_figure("answers", ROWS / watched.seconds, "a second")
    with memory.watch() as theirs:
        peer = _transformers(model, prompts, answer)
    found.gpu_figure("transformers' generate, one batch: all steps", 1000 * theirs.seconds / answer, "ms a step")
    found.figure("tokens equal to transformers', before the first that differs", _alike(ours, peer), "share")
    found.criterion("every answer has its length", {len(row) for row in ours} == {answer})


def _prompts(longest: int, vocabulary: int) -> list[list[int]]:
    """Of some different lengths, the longest of them first."""
    generator = torch.Generator().manual_seed(2)
    lengths = [max(1, longest - (5 * row) % (longest // 2)) for row in range(ROWS)]
    return [torch.randint(vocabulary, (length,), generator=generator).tolist() for length in lengths]


def _ours(model: Any, prompts: Prompts, tokens: int) -> list[list[int]]:
    return generate(model, prompts, tokens, frozenset(), batch_tokens=ROWS * (max(map(len, prompts)) + tokens))


def _transformers(model: Any, prompts: Prompts, tokens: int) -> list[list[int]]:
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    with torch.inference_mode():
        made = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False,
            pad_token_id=0, eos_token_id=None,
        )  # fmt: skip
    answers: list[list[int]] = made[:, width:].tolist()
    return answers


def _equal(found: Findings, quick: bool, prompt: int, answer: int) -> None:
    """In float32, where ties are rare: alone and in a batch."""
    config = shapes.architecture(quick, layers=FEW_LAYERS)
    model: Any = shapes.random_model(config, torch.float32).eval()
    prompts, tokens = _prompts(prompt, config.vocab_size), min(answer, 50)
    together = _ours(model, prompts, tokens)
    chosen = [round(i * (ROWS - 1) / (ALONE - 1)) for i in range(ALONE)]
    alone = [generate(model, [prompts[i]], tokens, frozenset())[0] for i in chosen]
    found.criterion("in float32 answers alone are those in a batch", alone == [together[i] for i in chosen])
    found.criterion("answers differ from each other", len({tuple(row) for row in together}) > ROWS // 2)


def _alike(ours: Prompts, theirs: Prompts) -> float:
    """The share of tokens before the first in each answer that differs."""
    same = 0
    for left, right in zip(ours, theirs, strict=True):
        same += next((i for i, (a, b) in enumerate(zip(left, right, strict=True)) if a != b), len(left))
    return same / sum(map(len, ours))
