"""The examples of the tiny corpus, tokenized as the plan's steps do."""

from pathlib import Path

import pytest

from src.grid.context import Context
from src.train import examples

SOURCES = {"asr": "asr", "tts": "tts", "sqa": "sqa", "text": "pool"}


@pytest.fixture(scope="session")
def tiny_examples(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, tiny_corpus: Path, tiny_units: Path
) -> dict[str, Path]:
    """Artifacts `examples` by the role that a training gives them."""
    folders = {}
    for role, source in SOURCES.items():
        folders[role] = tmp_path_factory.mktemp(f"examples-{role}")
        inputs = {"base": tiny_base, "corpus": tiny_corpus, "units": tiny_units}
        context = Context(tmp_path_factory.mktemp("work"), role)
        examples.run({"source": source, "seed": 0}, inputs, folders[role], context)
    return folders
