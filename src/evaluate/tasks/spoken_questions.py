"""S2T and S2S: spoken question, text answer and spoken answer."""

from collections.abc import Sequence
from pathlib import Path

from src.data import jsonl, prompts
from src.data.unit_format import Units
from src.evaluate.asking import Asking, Sources
from src.evaluate.scoring import Scoring
from src.evaluate.tasks.task import Row, Scored, answers, by_set, matches, share_of, word_errors


def examples(asking: Asking, sources: Sources) -> list[Row]:
    """The questions as units. Raises ValueError if one is not in the corpus."""
    assert sources.units
    texts = {row["id"]: row["question"] for row in jsonl.read(sources.corpus / "eval_qa.jsonl")}
    repeats = Units.read(sources.units).repeats
    found = []
    for row in jsonl.read(sources.units / "eval_qa.jsonl"):
        if row["id"] not in texts:
            raise ValueError(f"the spoken question {row['id']} is not in the corpus's eval_qa.jsonl")
        prompt = prompts.sqa(prompts.flatten(row["question"]["units"], repeats))
        found.append({"id": row["id"], "set": row["set"], "prompt": prompt, "question": texts[row["id"]]})
    return found


def units(text: str) -> Sequence[int]:
    """The spoken answer in a response."""
    return prompts.parse_sqa(text).units


def score(rows: Sequence[Row], corpus: Path, scoring: Scoring) -> Scored:
    """qa/<set>/s2t: the share of right answers in text. qa/<set>/s2s: the same in speech, as the recognizer heard it.

    wer/question: the word errors of the transcripts that responses begin with. form/well_formed: the share of responses
    that have all three parts.
    """
    parts = [prompts.parse_sqa(row["text"]) for row in rows]
    transcripts = [part.transcript for part in parts]
    counted, errors = word_errors("wer/question", [row["question"] for row in rows], transcripts, scoring)
    accepted = answers(rows, corpus)
    s2t = matches([part.text for part in parts], accepted, scoring)
    s2s = matches([row["heard"] for row in rows], accepted, scoring)
    scored = [
        {
            **row,
            "answers": right,
            "transcript": part.transcript,
            "text_answer": part.text,
            "well_formed": part.well_formed,
            "correct_s2t": written,
            "correct_s2s": heard,
            **counts,
        }
        for row, right, part, written, heard, counts in zip(rows, accepted, parts, s2t, s2s, counted, strict=True)
    ]
    scores = by_set(scored, "correct_s2t", "s2t") | by_set(scored, "correct_s2s", "s2s") | errors
    scores["form/well_formed"] = share_of([part.well_formed for part in parts])
    return Scored(scored, scores)
