"""The settings of data: the closed domain's (src/data/corpus.py) and published data's (src/data/published.py).

Everything with a `path` is read from there, a file or a folder, and the hub is not asked. Without one it comes from the
Hugging Face hub at `revision`, a commit, since a branch may move. What a local folder holds is not part of a step's
identity: with a path, `revision` is a free label, to be changed whenever the files are.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import MISSING

from src.checks import positive, require, share


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

    def __post_init__(self) -> None:
        positive(self, *(f.name for f in fields(self) if f.name not in ("name", "seed") and f.type is int))
        share(self, "base_instruction_share", "base_echo_share", "pool_instruction_share")
        right = f"at most data.asr_sentences={self.asr_sentences}, whose first sentences it takes"
        require(self.tts_sentences <= self.asr_sentences, "tts_sentences", self.tts_sentences, right)
        require(self.evaluation_facts < 384, "evaluation_facts", self.evaluation_facts, "below 384, all there are")


@dataclass
class SpeechSource:
    """Read speech with transcripts: LibriSpeech, or a corpus in one of its layouts (src/data/librispeech.py)."""

    path: str | None = MISSING
    hub: str = MISSING
    revision: str = MISSING
    splits: list[str] = MISSING
    """train.clean.100 as on the hub, or train-clean-100 as in LibriSpeech's own archives: either name finds both."""
    evaluation_split: str = MISSING
    examples: int | None = MISSING
    """Utterances of the training splits, drawn by data.seed; null: all."""
    tts_examples: int | None = MISSING
    """How many of them are spoken in the TTS stage, and so aligned word by word; null: all."""
    min_seconds: float = MISSING
    max_seconds: float | None = MISSING

    def __post_init__(self) -> None:
        _source("speech", self)
        require(len(self.splits) > 0, "speech.splits", list(self.splits), "at least one")
        names = [split.replace(".", "-") for split in (*self.splits, self.evaluation_split)]
        distinct = len(set(names)) == len(names)
        others = "a split that is not among speech.splits, each of which is named once"
        require(distinct, "speech.evaluation_split", self.evaluation_split, others)
        _counts("speech", self, "examples", "tts_examples")
        require(self.min_seconds >= 0, "speech.min_seconds", self.min_seconds, "0 or more")
        longest = self.max_seconds
        above = f"above speech.min_seconds={self.min_seconds}, or null for no limit"
        require(longest is None or longest > self.min_seconds, "speech.max_seconds", longest, above)


@dataclass
class TextSource:
    """Instructions with responses of the base model's own family (Magpie), for spoken questions and for replay."""

    path: str | None = MISSING
    hub: str = MISSING
    revision: str = MISSING
    excluded_categories: list[str] = MISSING
    """Values of task_category that are not spoken."""
    max_input_words: int = MISSING
    max_output_words: int = MISSING
    """Longest spoken question, and answer."""
    sqa_examples: int = MISSING
    pool_texts: int = MISSING
    """Texts to replay from. No category is excluded from them: they stand for what the base model knows."""
    pool_max_words: int = MISSING
    """Longest text to replay, instruction and response together."""

    def __post_init__(self) -> None:
        _source("text", self)
        _counts("text", self, "max_input_words", "max_output_words", "sqa_examples", "pool_texts", "pool_max_words")


@dataclass
class QuestionSource:
    """One set of spoken questions; its place on the hub is known (src/evaluate/question_sets.py)."""

    path: str | None = MISSING
    revision: str = MISSING


@dataclass
class Questions:
    llama_questions: QuestionSource = MISSING
    web_questions: QuestionSource = MISSING
    trivia_qa: QuestionSource = MISSING
    most: int | None = MISSING
    """Questions of each set, drawn by data.seed; null: all."""

    def __post_init__(self) -> None:
        for name, source in self.sets().items():
            _source(f"questions.{name}", source)
        _counts("questions", self, "most")

    def sets(self) -> dict[str, QuestionSource]:
        """The sets by name, in the order of the paper's table."""
        return {"llama_questions": self.llama_questions, "web_questions": self.web_questions,
                "trivia_qa": self.trivia_qa}  # fmt: skip


@dataclass
class InstructionSource:
    """Verifiable instructions (IFEval)."""

    path: str | None = MISSING
    hub: str = MISSING
    revision: str = MISSING
    most: int | None = MISSING
    """Prompts, drawn by data.seed; null: all."""

    def __post_init__(self) -> None:
        _source("ifeval", self)
        _counts("ifeval", self, "most")


@dataclass
class PublishedData:
    """LibriSpeech, Magpie, three sets of spoken questions and IFEval, or what a user has in their place."""

    name: str = "published"
    seed: int = MISSING
    """Of every draw. A draw depends on the seed and on what is drawn, not on the order of files or rows."""
    speech: SpeechSource = MISSING
    text: TextSource = MISSING
    questions: Questions = MISSING
    ifeval: InstructionSource = MISSING
    evaluation_sentences: int = MISSING
    """Utterances of the evaluation split, drawn, for the models' own recognition and synthesis."""

    def __post_init__(self) -> None:
        require(self.name == "published", "name", self.name, "published")
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require(self.evaluation_sentences >= 1, "evaluation_sentences", self.evaluation_sentences, "1 or more")


def from_mapping(config: Mapping[str, Any]) -> PublishedData:
    """The settings out of a step's configuration. Raises ValueError for what they do not accept."""
    questions = dict(config["questions"])
    for field in fields(Questions):
        if field.type is QuestionSource:
            questions[field.name] = QuestionSource(**questions[field.name])
    return PublishedData(
        **{
            **config,
            "speech": SpeechSource(**config["speech"]),
            "text": TextSource(**config["text"]),
            "questions": Questions(**questions),
            "ifeval": InstructionSource(**config["ifeval"]),
        }
    )


def _source(section: str, source: Any) -> None:
    pinned = source.path is not None or re.fullmatch("[0-9a-f]{40}", source.revision) is not None
    right = f"a commit of 40 hex digits (a free label where {section}.path is given)"
    require(pinned, f"{section}.revision", source.revision, right)


def _counts(section: str, settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        require(value is None or value >= 1, f"{section}.{name}", value, "1 or more")
