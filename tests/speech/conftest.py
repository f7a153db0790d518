"""A small speech corpus, and the artifacts that the bodies make of it with few training steps."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.data import jsonl

WORDS = [
    *("a", "apple", "baker", "brussels", "cat", "delhi", "dog", "eight", "elephant", "five", "four", "france"),
    *("from", "italy", "japan", "kenya", "lion", "madrid", "nine", "north", "of", "one", "oslo", "paris", "peru"),
    *("red", "rome", "seven", "six", "south", "spain", "the", "three", "tiger", "tokyo", "two", "what", "yellow"),
    "zebra",
]
PHRASES = ["what tiger", "the apple from france", "a cat of the north", "seven zebra", "rome paris oslo", "one dog"]

SMALL: dict[str, dict[str, Any]] = {
    "quantizer": {"clusters": 24, "dimensions": 12},
    "vocoder": {"width": 32, "steps": 8},
    "recognizer": {"width": 32, "steps": 8, "batch_size": 8},
    "units": {"keep_audio": 1},
}
INPUTS = {
    "quantizer": ("corpus",),
    "vocoder": ("quantizer",),
    "recognizer": ("corpus", "quantizer", "vocoder"),
    "units": ("corpus", "quantizer"),
}


def write_corpus(folder: Path) -> None:
    """The lists that the speech steps read."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [*WORDS, *PHRASES]
    (folder / "spoken.json").write_text(json.dumps(WORDS), encoding="utf-8")
    for name, chosen in (("fit", texts), ("judge", WORDS[:6]), ("asr", PHRASES), ("eval_asr", PHRASES[:2])):
        jsonl.write(folder / f"{name}.jsonl", [{"id": f"{name}-{i}", "text": text} for i, text in enumerate(chosen)])
    jsonl.write(folder / "tts.jsonl", [{"id": "asr-0", "text": PHRASES[0]}, {"id": "tts-1", "text": "two lion"}])
    asked = [{"id": f"sqa-{i}", "question": text, "answer": "rome"} for i, text in enumerate(PHRASES[:3])]
    jsonl.write(folder / "sqa.jsonl", asked)
    sets = ["animals", "people", "animals"]
    questions = [{"id": f"q-{i}", "set": s, "question": PHRASES[i], "answers": ["oslo"]} for i, s in enumerate(sets)]
    jsonl.write(folder / "eval_qa.jsonl", questions)


def run_steps(folder: Path, settings: dict[str, dict[str, Any]] = SMALL) -> dict[str, Path]:
    """Run every speech step on `folder`/corpus; the artifact folders by role."""
    import importlib

    folders = {"corpus": folder / "corpus"}
    for kind, roles in INPUTS.items():
        folders[kind] = folder / kind
        folders[kind].mkdir()
        body = importlib.import_module(f"src.speech.{kind}")
        body.run(settings[kind], {role: folders[role] for role in roles}, folders[kind], quiet_context(folder))
    return folders


def quiet_context(work: Path) -> SimpleNamespace:
    return SimpleNamespace(work=work, report=lambda **numbers: None)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Artifact folders by role: corpus, quantizer, vocoder, recognizer, units."""
    folder = tmp_path_factory.mktemp("speech")
    write_corpus(folder / "corpus")
    return run_steps(folder)
