"""Responses a second beside transformers' `generate` and lm-evaluation-harness's `hf` model: the same model, prompts,
limits and tokens.

    python -m benchmarks.generation outputs/store/generate-sqa-replay-* [--batch-size 20] [--repeats 3]

Asks the model of a generate step of the store anew, task by task, with the step's own prompts and longest responses;
`make run` leaves thirteen such steps of 957 prompts, in a laptop's size. The others take the prompts as they come in
batches of --batch-size. One thread; time is that of the processor, so that a busy machine matters less. Prints the
responses a second of each, the ratios within each repeat, and how many texts differ from those of transformers.
"""

import argparse
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import torch
from transformers import AutoTokenizer

from src.data import jsonl
from src.evaluate.generate import generate, stop_tokens
from src.model import difference
from src.model.chat import Chat

Prompts = list[list[int]]
Answer = Callable[[Prompts, int], list[str]]
"""From the prompts of a task and its longest response to the responses."""


class Asked:
    """What a generate step asked its model, task by task."""

    def __init__(self, step: Path):
        inputs = json.loads((step / "manifest.json").read_text(encoding="utf-8"))["inputs"]
        base = step.parent / inputs["base"]["name"]
        self.model = difference.load(base, step.parent / inputs["model"]["name"], torch.float32).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(base / difference.MODEL)
        self.stop = stop_tokens(self.model, self.tokenizer)
        settings = json.loads((step / "settings.json").read_text(encoding="utf-8"))
        self.limits: Mapping[str, int] = settings["max_new_tokens"]
        self.batch_tokens: int = settings["batch_tokens"]
        chat = Chat(self.tokenizer)
        said: dict[str, list[str]] = defaultdict(list)
        for row in jsonl.read(step / "responses.jsonl"):
            said[row["task"]].append(row["prompt"])
        self.prompts: dict[str, Prompts] = {
            task: chat.ask([[{"role": "user", "content": text}] for text in texts]) for task, texts in said.items()
        }

    def by_task(self, answer: Callable[[Prompts, int], list[str]]) -> tuple[list[str], float]:
        """The answers to all prompts as texts without special tokens, and the seconds of processor time they took."""
        start = time.process_time()
        answers = [each for task, asked in self.prompts.items() for each in answer(asked, self.limits[task])]
        return answers, time.process_time() - start

    def text(self, tokens: Sequence[int]) -> str:
        """What lm-evaluation-harness makes of tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


def ours(asked: Asked) -> Answer:
    def answer(prompts: Prompts, limit: int) -> list[str]:
        found = generate(asked.model, prompts, limit, asked.stop, batch_tokens=asked.batch_tokens)
        return [asked.text(each) for each in found]

    return answer


def transformers_generate(asked: Asked, size: int) -> Answer:
    def answer(prompts: Prompts, limit: int) -> list[str]:
        found = []
        for first in range(0, len(prompts), size):
            batch = asked.tokenizer.pad({"input_ids": prompts[first : first + size]}, padding_side="left",
                                        return_tensors="pt")  # fmt: skip
            out = asked.model.generate(**batch, max_new_tokens=limit, do_sample=False, eos_token_id=sorted(asked.stop))
            found += [asked.text(row) for row in out[:, batch["input_ids"].shape[1] :].tolist()]
        return found

    return answer


def lm_eval_hf(asked: Asked, size: int) -> Answer:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    language_model: Any = HFLM(pretrained=asked.model, tokenizer=asked.tokenizer, batch_size=size, device="cpu",
                               add_bos_token=False)  # fmt: skip
    until = [asked.tokenizer.decode([token]) for token in sorted(asked.stop)]
    asked.tokenizer.padding_side = "left"

    def answer(prompts: Prompts, limit: int) -> list[str]:
        settings = {"until": until, "max_gen_toks": limit, "do_sample": False}
        requests = [
            Instance("generate_until", {}, (asked.tokenizer.decode(prompt), settings), i)
            for i, prompt in enumerate(prompts)
        ]
        return list(language_model.generate_until(requests, disable_tqdm=True))

    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", type=Path, help="folder of a generate step in a store")
    parser.add_argument("--batch-size", type=int, default=20, help="of the others")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    asked = Asked(given.step)
    ways = {
        "Palimpsest": ours(asked),
        "transformers": transformers_generate(asked, given.batch_size),
        "lm-eval": lm_eval_hf(asked, given.batch_size),
    }
    count = sum(map(len, asked.prompts.values()))
    ratios: dict[str, list[float]] = defaultdict(list)
    for repeat in range(given.repeats):
        taken, texts = {}, {}
        for name, way in ways.items():
            texts[name], taken[name] = asked.by_task(way)
        for name in ways:
            other = sum(a != b for a, b in zip(texts[name], texts["transformers"], strict=True))
            print(f"repeat {repeat + 1}: {name:13}{count / taken[name]:6.0f} responses/s, {taken[name]:6.2f} s, "
                  f"{other} texts of {count} differ", flush=True)  # fmt: skip
        for name in list(ways)[1:]:
            ratios[name].append(taken[name] / taken["Palimpsest"])
    for name, each in ratios.items():
        print(f"median ratio to {name}: {statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})")


if __name__ == "__main__":
    main()
