"""Word error rate with jiwer, after a normalization that has a name: one of `NORMALIZATIONS`.

    basic     lower case, apostrophes dropped, other punctuation to spaces
    whisper   Whisper's English normalizer as it is: also numbers, contractions, titles, fillers, British spellings

Whisper's is of Radford et al. (2022), "Robust speech recognition via large-scale weak supervision", arXiv 2212.04356,
appendix C. transformers ships its code; its table of spellings is the `normalizer.json` of a Whisper tokenizer, and
without that file spellings stay as they are.
"""

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from src.evaluate.spelling import APOSTROPHES
from src.evaluate.statistics import share

NORMALIZATIONS = ("basic", "whisper")
ERRORS = {"substitute": "substitutions", "delete": "deletions", "insert": "insertions"}
"""How jiwer calls a piece of an alignment -> the count it adds to."""
COUNTS = ("words", *ERRORS.values())


def normalize(text: str) -> str:
    """Lower case, apostrophes dropped, other punctuation to spaces: "It's 5 o'clock!" -> "its 5 oclock"."""
    text = unicodedata.normalize("NFKC", text.translate(dict.fromkeys(map(ord, APOSTROPHES)))).casefold()
    kept = (c if unicodedata.category(c)[0] in "LNM" else " " for c in text)
    return " ".join("".join(kept).split())


@cache
def whisper_normalizer(spellings: Path | None = None) -> Callable[[str], str]:
    """Whisper's English normalizer: "Mr. Gray's forty-two colours" -> "mister gray is 42 colours".

    spellings: JSON file of British -> American spelling, as it comes with a Whisper tokenizer; "colors" with it.
    Raises ValueError if it is something else.
    """
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    try:
        table = json.loads(spellings.read_text(encoding="utf-8")) if spellings else {}
    except (OSError, ValueError) as error:
        raise ValueError(f"spellings {spellings} cannot be read: {error}") from None
    if not isinstance(table, dict):
        raise ValueError(f"spellings {spellings} must be one JSON object, British to American spelling")
    return EnglishTextNormalizer(table)


def per_utterance(
    references: Sequence[str],
    hypotheses: Sequence[str],
    normalization: str = "basic",
    spellings: Path | None = None,
) -> list[dict[str, int]]:
    """For each utterance: words (of the reference), substitutions, deletions, insertions, by jiwer's alignment.

    A reference without a word has 0 words, and each word that was heard is an insertion. Raises ValueError if the
    numbers of texts differ, or for an unknown normalization.
    """
    import jiwer

    if normalization not in NORMALIZATIONS:
        raise ValueError(f"there is no normalization {normalization!r}; there are {', '.join(NORMALIZATIONS)}")
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references and {len(hypotheses)} hypotheses: give as many of each")
    clean = whisper_normalizer(spellings) if normalization == "whisper" else normalize
    references, hypotheses = [[" ".join(clean(text).split()) for text in texts] for texts in (references, hypotheses)]
    if not references:
        return []
    output = jiwer.process_words(references, hypotheses)
    counts = [dict.fromkeys(COUNTS, 0) for _ in references]
    for count, words, chunks in zip(counts, output.references, output.alignments, strict=True):
        count["words"] = len(words)
        for chunk in chunks:
            if chunk.type != "equal":
                # one of the two is 0 for a deletion or an insertion, and they are the same for a substitution
                size = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
                count[ERRORS[chunk.type]] += size
    return counts


def total(counts: Sequence[Mapping[str, int]]) -> dict[str, Any]:
    """The entry of a score, from the counts of `per_utterance`: value = (substitutions + deletions + insertions) /
    words, may exceed 1; n = utterances; the sums of the counts; standard_error clustered by utterance
    (see `statistics.share`).

    Raises ValueError if no reference has a word.
    """
    errors = [float(sum(count[kind] for kind in ERRORS.values())) for count in counts]
    value, error = share(errors, [float(count["words"]) for count in counts])
    sums = {name: sum(count[name] for count in counts) for name in COUNTS}
    return {"value": value, "n": len(counts), "standard_error": error, **sums}


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    normalization: str = "basic",
    spellings: Path | None = None,
) -> dict[str, Any]:
    """The entry of a score: `total` of `per_utterance`, with its arguments and its errors."""
    return total(per_utterance(references, hypotheses, normalization, spellings))
