"""Score one model: text questions, verifiable instructions, spoken questions, recognition, synthesis; a step body.

Leaves `scores.json` (every score with its n and standard error, and the settings), `responses.jsonl` (every prompt,
output, extraction and verdict, so that scores can be recomputed without generating again) and the first spoken answers
of each question set as `audio/<id>.flac`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from src.data import jsonl, prompts
from src.evaluate import ifeval, qa, wer
from src.evaluate.generate import Decoding, generate, stop_tokens
from src.evaluate.statistics import accuracy, clustered_accuracy
from src.speech.audio import write_audio
from src.speech.protocols import Recognizer, Vocoder

if TYPE_CHECKING:
    from src.grid.context import Context

TASKS = ("t2t", "ifeval", "sqa", "asr", "tts")
ASR_INSTRUCTION, TTS_INSTRUCTION = prompts.ASR_INSTRUCTIONS[0], prompts.TTS_INSTRUCTIONS[0]
HEARD_AT_ONCE = 32
"""Answers that the recognizer gets in one call, which bounds the audio that is kept."""

Row = dict[str, Any]
Scores = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Settings:
    """What is evaluated, and how."""

    tasks: tuple[str, ...]
    max_new_tokens: Mapping[str, int]
    """Longest response of each task, in tokens."""
    decoding: Decoding
    matching: str
    """When a prediction holds an answer: a key of `qa.RULES`."""
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
        if self.matching not in qa.RULES:
            raise ValueError(f"evaluate.matching={self.matching}: must be one of {', '.join(qa.RULES)}")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Settings":
        return cls(**{**config, "tasks": tuple(config["tasks"]), "decoding": Decoding(**config["decoding"])})


@dataclass(frozen=True)
class Response:
    """What a model answered: `raw` with all its tokens, `text` without special tokens other than units and with line
    breaks, `words` without units either."""

    raw: str
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

    def __init__(self, folder: Path, settings: Settings, progress: Progress):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
        self.model.to(torch.device(device))
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        self.settings = settings
        self.progress = progress
        special = {i: t.content for i, t in self.tokenizer.added_tokens_decoder.items() if t.special}
        self.units = {i for i, content in special.items() if prompts.UNIT.fullmatch(content)}
        self.marks = special.keys() - self.units

    def __call__(self, task: str, contents: Sequence[str]) -> list[Response]:
        """The responses to what the user says, one a content."""
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
                units = [unit for unit, _ in groupby(spoken[i]) if unit < self.vocoder.clusters]
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
    """Evaluate the model of the artifact `inputs["model"]`; returns key -> value of every score.

    config: the fields of Settings. inputs: model, corpus; for sqa, asr and tts also units; for sqa and tts also
    vocoder and recognizer.
    """
    settings = Settings.of(config)
    progress = Progress(context)
    corpus = inputs["corpus"]
    respond = Respondent(inputs["model"] / "model", settings, progress)
    listener = None
    if {"sqa", "tts"} & set(settings.tasks):
        from src.speech.recognizer import load_recognizer
        from src.speech.vocoder import load_vocoder

        listener = Listener(load_vocoder(inputs["vocoder"]), load_recognizer(inputs["recognizer"]), progress)

    work: dict[str, list[Row]] = {}
    for task in settings.tasks:
        work[task] = _examples(task, settings, inputs, corpus)
        progress.expect(len(work[task]) * (2 if task in ("sqa", "tts") else 1))
    rows: list[Row] = []
    scores: Scores = {}
    for task, examples in work.items():
        if task == "t2t":
            done, found = text_questions(respond, examples)
        elif task == "ifeval":
            done, found = instructions(respond, examples)
        elif task == "asr":
            done, found = recognition(respond, examples)
        else:
            assert listener is not None
            if task == "sqa":
                done, found = spoken_questions(respond, listener, examples, out / "audio")
            else:
                done, found = synthesis(respond, listener, examples)
        rows += done
        scores |= found
    jsonl.write(out / "responses.jsonl", rows)
    used = {**config, "instruction": {"asr": ASR_INSTRUCTION, "tts": TTS_INSTRUCTION}}
    (out / "scores.json").write_text(
        json.dumps({"scores": scores, "settings": used}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    return {key: score["value"] for key, score in scores.items()}


def _examples(task: str, settings: Settings, inputs: Mapping[str, Path], corpus: Path) -> list[Row]:
    """The examples of a task. Raises ValueError if there are none, or a spoken question has no text."""
    if task == "t2t":
        found = list(jsonl.read(corpus / "eval_qa.jsonl"))
    elif task == "ifeval":
        found = list(jsonl.read(corpus / "eval_ifeval.jsonl"))
    elif task == "sqa":
        texts = {row["id"]: row for row in jsonl.read(corpus / "eval_qa.jsonl")}
        found = []
        for spoken in jsonl.read(inputs["units"] / "eval_qa.jsonl"):
            if spoken["id"] not in texts:
                raise ValueError(f"the spoken question {spoken['id']} is not in the corpus's eval_qa.jsonl")
            found.append({**texts[spoken["id"]], "units": prompts.flatten(spoken["question"]["units"])})
    else:
        count = settings.asr_examples if task == "asr" else settings.tts_examples
        found = list(jsonl.read(inputs["units"] / "eval_asr.jsonl"))[:count]
    if not found:
        raise ValueError(f"there is no example to evaluate {task} on")
    return found


def text_questions(respond: Respondent, examples: Sequence[Row]) -> tuple[list[Row], Scores]:
    """T2T: text question, text answer."""
    rows = []
    responses = respond("t2t", [example["question"] for example in examples])
    for example, response in zip(examples, responses, strict=True):
        rows.append({
            "task": "t2t",
            "id": example["id"],
            "set": example["set"],
            "prompt": example["question"],
            "response": response.raw,
            "answers": example["answers"],
            "correct": qa.correct(response.words, example["answers"], respond.settings.matching),
        })  # fmt: skip
    return rows, _by_set(rows, "correct", "t2t")


def instructions(respond: Respondent, examples: Sequence[Row]) -> tuple[list[Row], Scores]:
    """IFEval, at prompt and instruction level, strict and loose."""
    rows = []
    responses = respond("ifeval", [example["prompt"] for example in examples])
    for example, response in zip(examples, responses, strict=True):
        verdict = ifeval.judge(example, response.words)
        rows.append({
            "task": "ifeval",
            "id": example["key"],
            "prompt": example["prompt"],
            "response": response.raw,
            "instructions": example["instruction_id_list"],
            "strict": list(verdict.strict),
            "loose": list(verdict.loose),
        })  # fmt: skip
    scores: Scores = {}
    for way in ("strict", "loose"):
        scores[f"ifeval/prompt_{way}"] = accuracy([all(row[way]) for row in rows])
        scores[f"ifeval/instruction_{way}"] = clustered_accuracy([row[way] for row in rows])
    return rows, scores


def spoken_questions(
    respond: Respondent, listener: Listener, examples: Sequence[Row], audio: Path
) -> tuple[list[Row], Scores]:
    """S2T and S2S: spoken question, text answer and spoken answer (vocoded and recognized)."""
    contents = [prompts.sqa(example["units"]) for example in examples]
    responses = respond("sqa", contents)
    parts = [prompts.parse_sqa(response.text) for response in responses]
    kept: dict[int, Path] = {}
    count: dict[str, int] = {}
    for i, example in enumerate(examples):
        count[example["set"]] = count.get(example["set"], 0) + 1
        if count[example["set"]] <= respond.settings.listen:
            kept[i] = audio / f"{example['id']}.flac"
    heard = listener([part.units for part in parts], kept)
    rows = []
    rule = respond.settings.matching
    for example, content, response, part, text in zip(examples, contents, responses, parts, heard, strict=True):
        rows.append({
            "task": "sqa",
            "id": example["id"],
            "set": example["set"],
            "prompt": content,
            "question": example["question"],
            "response": response.raw,
            "answers": example["answers"],
            "transcript": part.transcript,
            "text_answer": part.text,
            "units": list(part.units),
            "well_formed": part.well_formed,
            "heard": text,
            "correct_s2t": qa.correct(part.text, example["answers"], rule),
            "correct_s2s": qa.correct(text, example["answers"], rule),
        })  # fmt: skip
    scores = _by_set(rows, "correct_s2t", "s2t") | _by_set(rows, "correct_s2s", "s2s")
    scores["wer/question"] = wer.score([row["question"] for row in rows], [row["transcript"] for row in rows])
    scores["form/well_formed"] = accuracy([row["well_formed"] for row in rows])
    return rows, scores


def recognition(respond: Respondent, examples: Sequence[Row]) -> tuple[list[Row], Scores]:
    """ASR: the model's transcripts of spoken sentences."""
    contents = [prompts.asr(prompts.flatten(example["units"]), ASR_INSTRUCTION) for example in examples]
    rows = []
    for example, content, response in zip(examples, contents, respond("asr", contents), strict=True):
        rows.append({
            "task": "asr",
            "id": example["id"],
            "prompt": content,
            "response": response.raw,
            "reference": example["text"],
            "transcript": " ".join(response.words.split()),
        })  # fmt: skip
    return rows, {"wer/asr": wer.score([row["reference"] for row in rows], [row["transcript"] for row in rows])}


def synthesis(respond: Respondent, listener: Listener, examples: Sequence[Row]) -> tuple[list[Row], Scores]:
    """TTS: what the recognizer hears of the sentences that the model speaks."""
    contents = [prompts.tts(example["text"], TTS_INSTRUCTION) for example in examples]
    responses = respond("tts", contents)
    spoken = [prompts.units_of(response.text) for response in responses]
    rows = []
    heard = listener(spoken, {})
    for example, content, response, units, text in zip(examples, contents, responses, spoken, heard, strict=True):
        rows.append({
            "task": "tts",
            "id": example["id"],
            "prompt": content,
            "response": response.raw,
            "reference": example["text"],
            "units": list(units),
            "heard": text,
        })  # fmt: skip
    return rows, {"wer/tts": wer.score([row["reference"] for row in rows], [row["heard"] for row in rows])}


def _by_set(rows: Sequence[Row], verdict: str, name: str) -> Scores:
    """Accuracy of each question set, in order of appearance."""
    sets = dict.fromkeys(row["set"] for row in rows)
    return {f"qa/{s}/{name}": accuracy([row[verdict] for row in rows if row["set"] == s]) for s in sets}
