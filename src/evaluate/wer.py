"""Word error rate with jiwer, after a light normalization."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import jiwer

from src.evaluate.statistics import share


def normalize(text: str) -> str:
    """Lower case, apostrophes dropped, other punctuation to spaces: "It's 5 o'clock!" -> "its 5 oclock"."""
    text = re.sub("['\u2019]", "", unicodedata.normalize("NFKC", text).casefold())
    kept = (c if unicodedata.category(c)[0] in "LNM" else " " for c in text)
    return " ".join("".join(kept).split())


def score(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, Any]:
    """The entry of a score: value = (substitutions + deletions + insertions) / words, may exceed 1; n = utterances;
    jiwer's counts; standard_error clustered by utterance (see `statistics.share`).

    Raises ValueError if a reference has no word.
    """
    references, hypotheses = [normalize(r) for r in references], [normalize(h) for h in hypotheses]
    if "" in references:
        raise ValueError(f"reference {references.index('')} of {len(references)} has no word")
    output = jiwer.process_words(references, hypotheses)
    errors = [
        float(sum(chunk.type != "equal" and max(_span(chunk)) for chunk in chunks)) for chunks in output.alignments
    ]
    words = [float(len(reference)) for reference in output.references]
    value, error = share(errors, words)
    return {
        "value": value,
        "n": len(references),
        "standard_error": error,
        "words": int(sum(words)),
        "substitutions": output.substitutions,
        "deletions": output.deletions,
        "insertions": output.insertions,
    }


def _span(chunk: jiwer.AlignmentChunk) -> tuple[int, int]:
    """Words of the reference and of the hypothesis that a piece of an alignment covers."""
    return chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
