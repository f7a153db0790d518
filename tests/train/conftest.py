"""The examples of the tiny corpus, tokenized as the plan's steps do."""

from pathlib import Path

import pytest

from src.grid.context import Context
from src.stages import SETS
from src.train import examples

SOURCES = {"asr": "asr", "tts": "tts", "sqa": "sqa", "text": "pool"}


@pytest.fixture(scope="session")
def tiny_examples(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, tiny_corpus: Path, tiny_units: Path
) -> dict[str, Path]:
    """Artifacts `examples` by set."""
    folders = {}
    for role, source in SOURCES.items():
        folders[role] = tmp_path_factory.mktemp(f"examples-{role}")
        file = (tiny_units if SETS[role].source == "units" else tiny_corpus) / f"{source}.jsonl"
        context = Context(tmp_path_factory.mktemp("work"), role)
        examples.tokenize(SETS[role].conversations(file, 0), file, tiny_base, folders[role], context)
    return folders
