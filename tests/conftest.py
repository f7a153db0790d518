"""Small real things that many tests use: a corpus, units, a base model."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]

TINY_CORPUS: dict[str, Any] = {
    "seed": 3,
    "evaluation_facts": 20,
    "base_texts": 600,
    "base_instruction_share": 0.4,
    "base_echo_share": 0.15,
    "base_spellings": 60,
    "turns": 3,
    "conversation_words": 60,
    "pool_texts": 300,
    "pool_instruction_share": 0.4,
    "asr_sentences": 40,
    "tts_sentences": 30,
    "sqa_questions": 30,
    "fit_utterances": 40,
    "evaluation_instructions": 20,
    "evaluation_sentences": 10,
}


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from src.data import corpus
    from src.data.settings import ClosedDomain

    out = tmp_path_factory.mktemp("corpus")
    corpus.write(ClosedDomain(**TINY_CORPUS), out)
    return out


@pytest.fixture()
def context(tmp_path: Path) -> SimpleNamespace:
    """What a step is handed: a work folder, and somewhere to report to."""
    work = tmp_path / "work"
    work.mkdir()
    reported: list[dict[str, Any]] = []
    return SimpleNamespace(work=work, report=lambda **numbers: reported.append(numbers), reported=reported)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    """An artifact `base`: an untrained Llama of two layers over the tiny corpus' words and 12 units."""
    import json

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from src.model.tokenizer import build_tokenizer

    out = tmp_path_factory.mktemp("base")
    tokenizer = build_tokenizer(json.loads((tiny_corpus / "words.json").read_text()), 12)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    return out


@pytest.fixture(scope="session")
def tiny_units(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    """An artifact `units` with random units for every word: no audio is needed to train on it."""
    import random

    from src.data import jsonl
    from src.data.unit_format import Units

    out = tmp_path_factory.mktemp("units")
    Units(frame_rate=50.0, clusters=12, repeats=False).write(out)
    rng = random.Random(0)

    def spoken(text: str) -> dict[str, Any]:
        words = text.split()
        units = [[rng.randrange(12) for _ in range(rng.randint(1, 4))] for _ in words]
        return {"text": text, "words": words, "units": units}

    for name in ("asr", "tts", "eval_asr"):
        rows = jsonl.read(tiny_corpus / f"{name}.jsonl")
        jsonl.write(out / f"{name}.jsonl", ({**row, **spoken(row["text"])} for row in rows))
    jsonl.write(
        out / "sqa.jsonl",
        (
            {"id": row["id"], "question": spoken(row["question"]), "answer": spoken(row["answer"])}
            for row in jsonl.read(tiny_corpus / "sqa.jsonl")
        ),
    )
    jsonl.write(
        out / "eval_qa.jsonl",
        (
            {"id": row["id"], "set": row["set"], "question": spoken(row["question"])}
            for row in jsonl.read(tiny_corpus / "eval_qa.jsonl")
        ),
    )
    return out


TINY_ADAPTER: dict[str, Any] = {
    "r": 4,
    "alpha": 2,
    "dropout": 0.1,
    "target_modules": ["q_proj", "k_proj", "v_proj"],
    "full_modules": ["embed_tokens", "lm_head"],
    "full_projections": ["q_proj", "k_proj", "v_proj"],
    "full_last_layers": 1,
}
TINY_OPTIMIZATION: dict[str, Any] = {
    "lr": 2e-3,
    "epochs": 2,
    "warmup_ratio": 0.1,
    "min_lr_ratio": 0.05,
    "weight_decay": 0.0,
    "betas": [0.9, 0.98],
    "max_grad_norm": 1.0,
    "batch_tokens": 256,
    "batch_size": None,
    "max_length": 200,
    "seed": 0,
    "ranks": 1,
    "deepspeed": {"zero_optimization": {"stage": 0}},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest come first, so that no process of the tests is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs folder of the whole table at smoke size, by the local launcher, undisturbed: to be copied.

    It is made once, whichever of the processes of pytest-xdist asks first.
    """
    own = tmp_path_factory.getbasetemp()
    outputs = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "smoke"
    with FileLock(f"{outputs}.lock"):
        if not (outputs / "printed.txt").exists():
            _make_table(outputs)
    return outputs


def _make_table(outputs: Path) -> None:
    command = [sys.executable, "-m", "src.run", "-m", "sweeps=table1", "profile=smoke", f"outputs={outputs}"]
    environment = os.environ | {"WANDB_MODE": "offline"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (outputs / "printed.txt").write_text(done.stdout)
