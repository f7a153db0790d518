"""Training throughput beside transformers' Trainer: the same model, examples, batch sizes and optimizer settings.

    python -m benchmarks.training [--examples 3200] [--batch-size 16] [--repeats 3]

Both train LoRA (r 64 on q, k, v) on a Llama of the laptop profile's size, one thread, examples of 10 to 70 tokens,
grouped by length. Prints tokens (without padding) per second of each, and their ratio within each repeat.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", OMP_NUM_THREADS="1")
os.environ.setdefault("MASTER_PORT", "29533")

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from src.grid.context import Context
from src.model.chat import IGNORE, Example
from src.train.examples import Held, Selection
from src.train.loop import train
from src.train.methods import Role
from src.train.settings import Optimization

VOCABULARY = 640


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, tie_word_embeddings=False,
    )  # fmt: skip
    lora = LoraConfig(r=64, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj"], task_type="CAUSAL_LM")
    return get_peft_model(LlamaForCausalLM(config), lora)


def examples(count: int) -> list[Example]:
    """Random tokens; the last third of each is the response."""
    rng = random.Random(0)
    made = []
    for _ in range(count):
        ids = [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(10, 70))]
        prompt = len(ids) * 2 // 3
        made.append(Example(ids, [IGNORE] * prompt + ids[prompt:]))
    return made


def ours(data: list[Example], batch_size: int, work: Path) -> float:
    settings = Optimization(
        lr=1e-3, epochs=1, warmup_ratio=0.1, min_lr_ratio=0.0, weight_decay=0.0, betas=(0.9, 0.999), max_grad_norm=1.0,
        batch_tokens=None, batch_size=batch_size, max_length=100, seed=0, ranks=1,
        deepspeed={"zero_optimization": {"stage": 0}},
    )  # fmt: skip
    context = Context(work, "benchmark", silent=True)
    start = time.perf_counter()
    chosen = Selection([(Held(data), range(len(data)), Role.CROSS_ENTROPY)], settings.max_length)
    train(model(), chosen, settings, "benchmark", context)
    return time.perf_counter() - start


def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    length = max(len(example["input_ids"]) for example in batch)
    pad = lambda key, value: torch.tensor([e[key] + [value] * (length - len(e[key])) for e in batch])  # noqa: E731
    return {"input_ids": pad("input_ids", 0), "labels": pad("labels", IGNORE)}


def peer(data: list[Example], batch_size: int, work: Path) -> float:
    arguments = TrainingArguments(
        output_dir=str(work), per_device_train_batch_size=batch_size, num_train_epochs=1, learning_rate=1e-3,
        lr_scheduler_type="cosine", warmup_steps=0.1, max_grad_norm=1.0, report_to=[], save_strategy="no",
        logging_steps=10, train_sampling_strategy="group_by_length", use_cpu=not torch.cuda.is_available(),
        remove_unused_columns=False, disable_tqdm=True,
    )  # fmt: skip
    rows: Any = [{"input_ids": e.ids, "labels": e.labels} for e in data]
    start = time.perf_counter()
    Trainer(model=model(), args=arguments, train_dataset=rows, data_collator=collate).train()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=3200)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = examples(given.examples)
    tokens = sum(len(example.ids) for example in data)
    ratios = []
    for repeat in range(given.repeats):
        with tempfile.TemporaryDirectory() as work:
            mine = ours(data, given.batch_size, Path(work) / "ours")
            theirs = peer(data, given.batch_size, Path(work) / "peer")
        ratios.append(theirs / mine)
        print(f"repeat {repeat + 1}: ours {tokens / mine:7.0f} tokens/s, Trainer {tokens / theirs:7.0f}, "
              f"ratio {theirs / mine:.2f}", flush=True)  # fmt: skip
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
