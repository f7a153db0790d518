"""What one set of instructions for all processors costs (src/grid/instructions.py).

    python -m benchmarks.instruction_sets [--repeats 3]

Three kinds of work at the laptop profile's sizes, one thread: steps of the base (all weights, batches of 1,024 tokens),
steps of a stage (LoRA and full modules, 768 tokens), and generation of 12 tokens for each of 120 prompts. Each is done
by a process of its own with the kernels that the libraries choose for this processor, with those that are fixed, and
with MKL_CBWR=COMPATIBLE, in turn. Prints processor seconds, and ratios to the libraries' own choice within each repeat.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.grid.instructions import COMPATIBLE, MKL, VARIABLES

SETS = {"chosen": dict.fromkeys(VARIABLES, ""), "fixed": VARIABLES, "compatible": {**VARIABLES, MKL: COMPATIBLE}}
VOCABULARY = 640
ADAPTED = ("q_proj", "k_proj", "v_proj")


def model() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def training(trained: Any, count: int, longest: int, batch_tokens: int) -> float:
    """Processor seconds of a step, with `count` examples of 9 tokens or more."""
    from src.grid.context import Context
    from src.model.chat import Example
    from src.train.loop import Loop
    from src.train.settings import Optimization

    rng = random.Random(0)
    ids = [[rng.randrange(3, VOCABULARY) for _ in range(rng.randint(9, longest))] for _ in range(count)]
    settings = Optimization(
        lr=1e-3, epochs=1, warmup_ratio=0.1, min_lr_ratio=0.0, weight_decay=0.0, betas=(0.9, 0.98), max_grad_norm=1.0,
        batch_tokens=batch_tokens, max_length=100, seed=0, deepspeed={"zero_optimization": {"stage": 0}},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as work:
        context = Context(Path(work), "benchmark", silent=True)
        loop = Loop(trained, [Example(one, one) for one in ids], settings, "benchmark", context, None, None, None)
        start = time.process_time()
        loop.run()
        return (time.process_time() - start) / len(loop.plan)


def base() -> float:
    return training(model(), 1000, 35, 1024)


def stage() -> float:
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=64, lora_alpha=16, target_modules=list(ADAPTED), task_type="CAUSAL_LM",
        modules_to_save=["embed_tokens", "lm_head"],
    )  # fmt: skip
    adapted = get_peft_model(model(), lora)
    for name, parameter in adapted.named_parameters():
        if any(f"layers.{i}.self_attn.{one}.base_layer" in name for i in (1, 2) for one in ADAPTED):
            parameter.requires_grad_(True)
    return training(adapted, 500, 70, 768)


def generation() -> float:
    from src.evaluate.generate import generate

    rng = random.Random(0)
    prompts = [[rng.randrange(3, VOCABULARY) for _ in range(rng.randint(10, 60))] for _ in range(120)]
    loaded = model()
    start = time.process_time()
    generate(loaded, prompts, 12, {1})
    return time.process_time() - start


WORK: dict[str, Callable[[], float]] = {"base": base, "stage": stage, "generation": generation}


def measured(work: str, variables: dict[str, str]) -> float:
    """Processor seconds, in a process that has these variables when it loads the libraries."""
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29544"}
    environment = os.environ | place | variables | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.instruction_sets", "--work", work]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", choices=WORK, help="do this once, in this process")
    given = parser.parse_args()
    if given.work:
        print(WORK[given.work]())
        return
    for work in WORK:
        ratios: dict[str, list[float]] = {name: [] for name in SETS}
        for repeat in range(given.repeats):
            seconds = {name: measured(work, variables) for name, variables in SETS.items()}
            for name, one in seconds.items():
                ratios[name].append(one / seconds["chosen"])
            told = ", ".join(f"{name} {1000 * one:.1f} ms ({ratios[name][-1]:.2f})" for name, one in seconds.items())
            print(f"{work}, repeat {repeat + 1}: {told}", flush=True)
        print(f"{work}, median ratio: " + ", ".join(f"{n} {statistics.median(r):.2f}" for n, r in ratios.items()))


if __name__ == "__main__":
    main()
