"""Whether a prediction holds the answer to a question: three rules, named in `RULES`.

The paper does not say which rule it scored by, and the rules in use differ in what they accept, so that a table must
name its own: `DESCRIPTIONS` has the sentence for it. Any alias will do under every rule, and an answer without a token
never matches.

`exact_match` and `f1` are TriviaQA's own measures of a short text answer.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection
from functools import lru_cache

import regex

from src.evaluate.alternatives import ARTICLES
from src.evaluate.readings import lattice
from src.evaluate.spelling import words

DPR_TOKEN = regex.compile(r"([\p{L}\p{N}\p{M}]+)|([^\p{Z}\p{C}])", regex.IGNORECASE | regex.UNICODE | regex.MULTILINE)
TRIVIAQA_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~‘’´]")


@lru_cache(maxsize=1024)
def dpr_tokens(text: str) -> tuple[str, ...]:
    """The uncased tokens of DPR's SimpleTokenizer: "L'École" -> ("l", "'", "e\u0301cole")."""
    return tuple(match[0].lower() for match in DPR_TOKEN.finditer(unicodedata.normalize("NFD", text)))


def contiguous(prediction: str, answer: str) -> bool:
    """Whether the answer's words stand side by side in the prediction, articles that lead the answer left out.

    This project's own rule, and the default. A text has every reading of src/evaluate/readings.py, so that it makes no
    difference whether it was written or heard; one that both have in common is enough. Only leading articles are left
    out: "vitamin a" must not become "vitamin".
    """
    return lattice(prediction).holds(lattice(answer))


def has_answer(prediction: str, answer: str) -> bool:
    """DPR's has_answer with match type "string": the answer's tokens stand side by side in the prediction, uncased.

    Karpukhin et al. (2020), "Dense passage retrieval for open-domain question answering"; facebookresearch/DPR,
    dpr/data/qa_validation.py with the SimpleTokenizer of dpr/utils/tokenizers.py. Tokens are runs of letters, digits
    and marks, or single other characters, of the NFD text. Nothing else is normalized: accents, articles, punctuation
    inside an answer and the spelling of numbers count. Unlike there, an empty answer does not match everything.
    """
    return _side_by_side(dpr_tokens(answer), dpr_tokens(prediction))


def substrings(prediction: str, answer: str) -> bool:
    """Whether each word of the answer occurs in the prediction, in any order and be it inside a longer word.

    Several open implementations of spoken question answering look for each token in the lower-cased prediction, and
    once more with its number words as digits. Here both sides have every reading, as for `contiguous`, so that this is
    the more generous rule in every case.
    """
    spelled = {word.text for word in words(prediction)}
    wanted = [word.text for word in words(answer)]
    while wanted and wanted[0] in ARTICLES and set(wanted) - ARTICLES:
        del wanted[0]
    if wanted and all(any(word in one for one in spelled) for word in wanted):
        return True
    read = lattice(prediction).vocabulary
    return lattice(answer).made_of(lambda word: any(word in one for one in read))


RULES: dict[str, Callable[[str, str], bool]] = {
    "contiguous": contiguous,
    "has_answer": has_answer,
    "substrings": substrings,
}
DESCRIPTIONS = {
    "contiguous": "An answer counts if its words stand side by side in the prediction, apart from case, accents, "
    "punctuation, leading articles, and how numbers, dates, units, initials and abbreviations are written or said.",
    "has_answer": "An answer counts if DPR's has_answer finds it: its tokens side by side, uncased.",
    "substrings": "An answer counts if each of its words occurs anywhere in the prediction, even inside a longer word, "
    "however numbers, dates, units, initials and abbreviations are written or said.",
}
"""One sentence for each rule, for the footer of a table."""


def correct(prediction: str, answers: Collection[str], rule: str = "contiguous") -> bool:
    """Whether the prediction holds any of the aliases under the rule, a key of RULES.

    Raises ValueError for an unknown rule, or a single string in place of the aliases.
    """
    if rule not in RULES:
        raise ValueError(f"there is no matching rule {rule!r}; there are {', '.join(RULES)}")
    return any(RULES[rule](prediction, answer) for answer in _aliases(answers))


def exact_match(prediction: str, answers: Collection[str]) -> bool:
    """TriviaQA's exact match: prediction and an alias are the same, normalized (`triviaqa_normalize`)."""
    return triviaqa_normalize(prediction) in map(triviaqa_normalize, _aliases(answers))


def f1(prediction: str, answers: Collection[str]) -> float:
    """TriviaQA's F1: the harmonic mean of precision and recall of an alias's tokens, the best over the aliases."""
    given = Counter(triviaqa_normalize(prediction).split())
    best = 0.0
    for answer in _aliases(answers):
        wanted = Counter(triviaqa_normalize(answer).split())
        if shared := (given & wanted).total():
            precision, recall = shared / given.total(), shared / wanted.total()
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


def triviaqa_normalize(text: str) -> str:
    """TriviaQA's normalization: lower case, punctuation to spaces, articles anywhere dropped, white space to one space.

    Joshi et al. (2017), "TriviaQA: a large scale distantly supervised challenge dataset for reading comprehension";
    mandarjoshi90/triviaqa, evaluation/triviaqa_evaluation.py.
    """
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", TRIVIAQA_PUNCTUATION.sub(" ", text.lower())).split())


def _aliases(answers: Collection[str]) -> Collection[str]:
    if isinstance(answers, str):  # its letters would be taken for aliases
        raise ValueError(f"answers must be a list of strings, not {answers!r}")
    return answers


def _side_by_side(wanted: tuple[str, ...], given: tuple[str, ...]) -> bool:
    n = len(wanted)
    return bool(n) and any(given[i : i + n] == wanted for i in range(len(given) - n + 1))
