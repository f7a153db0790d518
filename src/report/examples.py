"""What to listen to: a few spoken questions, and what each row of the table answered to them.

Audio is read from the artifacts (the questions from `units`, the answers from `generate`) and packed as MP3, which
every browser plays and which takes a fifth of the FLAC's bytes.
"""

import base64
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.data import jsonl
from src.grid.row import Row
from src.grid.store import Store
from src.report.lines import Line

UNITS = re.compile(r"(?:<\|\d+\|>\s*)+")
UNIT = re.compile(r"<\|(\d+)\|>")
SHOWN_UNITS = 4


@dataclass(frozen=True)
class Answer:
    """What one row made of a question."""

    label: str
    text: Mapping[str, Any] | None
    """Its response to the written question (task t2t), as in responses.jsonl."""
    speech: Mapping[str, Any] | None
    """Its response to the spoken question (task sqa)."""
    audio: str | None
    """The spoken answer, a data URI."""


@dataclass(frozen=True)
class Question:
    set: str
    id: str
    text: str
    references: tuple[str, ...]
    audio: str | None
    """The spoken question, a data URI."""
    answers: list[Answer] = field(default_factory=list)


@dataclass(frozen=True)
class Instruction:
    """An IFEval prompt and each row's response: (label, response, followed)."""

    prompt: str
    ids: tuple[str, ...]
    answers: list[tuple[str, str, bool]] = field(default_factory=list)


@dataclass(frozen=True)
class _Source:
    label: str
    seed: int
    answers: Path | None
    """Where the model's responses are, with the audio of some."""
    units: Path | None
    questions: dict[str, dict[str, Any]]
    """Rows of eval_qa.jsonl by id."""
    responses: dict[tuple[str, str], dict[str, Any]]
    """Rows of responses.jsonl by (task, id): of instructions, and of the questions that some line answered audibly."""

    def recorded(self, id: str) -> Path | None:
        """The spoken answer, if it was kept."""
        return clip_of(self.answers, id)

    def asks(self, id: str) -> str:
        """The question of that id: another seed or corpus may ask another one."""
        return self.questions.get(id, {}).get("question", id)


def shorten(response: str) -> str:
    """Runs of unit tokens cut to a few numbers and a count: "paris ‹3 9 17 5 … 14 units›"."""

    def run(match: re.Match[str]) -> str:
        units = UNIT.findall(match[0])
        if len(units) <= SHOWN_UNITS + 1:
            return "‹" + " ".join(units) + "› "
        return "‹" + " ".join(units[:SHOWN_UNITS]) + f" … {len(units)} units› "

    return UNITS.sub(run, response).strip()


def mp3(path: Path) -> str:
    """An audio file as a data URI, mono MP3 at its own rate. Equal audio gives equal text."""
    import soundfile

    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    packed = io.BytesIO()
    soundfile.write(
        packed, audio.mean(axis=1), rate, format="MP3", subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT", compression_level=0.8,
    )  # fmt: skip
    return "data:audio/mpeg;base64," + base64.b64encode(packed.getvalue()).decode()


def clip_of(answers: Path | None, id: str) -> Path | None:
    """The audio of a spoken answer in an artifact of `generate`, if it was kept."""
    clip = answers / "audio" / f"{id}.flac" if answers else None
    return clip if clip and clip.exists() else None


def sources(lines: Sequence[Line], store: Store) -> list[_Source]:
    """What each line's first evaluated seed has to show."""
    scored = [next((row for row in line.rows if store.lookup(row.evaluate)), None) for line in lines]
    rows = {line.label: row for line, row in zip(lines, scored, strict=True) if row}
    answers = {label: store.lookup(row.evaluate.inputs["responses"]) for label, row in rows.items()}
    audible = {clip.stem for folder in answers.values() if folder for clip in folder.glob("audio/*.flac")}
    return [_source(label, row, answers[label], audible, store) for label, row in rows.items()]


def _source(label: str, row: Row, answers: Path | None, audible: Collection[str], store: Store) -> _Source:
    needed = {role: store.lookup(source) for role, source in row.evaluate.inputs["responses"].inputs.items()}
    corpus, units = needed.get("corpus"), needed.get("units")
    asked = {one["id"]: one for one in jsonl.read(corpus / "eval_qa.jsonl")} if corpus else {}
    responses = {
        (one["task"], str(one["id"])): one
        for one in jsonl.read(store.folder(row.evaluate) / "responses.jsonl")
        if one["task"] == "ifeval" or str(one["id"]) in audible  # of thousands, with long responses
    }
    return _Source(label, row.seed, answers, units, asked, responses)


def questions(found: Sequence[_Source], per_set: int = 3, budget: int = 3_500_000) -> list[Question]:
    """The first `per_set` questions of each set that have a recorded answer, with every line's answers to them.

    Fewer where the encoded audio would exceed `budget` characters; the sets take turns, so that each keeps its share.
    """
    audible: dict[str, dict[tuple[str, str], None]] = {}
    for source in found:
        for (task, id), response in source.responses.items():
            if task == "sqa" and source.recorded(id):
                audible.setdefault(response["set"], {})[id, source.asks(id)] = None
    chosen, used = [], 0
    for turn in range(per_set):
        for name, asked in audible.items():
            if turn >= len(asked):
                continue
            question = _question(name, *list(asked)[turn], found)
            size = sum(len(answer.audio or "") for answer in question.answers) + len(question.audio or "")
            if used + size <= budget:
                used += size
                chosen.append(question)
    order = list(audible)
    return sorted(chosen, key=lambda question: order.index(question.set))


def _question(name: str, id: str, text: str, found: Sequence[_Source]) -> Question:
    same = [source for source in found if source.asks(id) == text]
    spoken = (source.units / "audio" / f"{id}.flac" for source in same if source.units)
    audio = next((mp3(path) for path in spoken if path.exists()), None)
    answers = []
    for source in same:
        written, speech = source.responses.get(("t2t", id)), source.responses.get(("sqa", id))
        if written or speech:
            clip = source.recorded(id) if speech else None
            answers.append(Answer(source.label, written, speech, mp3(clip) if clip else None))
    references = next((source.questions[id]["answers"] for source in same if id in source.questions), ())
    return Question(name, id, text, tuple(references), audio, answers)


def instructions(found: Sequence[_Source], count: int = 4) -> list[Instruction]:
    """A few IFEval prompts of different instructions, with every line's response."""
    chosen: dict[str, Instruction] = {}
    seen: set[str] = set()
    for (task, id), row in found[0].responses.items() if found else ():
        if task == "ifeval" and not seen.intersection(row["instructions"]) and len(chosen) < count:
            seen.update(row["instructions"])
            chosen[id] = Instruction(row["prompt"], tuple(row["instructions"]))
    for source in found:
        for id, instruction in chosen.items():
            answer = source.responses.get(("ifeval", id))
            if answer and answer["prompt"] == instruction.prompt:
                instruction.answers.append((source.label, answer["response"], all(answer["strict"])))
    return list(chosen.values())
