"""Score what a model answered, without the model: answers, instructions, word errors.

Leaves `scores.json` (every score with its n, standard error and 95 % interval, and the settings), `responses.jsonl`
(every response with its verdict) and `breakdown.json` (IFEval by group and by instruction).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data import jsonl, prompts
from src.evaluate import ifeval, qa, wer
from src.evaluate.scoring import Scoring
from src.evaluate.statistics import accuracy, bootstrap, wilson
from src.evaluate.tasks import TASKS

if TYPE_CHECKING:
    from src.grid.context import Context

Row = dict[str, Any]
Score = dict[str, Any]
"""value, n, standard_error, interval (low, high; None where too little was measured), and counts."""
Scores = dict[str, Score]


def score(
    tasks: Sequence[str], scoring: Scoring, responses: Path, corpus: Path, out: Path, context: "Context"
) -> dict[str, float]:
    """Score the responses to these tasks; returns key -> value of every score.

    responses: the artifact that `src.evaluate.responses` leaves. corpus: the artifact that the questions were from.
    Raises ValueError for a task without responses, or a response to what the corpus does not have.
    """
    answered = list(jsonl.read(responses / "responses.jsonl"))
    given = {task: [row for row in answered if row["task"] == task] for task in tasks}
    rows: list[Row] = []
    scores: Scores = {}
    breakdown: dict[str, Any] = {}
    total = sum(map(len, given.values()))
    for task, asked in given.items():
        if not asked:
            raise ValueError(f"there is no response to score {task} on")
        if task == "t2t":
            judged, found = text_questions(asked, _answers(asked, corpus), scoring)
        elif task == "ifeval":
            judged, found, breakdown["ifeval"] = instructions(asked, _instructions(asked, corpus))
        elif task == "sqa":
            judged, found = spoken_questions(asked, _answers(asked, corpus), scoring)
        elif task == "asr":
            judged, found = recognition(asked, scoring)
        else:
            judged, found = synthesis(asked, scoring)
        rows += judged
        scores |= found
        context.report(done=len(rows), total=total)
    jsonl.write(out / "responses.jsonl", rows)
    used = {**json.loads((responses / "settings.json").read_text(encoding="utf-8")), "tasks": list(tasks)}
    used["matching"] = scoring.matching
    if any(TASKS[task].spoken for task in tasks):
        used["wer_normalization"] = scoring.wer_normalization
    _write(out / "scores.json", {"scores": scores, "settings": used})
    _write(out / "breakdown.json", breakdown)
    return {key: score["value"] for key, score in scores.items()}


def text_questions(rows: Sequence[Row], answers: Sequence[list[str]], scoring: Scoring) -> tuple[list[Row], Scores]:
    """T2T: text question, text answer."""
    judged = [
        {**row, "answers": right, "correct": qa.correct(row["words"], right, scoring.matching)}
        for row, right in zip(rows, answers, strict=True)
    ]
    return judged, _by_set(judged, "correct", "t2t")


def instructions(rows: Sequence[Row], examples: Sequence[ifeval.Example]) -> tuple[list[Row], Scores, dict[str, Any]]:
    """IFEval, at prompt and instruction level, strict and loose; and its breakdown, with the keys of the prompts whose
    verdict is chance in the official scorer."""
    verdicts = [ifeval.judge(example, row["words"]) for row, example in zip(rows, examples, strict=True)]
    judged = [
        {
            **row,
            "instructions": example["instruction_id_list"],
            "strict": list(verdict.strict),
            "loose": list(verdict.loose),
        }
        for row, example, verdict in zip(rows, examples, verdicts, strict=True)
    ]
    scores: Scores = {}
    for name, score in ifeval.scores(verdicts).items():
        level, way = name.split("_")
        followed = [getattr(verdict, way) for verdict in verdicts]
        if level == "prompt" or score["value"] in (0, 1):  # where all prompts agree, the bootstrap has no width
            scores[f"ifeval/{name}"] = {**score, "interval": wilson(sum(map(all, followed)), len(followed))}
        else:
            interval = bootstrap(list(map(sum, followed)), list(map(len, followed)))
            scores[f"ifeval/{name}"] = {**score, "interval": interval}
    return judged, scores, {**ifeval.breakdown(examples, verdicts), "chance": ifeval.chance(examples)}


def spoken_questions(rows: Sequence[Row], answers: Sequence[list[str]], scoring: Scoring) -> tuple[list[Row], Scores]:
    """S2T and S2S: spoken question, text answer and spoken answer (as the recognizer heard it)."""
    parts = [prompts.parse_sqa(row["text"]) for row in rows]
    counted, errors = word_errors(
        [row["question"] for row in rows], [part.transcript for part in parts], scoring.wer_normalization
    )
    judged = [
        {
            **row,
            "answers": right,
            "transcript": part.transcript,
            "text_answer": part.text,
            "well_formed": part.well_formed,
            "correct_s2t": qa.correct(part.text, right, scoring.matching),
            "correct_s2s": qa.correct(row["heard"], right, scoring.matching),
            **counts,
        }
        for row, right, part, counts in zip(rows, answers, parts, counted, strict=True)
    ]
    scores = _by_set(judged, "correct_s2t", "s2t") | _by_set(judged, "correct_s2s", "s2s")
    scores["wer/question"] = errors
    scores["form/well_formed"] = share_of([part.well_formed for part in parts])
    return judged, scores


def recognition(rows: Sequence[Row], scoring: Scoring) -> tuple[list[Row], Scores]:
    """ASR: the model's transcripts of spoken sentences."""
    transcripts = [" ".join(row["words"].split()) for row in rows]
    counted, errors = word_errors([row["reference"] for row in rows], transcripts, scoring.wer_normalization)
    judged = [{**row, "transcript": t, **counts} for row, t, counts in zip(rows, transcripts, counted, strict=True)]
    return judged, {"wer/asr": errors}


def synthesis(rows: Sequence[Row], scoring: Scoring) -> tuple[list[Row], Scores]:
    """TTS: what the recognizer hears of the sentences that the model speaks."""
    heard = [row["heard"] for row in rows]
    counted, errors = word_errors([row["reference"] for row in rows], heard, scoring.wer_normalization)
    return [{**row, **counts} for row, counts in zip(rows, counted, strict=True)], {"wer/tts": errors}


def share_of(verdicts: Sequence[bool]) -> Score:
    """The score that is the share of true verdicts."""
    return {**accuracy(verdicts), "interval": wilson(sum(verdicts), len(verdicts))}


def word_errors(references: Sequence[str], hypotheses: Sequence[str], normalization: str) -> tuple[list[Row], Score]:
    """For each utterance {"errors", "words_counted"}, the words being those of the reference; and the score of all.

    Raises ValueError if a reference has no word.
    """
    counts = wer.per_utterance(references, hypotheses, normalization)
    errors = [sum(count[kind] for kind in wer.ERRORS.values()) for count in counts]
    words = [count["words"] for count in counts]
    counted = [{"errors": e, "words_counted": n} for e, n in zip(errors, words, strict=True)]
    return counted, {**wer.total(counts), "interval": bootstrap(errors, words)}


def _by_set(rows: Sequence[Row], verdict: str, name: str) -> Scores:
    """Accuracy of each question set, in order of appearance."""
    sets = dict.fromkeys(row["set"] for row in rows)
    return {f"qa/{s}/{name}": share_of([row[verdict] for row in rows if row["set"] == s]) for s in sets}


def _answers(rows: Sequence[Row], corpus: Path) -> list[list[str]]:
    return [question["answers"] for question in _asked(rows, corpus / "eval_qa.jsonl", "id")]


def _instructions(rows: Sequence[Row], corpus: Path) -> list[Row]:
    return _asked(rows, corpus / "eval_ifeval.jsonl", "key")


def _asked(rows: Sequence[Row], file: Path, key: str) -> list[Row]:
    """The corpus's example of each response. Raises ValueError if it has none."""
    examples = {example[key]: example for example in jsonl.read(file)}
    for row in rows:
        if row["id"] not in examples:
            raise ValueError(f"a response to {row['id']!r} ({row['task']}), which is not in the corpus's {file.name}")
    return [examples[row["id"]] for row in rows]


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
