"""What each task is for a reader: its title, its scores, what they are called, and in which direction each is better.

    tasks.TASKS["sqa"].spoken            # True
    tasks.find("qa/animals/s2t").name    # "S2T"

Imports nothing heavy, so that a plan and a report can read it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from src.evaluate.comparison import Outcome

SET = "{set}"
"""Stands in a key for the name of a question set."""


@dataclass(frozen=True)
class Column:
    """One score of a task, or one for each question set."""

    key: str
    """Name of the score, as in scores.json; with SET, one score for each question set."""
    name: str
    """Heading of its column."""
    about: str
    """What it measures, in a few words."""
    hub: str
    """The Hugging Face hub's name of such a task, for the model card."""
    outcome: Callable[[Mapping[str, Any]], "Outcome"]
    """What became of one example, from its line in the `responses.jsonl` that `score` leaves."""
    group: str = ""
    """Heading above `name`; empty: the title of the question set."""
    direction: str = "up"
    """up: higher is better; down: lower is."""
    table: str = "main"
    """main: a column of the table; skills: of the second table; more: only in table.json, table.csv and scores.csv."""
    ability: str = ""
    """Name of the ability that the score stands for at a glance; its mean over the question sets is drawn."""

    @property
    def title(self) -> str:
        """The headings in one line: "IFEval prompt"; without the question set."""
        return f"{self.group} {self.name}".strip()

    def set_of(self, key: str) -> str | None:
        """The question set that a key of this column names ("" where the column has none); None for another's key."""
        before, marked, after = self.key.partition(SET)
        if not marked:
            return "" if key == self.key else None
        fits = key.startswith(before) and key.endswith(after) and len(key) > len(before) + len(after)
        return key[len(before) : len(key) - len(after)] if fits else None


@dataclass(frozen=True)
class Task:
    """Something that a model is asked to do."""

    title: str
    columns: tuple[Column, ...]
    spoken: bool
    """Whether the model hears or speaks: a text model has no such score."""


def _words(response: Mapping[str, Any]) -> tuple[int, int]:
    return response["errors"], response["words_counted"]


TASKS: dict[str, Task] = {
    "t2t": Task(
        "Written questions",
        (
            Column(
                f"qa/{SET}/t2t", "T2T", "Written questions", "question-answering",
                lambda response: response["correct"], ability="t2t",
            ),
        ),
        spoken=False,
    ),
    "ifeval": Task(
        "Instructions",
        (
            Column(
                "ifeval/prompt_strict", "prompt", "Instructions", "text-generation",
                lambda response: all(response["strict"]), "IFEval", ability="ifeval",
            ),
            Column(
                "ifeval/instruction_strict", "instruction", "Instructions, each by itself", "text-generation",
                lambda response: (sum(response["strict"]), len(response["strict"])), "IFEval",
            ),
            Column(
                "ifeval/prompt_loose", "prompt (loose)", "Instructions, judged loosely", "text-generation",
                lambda response: all(response["loose"]), "IFEval", table="more",
            ),
            Column(
                "ifeval/instruction_loose", "instruction (loose)", "Instructions, each by itself, judged loosely",
                "text-generation", lambda response: (sum(response["loose"]), len(response["loose"])), "IFEval",
                table="more",
            ),
        ),
        spoken=False,
    ),
    "sqa": Task(
        "Spoken questions",
        (
            Column(
                f"qa/{SET}/s2t", "S2T", "Spoken questions answered in text", "question-answering",
                lambda response: response["correct_s2t"], ability="s2t",
            ),
            Column(
                f"qa/{SET}/s2s", "S2S", "Spoken questions answered in speech", "question-answering",
                lambda response: response["correct_s2s"], ability="s2s",
            ),
            Column(
                "wer/question", "spoken question", "Transcripts of spoken questions", "automatic-speech-recognition",
                _words, "WER", "down", "skills",
            ),
            Column(
                "form/well_formed", "well-formed", "Answers to spoken questions that have all their parts",
                "question-answering", lambda response: response["well_formed"], "Form", table="skills",
            ),
        ),
        spoken=True,
    ),
    "asr": Task(
        "Speech recognition",
        (
            Column(
                "wer/asr", "ASR", "Transcripts of unseen sentences", "automatic-speech-recognition",
                _words, "WER", "down", "skills",
            ),
        ),
        spoken=True,
    ),
    "tts": Task(
        "Speech synthesis",
        (
            Column(
                "wer/tts", "TTS", "Sentences read aloud, as the recognizer hears them", "text-to-speech",
                _words, "WER", "down", "skills",
            ),
        ),
        spoken=True,
    ),
}  # fmt: skip
"""Every task by name, in the order in which a model is asked."""

COLUMNS = tuple(column for task in TASKS.values() for column in task.columns)

ABILITIES = {column.ability: column for column in COLUMNS if column.ability}
TEXT_ABILITIES = tuple(c.ability for task in TASKS.values() if not task.spoken for c in task.columns if c.ability)
SPOKEN_ABILITIES = tuple(name for name in ABILITIES if name not in TEXT_ABILITIES)


def find(key: str) -> Column | None:
    """The column of a score; None for a score of no task here (one of lm-evaluation-harness)."""
    return next((column for column in COLUMNS if column.set_of(key) is not None), None)


def set_of(key: str) -> str:
    """The question set that a score is of; "" where it is of none."""
    column = find(key)
    return (column.set_of(key) or "") if column else ""
