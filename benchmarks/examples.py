"""Throughput of the step `examples`, and of reading what it writes: utterances as long as the paper's, 10,000 units.

    python -m benchmarks.examples [--rows 10000]

595 frames at 50 Hz and 35 words each; one thread. The tokenizer is byte-level, of 256 letters and the units. Prints
tokens per second of wall time and of processor time.
"""

import argparse
import os
import random
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from src.data import jsonl
from src.data.unit_format import Units
from src.grid.context import Context
from src.model.tokenizer import BOS, CHAT_TEMPLATE, EOT, extend_with_units
from src.stages import SETS
from src.train.examples import Stored, tokenize

UNITS, WORDS, UNITS_PER_WORD = 10_000, 35, 17


def save_tokenizer(folder: Path) -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BOS, eos_token=EOT, chat_template=CHAT_TEMPLATE
    )
    extend_with_units(tokenizer, UNITS).save_pretrained(folder)


def save_units(folder: Path, rows: int) -> None:
    """Random units, and as many letters to a word as English has; for TTS the units of each word apart."""
    rng = random.Random(0)
    folder.mkdir()
    Units(frame_rate=50.0, clusters=UNITS, repeats=True).write(folder)
    asr, tts = [], []
    for i in range(rows):
        words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 8))) for _ in range(WORDS)]
        units = [[rng.randrange(UNITS) for _ in range(UNITS_PER_WORD)] for _ in words]
        text = " ".join(words)
        asr.append({"id": str(i), "text": text, "words": [text], "units": [[unit for own in units for unit in own]]})
        tts.append({"id": str(i), "text": text, "words": words, "units": units})
    jsonl.write(folder / "asr.jsonl", asr)
    jsonl.write(folder / "tts.jsonl", tts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_tokenizer(folder / "base" / "model")
        save_units(folder / "units", given.rows)
        for source in ("asr", "tts"):
            out = folder / source
            out.mkdir()
            file, context = folder / "units" / f"{source}.jsonl", Context(folder, source)
            wall, processor = time.perf_counter(), time.process_time()
            conversations = SETS[source].conversations(file, 0)
            summary = tokenize(conversations, file, folder / "base", out, context)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            tokens = summary["tokens"]
            size = sum(file.stat().st_size for file in out.iterdir())
            print(f"{source}: {tokens / wall:,.0f} tokens/s, {tokens / processor:,.0f} of processor time")
            print(f"     {summary['mean']:.0f} tokens an example, {size / tokens:.2f} bytes a token", flush=True)
            stored = Stored(out)
            order = random.Random(0).sample(range(len(stored)), len(stored))
            processor = time.process_time()
            for i in order:
                stored[i]
            print(f"     read in random order: {tokens / (time.process_time() - processor):,.0f} tokens/s")


if __name__ == "__main__":
    main()
