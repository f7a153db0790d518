"""The settings of data: the closed domain's (src/data/corpus.py) and published data's (src/data/published.py).

Everything with a `path` is read from there, a file or a folder, and the hub is not asked. Without one it comes from the
Hugging Face hub at `revision`, a commit, since a branch may move. What a local folder holds is not part of a step's
identity: with a path, `revision` is a free label, to be changed whenever the files are.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from src.checks import positive, require, seed, share

CLOSED_DOMAIN_SETS = ("countries", "animals", "people")
"""Question sets of the closed domain, one a table of facts."""


@dataclass(frozen=True, kw_only=True)
class QuestionSet:
    """Questions with their answers, read out or not (docs/question_sets.md)."""

    title: str = ""
    """How the table calls it; empty: its name. No part of a step's identity."""
    path: str | None = None
    """A .parquet or .jsonl file, or a folder with such files; null: from the hub."""
    hub: str | None = None
    """A dataset of the Hugging Face hub."""
    revision: str | None = None
    """Its commit; with a path, a free label or null."""
    files: str = ""
    """Pattern of its Parquet files in the repository."""
    split: str = "test"
    """In a folder without such files, those whose names begin with it are read."""
    question: str = "question"
    """Names of columns: the question, a text ..."""
    answer: str = "answer"
    """... the answer, a text, a list of texts, or TriviaQA's value and aliases ..."""
    audio: str = "audio"
    """... the question read out. Questions without are spoken by the synthesizer ..."""
    id: str = ""
    """... and what tells rows apart; empty: their number."""
    content: str | None = None
    """Checksum of a local copy, taken when a plan is made (src/data/question_sets.py); nobody sets it."""

    def __post_init__(self) -> None:
        if self.path is None:
            require(bool(self.hub), "path", self.path, "a file or folder, or hub a dataset of the Hugging Face hub")
            commit = re.fullmatch("[0-9a-f]{40}", self.revision or "") is not None
            require(commit, "revision", self.revision, "a commit of 40 hex digits")
            require(bool(self.files), "files", self.files, "a pattern of the dataset's Parquet files")
        for name in ("question", "answer", "split"):
            require(bool(getattr(self, name)), name, getattr(self, name), "a name")


@dataclass(frozen=True, kw_only=True)
class ClosedDomain:
    """Sizes of the corpus that is written here, about a small world of facts."""

    name: str = "closed_domain"
    seed: int
    evaluation_facts: int
    """Facts of each table that are kept for evaluation."""
    base_texts: int
    base_instruction_share: float
    base_echo_share: float
    """Share of the questions that are to be repeated before they are answered, as SQA responses do."""
    base_spellings: int
    turns: int
    """Longest conversation, in exchanges."""
    conversation_words: int
    """Longest conversation, in words."""
    pool_texts: int
    pool_instruction_share: float
    asr_sentences: int
    tts_sentences: int
    sqa_questions: int
    fit_utterances: int
    evaluation_instructions: int
    evaluation_sentences: int
    """Drawn for the models' recognition and synthesis; those that are spoken in training are left out."""
    questions: Mapping[str, QuestionSet] = field(default_factory=dict)
    """Sets of one's own by name, beside those about the facts."""

    def __post_init__(self) -> None:
        positive(self, *(f.name for f in fields(self) if f.name not in ("name", "seed") and f.type is int))
        share(self, "base_instruction_share", "base_echo_share", "pool_instruction_share")
        both = self.base_instruction_share + self.base_echo_share
        right = f"at most {1 - self.base_instruction_share:g}: together with base_instruction_share no more than all"
        require(both <= 1, "base_echo_share", self.base_echo_share, right)
        right = f"at most data.asr_sentences={self.asr_sentences}, whose first sentences it takes"
        require(self.tts_sentences <= self.asr_sentences, "tts_sentences", self.tts_sentences, right)
        require(self.evaluation_facts < 384, "evaluation_facts", self.evaluation_facts, "below 384, all there are")
        _names(self.questions, taken=CLOSED_DOMAIN_SETS)


@dataclass(frozen=True, kw_only=True)
class SpeechSource:
    """Read speech with transcripts: LibriSpeech, or a corpus in one of its layouts (src/data/librispeech.py)."""

    path: str | None = None
    hub: str
    revision: str
    splits: tuple[str, ...]
    """train.clean.100 as on the hub, or train-clean-100 as in LibriSpeech's own archives: either name finds both."""
    evaluation_split: str
    examples: int | None = None
    """Utterances of the training splits, drawn by data.seed; null: all."""
    tts_examples: int | None = None
    """How many of them are spoken in the TTS stage, and so aligned word by word; null: all."""
    min_seconds: float
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        _source(self)
        names = [split.replace(".", "-") for split in (*self.splits, self.evaluation_split)]
        distinct = len(set(names)) == len(names)
        others = "a split that is not among splits, each of which is named once"
        require(distinct, "evaluation_split", self.evaluation_split, others)
        _counts(self, "examples", "tts_examples")
        require(self.min_seconds >= 0, "min_seconds", self.min_seconds, "0 or more")
        longest = self.max_seconds
        above = f"above min_seconds={self.min_seconds}, or null for no limit"
        require(longest is None or longest > self.min_seconds, "max_seconds", longest, above)


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Instructions with responses of the base model's own family (Magpie), for spoken questions and for replay."""

    path: str | None = None
    hub: str
    revision: str
    excluded_categories: tuple[str, ...]
    """Values of task_category that are not spoken."""
    max_input_words: int
    max_output_words: int
    """Longest spoken question, and answer."""
    sqa_examples: int | None
    """Spoken questions, drawn; null: none, where data.units has them."""
    pool_texts: int
    """Texts to replay from. No category is excluded from them: they stand for what the base model knows."""
    pool_max_words: int
    """Longest text to replay, instruction and response together."""

    def __post_init__(self) -> None:
        _source(self)
        _counts(self, "max_input_words", "max_output_words", "sqa_examples", "pool_texts", "pool_max_words")


@dataclass(frozen=True, kw_only=True)
class InstructionSource:
    """Verifiable instructions (IFEval)."""

    path: str | None = None
    hub: str
    revision: str
    most: int | None = None
    """Prompts, drawn by data.seed; null: all."""

    def __post_init__(self) -> None:
        _source(self)
        _counts(self, "most")


@dataclass(frozen=True, kw_only=True)
class ReadySource:
    """A copy of data sets whose units are done."""

    path: str | None = None
    """A folder."""
    revision: str = "local"
    """A free label, to be changed whenever the files are."""

    def __post_init__(self) -> None:
        require(self.path is not None, "path", self.path, "a folder with a copy (docs/paper.md says of what)")

    @property
    def folder(self) -> Path:
        return Path(str(self.path)).expanduser().absolute()


@dataclass(frozen=True, kw_only=True)
class ReadyUnits:
    """Training examples of speech whose units are done (src/data/authors.py)."""

    speech: ReadySource
    """Recognition and synthesis: ls960_interleaves."""
    questions: ReadySource
    """Spoken questions: a folder with each Magpie_rank{R}_chunk{C}_interleaves."""


@dataclass(frozen=True, kw_only=True)
class PublishedData:
    """LibriSpeech, Magpie, sets of spoken questions and IFEval, or what a user has in their place."""

    name: str = "published"
    seed: int
    """Seed of every draw. A draw depends on the seed and on what is drawn, not on the order of files or rows."""
    speech: SpeechSource
    text: TextSource
    questions: Mapping[str, QuestionSet]
    """By name, in the order of the table."""
    most_questions: int | None = None
    """Questions of each set, drawn by data.seed; null: all."""
    ifeval: InstructionSource
    evaluation_sentences: int
    """Utterances of the evaluation split, drawn, for the models' own recognition and synthesis."""
    units: ReadyUnits | None = None
    """Training examples in place of those of speech.splits and text.sqa_examples; null: these."""

    def __post_init__(self) -> None:
        require(self.name == "published", "name", self.name, "published")
        seed(self)
        require(self.evaluation_sentences >= 1, "evaluation_sentences", self.evaluation_sentences, "1 or more")
        _counts(self, "most_questions")
        speech, text = self.speech, self.text
        if self.units is None:
            require(bool(speech.splits), "speech.splits", [], "at least one split to train on")
            require(text.sqa_examples is not None, "text.sqa_examples", None, "1 or more")
        else:
            right = "{}: data.units has the training examples"
            require(not speech.splits, "speech.splits", list(speech.splits), right.format([]))
            for name, value in (("speech.examples", speech.examples), ("speech.tts_examples", speech.tts_examples),
                                ("text.sqa_examples", text.sqa_examples)):  # fmt: skip
                require(value is None, name, value, right.format("null"))
        require(bool(self.questions), "questions", dict(self.questions), "one question set or more")
        _names(self.questions)


def _names(sets: Mapping[str, QuestionSet], taken: Collection[str] = ()) -> None:
    for name, one in sets.items():
        right = "a name of letters, digits and underscores"
        require(re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) is not None, f"questions.{name}", one.title, right)
        right = "called otherwise: the closed domain has a set of this name"
        require(name not in taken, f"questions.{name}", one.title, right)


def _source(source: Any) -> None:
    pinned = source.path is not None or re.fullmatch("[0-9a-f]{40}", source.revision) is not None
    right = "a commit of 40 hex digits (a free label where a path is given)"
    require(pinned, "revision", source.revision, right)


def _counts(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        require(value is None or value >= 1, name, value, "1 or more")
