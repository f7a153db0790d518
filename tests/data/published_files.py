"""Tiny files of published data, each in its own layout, with real audio."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import yaml

from src.data.settings import QuestionSet
from src.grid.typed import typed

Audio = npt.NDArray[Any]
Spoken = Sequence[tuple[str, Audio]]
"""(text, samples at 16 kHz) of each utterance."""

PAPER = Path(__file__).parents[2] / "conf" / "data" / "paper.yaml"
SETS = {name: typed(QuestionSet, told) for name, told in yaml.safe_load(PAPER.read_text())["questions"].items()}
"""The published sets, as they are set."""

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def tone(seconds: float = 0.5, pitch: float = 200.0, rate: int = 16_000) -> npt.NDArray[np.float32]:
    """Something to be heard, in tests that do not listen."""
    return (0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(audio: Audio, rate: int = 16_000, kind: str = "FLAC") -> bytes:
    """A whole file of that format."""
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=kind)
    return file.getvalue()


def utterance_id(number: int, split: str = "train") -> str:
    """SPEAKER-CHAPTER-UTTERANCE, three to a chapter, and other speakers in another split."""
    speaker = (100 if split.startswith("train") else 600) + number // 3
    return f"{speaker}-{speaker + 1140}-{number % 3:04d}"


def make_librispeech(folder: Path, split: str, utterances: Spoken) -> Path:
    """LibriSpeech's own folders: `folder`/`split`/SPEAKER/CHAPTER/ID.flac and *.trans.txt, upper-case."""
    for number, (text, audio) in enumerate(utterances):
        id = utterance_id(number, split)
        speaker, chapter, _ = id.split("-")
        home = folder / split / speaker / chapter
        home.mkdir(parents=True, exist_ok=True)
        soundfile.write(home / f"{id}.flac", audio, 16_000)
        with (home / f"{speaker}-{chapter}.trans.txt").open("a", encoding="utf-8") as transcript:
            transcript.write(f"{id} {text.upper()}\n")
    return folder


def make_librispeech_parquet(folder: Path, split: str, utterances: Spoken, files: int = 2, group: int = 2) -> Path:
    """The hub's files: `folder`/all/`split`/0000.parquet ... with row groups of `group` rows."""
    import pyarrow
    import pyarrow.parquet

    home = folder / "all" / split
    home.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (text, audio) in enumerate(utterances):
        id = utterance_id(number, split)
        speaker, chapter, _ = map(int, id.split("-"))
        content = {"bytes": encoded(audio), "path": f"{id}.flac"}
        rows.append({"file": f"{id}.flac", "audio": content, "text": text.upper(), "speaker_id": speaker,
                     "chapter_id": chapter, "id": id})  # fmt: skip
    share = -(-len(rows) // files)
    for number in range(files):
        table = pyarrow.Table.from_pylist(rows[number * share : (number + 1) * share])
        pyarrow.parquet.write_table(table, home / f"{number:04d}.parquet", row_group_size=group)
    return folder


def make_speech_lines(folder: Path, split: str, utterances: Spoken) -> Path:
    """`folder`/`split`.jsonl, and the audio beside it as WAV."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as lines:
        for number, (text, audio) in enumerate(utterances):
            clip = f"clips/{utterance_id(number, split)}.wav"
            soundfile.write(folder / clip, audio, 16_000)
            lines.write(json.dumps({"id": utterance_id(number, split), "audio": clip, "text": text}) + "\n")
    return folder


def magpie_row(instruction: str, response: str, category: str = "Information seeking") -> dict[str, Any]:
    """A row with some of the hub's other columns."""
    return {"uuid": f"u-{abs(hash(instruction))}", "model": "meta-llama/Meta-Llama-3-8B-Instruct",
            "input": instruction, "output": response, "task_category": category, "difficulty": "easy",
            "input_length": len(instruction), "output_length": len(response)}  # fmt: skip


def make_magpie(folder: Path, rows: Sequence[dict[str, Any]], files: int = 1) -> Path:
    """The hub's files: `folder`/data/train-0000N-of-0000M.parquet."""
    import pyarrow
    import pyarrow.parquet

    (folder / "data").mkdir(parents=True, exist_ok=True)
    share = -(-len(rows) // files)
    for number in range(files):
        table = pyarrow.Table.from_pylist(list(rows[number * share : (number + 1) * share]))
        pyarrow.parquet.write_table(table, folder / "data" / f"train-{number:05d}-of-{files:05d}.parquet")
    return folder


def make_question_set(folder: Path, name: str, asked: Sequence[tuple[str, Any, Audio | None]]) -> Path:
    """The hub's file of a question set: (question, answer as it publishes it, audio) of each row."""
    import pyarrow
    import pyarrow.parquet

    published = SETS[name]
    file = folder / published.files.replace("*", "00000-of-00001")
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (question, answer, audio) in enumerate(asked):
        content = None if audio is None else {"bytes": encoded(audio, kind="WAV"), "path": f"{number}.wav"}
        rows.append({published.question: question, published.answer: answer, published.audio: content})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return folder


def make_ifeval(file: Path, count: int = 4) -> Path:
    """Prompts in IFEval's schema, None where an instruction has no such argument, as on the hub."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"key": 1000 + number, "prompt": f"Write about the number {number} without any commas.",
         "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"num_words": None}]}
        for number in range(count)
    ]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


QUESTIONS: dict[str, list[tuple[str, Any]]] = {
    "llama_questions": [("What is the capital of France?", "Paris"), ("Which planet has rings?", "Saturn")],
    "web_questions": [("what does he do?", ["Singer", "Actor"]), ("where is it?", ["Rome"])],
    "trivia_qa": [("Who wrote it?", {"value": "Sinclair Lewis", "aliases": ["Lewis"], "normalized_aliases": ["lewis"]}),
                  ("What was it?", {"value": "A ship", "aliases": ["A ship"], "normalized_aliases": ["ship"]})],
}  # fmt: skip


def make_questions(folder: Path) -> dict[str, Path]:
    """The three sets with QUESTIONS, by name."""
    return {
        name: make_question_set(folder / name, name, [(*row, tone(0.4)) for row in rows])
        for name, rows in QUESTIONS.items()
    }


def texts(count: int) -> list[dict[str, Any]]:
    """Rows of Magpie that can be spoken."""
    return [magpie_row(f"What is the color of stone number {n}?", f"Stone {n} is grey.") for n in range(count)]


def make_everything(
    folder: Path, training: Spoken, evaluation: Spoken, rows: Sequence[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Local copies of every source in `folder`, and a step's configuration that reads all of them."""
    make_librispeech(folder / "LibriSpeech", "train-clean-100", training)
    make_librispeech(folder / "LibriSpeech", "test-clean", evaluation)
    make_magpie(folder / "magpie", texts(40) if rows is None else rows, files=2)
    questions = make_questions(folder)
    make_ifeval(folder / "ifeval.jsonl")
    return {
        "name": "published",
        "seed": 0,
        "speech": {
            "path": str(folder),
            "hub": "openslr/librispeech_asr",
            "revision": "mine",
            "splits": ["train-clean-100"],
            "evaluation_split": "test-clean",
            "examples": None,
            "tts_examples": None,
            "min_seconds": 0.1,
            "max_seconds": None,
        },
        "text": {
            "path": str(folder / "magpie"),
            "hub": "Magpie-Align/Llama-3-Magpie-Air-3M-v0.1",
            "revision": "mine",
            "excluded_categories": ["Math"],
            "max_input_words": 20,
            "max_output_words": 20,
            "sqa_examples": 8,
            "pool_texts": 12,
            "pool_max_words": 60,
        },
        "questions": {
            name: {
                **{field: getattr(SETS[name], field) for field in ("title", "hub", "files", "split")},
                **{field: getattr(SETS[name], field) for field in ("question", "answer", "audio")},
                "path": str(path),
                "revision": "mine",
            }
            for name, path in questions.items()
        },
        "most_questions": None,
        "ifeval": {"path": str(folder / "ifeval.jsonl"), "hub": "google/IFEval", "revision": "mine", "most": None},
        "evaluation_sentences": 4,
    }


def overrides(config: dict[str, Any], prefix: str = "data") -> list[str]:
    """A configuration as overrides for the command line: data.speech.path=... and so on; ++ where it may not stand in
    conf/."""
    found: list[str] = []
    for key, value in config.items():
        if isinstance(value, dict):
            found += overrides(value, f"{prefix}.{key}")
        elif f"{prefix}.{key}" != "data.name":
            plus = "++" if prefix.startswith("data.questions.") else ""
            found.append(f"{plus}{prefix}.{key}={json.dumps(value)}")
    return found
