"""What a model answers: text questions, verifiable instructions, spoken questions, ASR and TTS; a step body.

Leaves `responses.jsonl` (every prompt with the model's raw response, and what is heard of spoken ones), `settings.json`
(how they were asked for) and the first spoken answers of each question set as `audio/<id>.flac`. Nothing is judged
here: `src.evaluate.score` does that, as often as one likes.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from src.data import jsonl, prompts
from src.data.draw import first_of_each_set
from src.data.unit_format import Units
from src.evaluate import ifeval
from src.evaluate.generate import Decoding, generate, stop_tokens
from src.model import difference
from src.speech.audio import write_audio
from src.speech.protocols import Recognizer, Vocoder

if TYPE_CHECKING:
    from src.grid.context import Context

TASKS = ("t2t", "ifeval", "sqa", "asr", "tts")
ASR_INSTRUCTION, TTS_INSTRUCTION = prompts.ASR_INSTRUCTIONS[0], prompts.TTS_INSTRUCTIONS[0]
RESPONSES, AUDIO = "responses.jsonl", "audio"
ASKED_AT_ONCE = 512
"""Examples that are asked together. Their responses are kept when all are there: an evaluation of hours that is stopped
goes on behind them."""
HEARD_AT_ONCE = 32
"""Answers that the recognizer gets in one call, which bounds the audio that is kept."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What is asked, and how."""

    tasks: tuple[str, ...]
    max_new_tokens: Mapping[str, int]
    """Longest response of each task, in tokens."""
    decoding: Decoding
    batch_tokens: int
    """Most tokens of a batch of generation (see `generate`)."""
    listen: int = 0
    """Spoken answers kept as audio, of each question set."""
    asr_examples: int = 0
    tts_examples: int = 0

    def __post_init__(self) -> None:
        for task in self.tasks:
            if task not in TASKS:
                raise ValueError(f"evaluate.tasks: there is no task {task!r}; there are {', '.join(TASKS)}")
            if task not in self.max_new_tokens:
                raise ValueError(f"evaluate.max_new_tokens.{task} is not set")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Settings":
        return cls(**{**config, "tasks": tuple(config["tasks"]), "decoding": Decoding(**config["decoding"])})


@dataclass(frozen=True)
class Response:
    """What a model answered: `response` with all its tokens, `text` without special tokens other than units and with
    line breaks, `words` without units either."""

    response: str
    text: str
    words: str


class Progress:
    """Counts done work towards what the tasks have announced."""

    def __init__(self, context: "Context"):
        self.context = context
        self.done = self.total = 0

    def expect(self, count: int) -> None:
        self.total += count
        self.context.report(done=self.done, total=self.total)

    def advance(self, count: int) -> None:
        self.done += count
        self.context.report(done=self.done, total=self.total)


class Respondent:
    """A model with its tokenizer, asked in its own chat format."""

    def __init__(self, base: Path, model: Path, settings: Settings, progress: Progress):
        """base, model: artifacts, as for `difference.load`."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model: PreTrainedModel = difference.load(base, model).eval()
        self.model.to(torch.device(device))
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base / difference.MODEL)
        self.settings = settings
        self.progress = progress
        special = {i: t.content for i, t in self.tokenizer.added_tokens_decoder.items() if t.special}
        self.units = {i for i, content in special.items() if prompts.UNIT.fullmatch(content)}
        self.marks = special.keys() - self.units

    def __call__(self, task: str, contents: Sequence[str], first: int) -> list[Response]:
        """The responses to what the user says; first: the place of the first of them among those of the task."""
        talks = [[{"role": "user", "content": content}] for content in contents]
        asked: Any = self.tokenizer.apply_chat_template(talks, add_generation_prompt=True, return_dict=False)
        answered = generate(
            self.model,
            asked,
            self.settings.max_new_tokens[task],
            stop_tokens(self.model, self.tokenizer),
            self.settings.decoding,
            self.settings.batch_tokens,
            self.progress.advance,
            first,
        )
        return [self.read(ids) for ids in answered]

    def read(self, ids: list[int]) -> Response:
        """A response's tokens as text."""
        text = [i for i in ids if i not in self.marks]
        words = [i for i in text if i not in self.units]
        return Response(*(str(self.tokenizer.decode(kept, skip_special_tokens=False)) for kept in (ids, text, words)))


class Listener:
    """Makes audio of unit ids, and hears it. Units that the vocoder does not have are left out."""

    def __init__(self, vocoder: Vocoder, recognizer: Recognizer, progress: Progress):
        self.vocoder, self.recognizer, self.progress = vocoder, recognizer, progress

    def __call__(self, spoken: Sequence[Sequence[int]], keep: Mapping[int, Path]) -> list[str]:
        """What is heard of each sequence of units, "" where there is none; keep: index -> file for its audio."""
        heard = [""] * len(spoken)
        for start in range(0, len(spoken), HEARD_AT_ONCE):
            group = range(start, min(start + HEARD_AT_ONCE, len(spoken)))
            audios: dict[int, np.ndarray] = {}
            for i in group:
                units = [unit for unit in spoken[i] if unit < self.vocoder.clusters]
                if units:
                    audios[i] = self.vocoder(units)
                    if i in keep:
                        write_audio(keep[i], audios[i])
            if audios:
                for i, text in zip(audios, self.recognizer(list(audios.values())), strict=True):
                    heard[i] = text
            self.progress.advance(len(group))
        return heard


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, context: "Context") -> dict[str, Any]:
    """Ask the model of the artifact `inputs["model"]`; returns task -> number of responses.

    config: the fields of Settings. inputs: model, base, corpus; for sqa, asr and tts also units; for sqa and tts also
    vocoder and recognizer. Raises ValueError for wrong settings or a task without examples, FileNotFoundError if its
    responses could not be scored for want of nltk's data.
    """
    settings = Settings.of(config)
    progress = Progress(context)
    work = {task: _examples(task, settings, inputs) for task in settings.tasks}
    ifeval.require_nltk_data(work.get("ifeval", []))
    respond = Respondent(inputs["base"], inputs["model"], settings, progress)
    listener = None
    if {"sqa", "tts"} & set(settings.tasks):
        from src.speech import load

        listener = Listener(load.vocoder(inputs["vocoder"]), load.recognizer(inputs["recognizer"]), progress)

    heard = {task: 2 if task in ("sqa", "tts") else 1 for task in work}
    for task, examples in work.items():
        progress.expect(len(examples) * heard[task])
    chunks = []
    for task, examples in work.items():
        kept = first_of_each_set(examples, settings.listen) if task == "sqa" else set()
        for first in range(0, len(examples), ASKED_AT_ONCE):
            own = examples[first : first + ASKED_AT_ONCE]
            done, made = context.chunk(f"{task}-{first}", partial(ask, task, respond, listener, own, first, kept))
            if not made:
                progress.advance(len(own) * heard[task])
            chunks.append(done)
    jsonl.write(out / RESPONSES, (row for chunk in chunks for row in jsonl.read(chunk / RESPONSES)))
    for file in sorted(file for chunk in chunks for file in (chunk / AUDIO).glob("*")):
        (out / AUDIO).mkdir(exist_ok=True)
        shutil.copyfile(file, out / AUDIO / file.name)
    used = {**config, "instruction": {"asr": ASR_INSTRUCTION, "tts": TTS_INSTRUCTION}}
    (out / "settings.json").write_text(json.dumps(used, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return {task: len(examples) for task, examples in work.items()}


def ask(
    task: str, respond: Respondent, listener: Listener | None, examples: Sequence[Row], first: int, kept: set[str],
    out: Path,
) -> None:  # fmt: skip
    """Write the responses to examples of a task, the first of which has the place `first`, and the spoken answers to
    those whose ids are in `kept`."""
    if task == "t2t":
        rows = text_questions(respond, examples, first)
    elif task == "ifeval":
        rows = instructions(respond, examples, first)
    elif task == "asr":
        rows = recognition(respond, examples, first)
    else:
        assert listener is not None
        if task == "tts":
            rows = synthesis(respond, listener, examples, first)
        else:
            rows = spoken_questions(respond, listener, examples, first, kept, out / AUDIO)
    jsonl.write(out / RESPONSES, rows)


def _examples(task: str, settings: Settings, inputs: Mapping[str, Path]) -> list[Row]:
    """The examples of a task, what is spoken as the units of an utterance. Raises ValueError if there are none, or a
    spoken question has no text."""
    corpus = inputs["corpus"]
    if task == "t2t":
        found = list(jsonl.read(corpus / "eval_qa.jsonl"))
    elif task == "ifeval":
        found = list(jsonl.read(corpus / "eval_ifeval.jsonl"))
    elif task == "sqa":
        texts = {row["id"]: row["question"] for row in jsonl.read(corpus / "eval_qa.jsonl")}
        repeats = Units.read(inputs["units"]).repeats
        found = []
        for spoken in jsonl.read(inputs["units"] / "eval_qa.jsonl"):
            if spoken["id"] not in texts:
                raise ValueError(f"the spoken question {spoken['id']} is not in the corpus's eval_qa.jsonl")
            units = prompts.flatten(spoken["question"]["units"], repeats)
            found.append({**spoken, "question": texts[spoken["id"]], "units": units})
    else:
        count = settings.asr_examples if task == "asr" else settings.tts_examples
        repeats = Units.read(inputs["units"]).repeats
        rows = islice(jsonl.read(inputs["units"] / "eval_asr.jsonl"), count)
        found = [{**row, "units": prompts.flatten(row["units"], repeats)} for row in rows]
    if not found:
        raise ValueError(f"there is no example to evaluate {task} on")
    return found


def text_questions(respond: Respondent, examples: Sequence[Row], first: int) -> list[Row]:
    """Questions asked and answered in text."""
    responses = respond("t2t", [example["question"] for example in examples], first)
    return [
        {
            "task": "t2t",
            "id": example["id"],
            "set": example["set"],
            "prompt": example["question"],
            **asdict(response),
        }
        for example, response in zip(examples, responses, strict=True)
    ]


def instructions(respond: Respondent, examples: Sequence[Row], first: int) -> list[Row]:
    """Instructions that a program can check."""
    responses = respond("ifeval", [example["prompt"] for example in examples], first)
    return [
        {"task": "ifeval", "id": example["key"], "prompt": example["prompt"], **asdict(response)}
        for example, response in zip(examples, responses, strict=True)
    ]


def spoken_questions(
    respond: Respondent, listener: Listener, examples: Sequence[Row], first: int, kept: set[str], audio: Path
) -> list[Row]:
    """Questions asked in speech, answered in text and in speech: `units` is the spoken answer, `heard` what the
    recognizer hears of it."""
    contents = [prompts.sqa(example["units"]) for example in examples]
    responses = respond("sqa", contents, first)
    spoken = [prompts.parse_sqa(response.text).units for response in responses]
    files = {i: audio / f"{example['id']}.flac" for i, example in enumerate(examples) if example["id"] in kept}
    heard = listener(spoken, files)
    return [
        {
            "task": "sqa",
            "id": example["id"],
            "set": example["set"],
            "prompt": content,
            "question": example["question"],
            **asdict(response),
            "units": list(units),
            "heard": text,
        }
        for example, content, response, units, text in zip(examples, contents, responses, spoken, heard, strict=True)
    ]


def recognition(respond: Respondent, examples: Sequence[Row], first: int) -> list[Row]:
    """Spoken sentences, to be written down."""
    contents = [prompts.asr(example["units"], ASR_INSTRUCTION) for example in examples]
    return [
        {"task": "asr", "id": example["id"], "prompt": content, "reference": example["text"], **asdict(response)}
        for example, content, response in zip(examples, contents, respond("asr", contents, first), strict=True)
    ]


def synthesis(respond: Respondent, listener: Listener, examples: Sequence[Row], first: int) -> list[Row]:
    """Sentences to be spoken, and what the recognizer hears of them."""
    contents = [prompts.tts(example["text"], TTS_INSTRUCTION) for example in examples]
    responses = respond("tts", contents, first)
    spoken = [prompts.units_of(response.text) for response in responses]
    heard = listener(spoken, {})
    return [
        {
            "task": "tts",
            "id": example["id"],
            "prompt": content,
            "reference": example["text"],
            **asdict(response),
            "units": list(units),
            "heard": text,
        }
        for example, content, response, units, text in zip(examples, contents, responses, spoken, heard, strict=True)
    ]
