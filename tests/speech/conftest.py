"""A small speech corpus, and the artifacts that the steps make of it with few training steps."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.data import jsonl
from src.data.settings import ClosedDomain
from src.grid.step import Step
from src.speech.encoders.lda import Lda
from src.speech.recognizers.phoneme_ctc import PhonemeCtc
from src.speech.settings import UnitsConfig
from src.speech.vocoders.mel_griffin_lim import MelGriffinLim
from src.steps.corpus import Corpus
from src.steps.quantizer import Quantizer
from src.steps.recognizer import Recognizer
from src.steps.units import Units
from src.steps.vocoder import Vocoder
from tests.conftest import TINY_CORPUS

WORDS = [
    *("a", "apple", "baker", "brussels", "cat", "delhi", "dog", "eight", "elephant", "five", "four", "france"),
    *("from", "italy", "japan", "kenya", "lion", "madrid", "nine", "north", "of", "one", "oslo", "paris", "peru"),
    *("red", "rome", "seven", "six", "south", "spain", "the", "three", "tiger", "tokyo", "two", "what", "yellow"),
    "zebra",
]
PHRASES = ["what tiger", "the apple from france", "a cat of the north", "seven zebra", "rome paris oslo", "one dog"]

CORPUS = Corpus(config=ClosedDomain(**TINY_CORPUS))
QUANTIZER = Quantizer(config=Lda(clusters=24, dimensions=12), corpus=CORPUS)
VOCODER = Vocoder(config=MelGriffinLim(width=32, steps=8), quantizer=QUANTIZER)
RECOGNIZER = Recognizer(
    config=PhonemeCtc(width=32, steps=8, batch_size=8), corpus=CORPUS, quantizer=QUANTIZER, vocoder=VOCODER
)
UNITS = Units(config=UnitsConfig(keep_audio=1), corpus=CORPUS, quantizer=QUANTIZER)
FITTED: tuple[Step, ...] = (QUANTIZER, VOCODER, RECOGNIZER, UNITS)


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


def run_steps(folder: Path) -> dict[str, Path]:
    """Run every speech step on `folder`/corpus; the artifact folders by kind."""
    folders: dict[Step, Path] = {CORPUS: folder / "corpus"}
    for step in FITTED:
        folders[step] = folder / step.kind
        folders[step].mkdir()
        step.run({source: folders[source] for source in step.inputs.values()}, folders[step], quiet_context(folder))
    return {step.kind: place for step, place in folders.items()}


def quiet_context(work: Path) -> Any:
    return SimpleNamespace(work=work, report=lambda **numbers: None)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Artifact folders by kind: corpus, quantizer, vocoder, recognizer, units."""
    folder = tmp_path_factory.mktemp("speech")
    write_corpus(folder / "corpus")
    return run_steps(folder)
