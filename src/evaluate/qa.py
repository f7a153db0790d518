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

from src.evaluate.number_words import fold_numbers

ARTICLES = {"a", "an", "the"}
ACCENTS = re.compile("[\u0300-\u036f]")
"""Combining marks of Latin, Greek and Cyrillic; those of other scripts change the letter and stay."""
LETTERS = str.maketrans({
    **{"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ŧ": "t", "ı": "i"}, **{"æ": "ae", "œ": "oe", "þ": "th"},
})  # fmt: skip
"""Accented letters that Unicode does not take apart."""
APOSTROPHES = "'\u2018\u2019\u02bc\u00b4`"
POSSESSIVE = re.compile(rf"[{APOSTROPHES}]s\b", re.IGNORECASE)
THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!,?\d)")
TIME = re.compile(r"(?<!\d)(1\d|20):(?=[0-5]\d(?!\d))")
"""Hours that are said as a year is: 19:45 is "nineteen forty five"."""
TOKEN = regex.compile(r"(?<![\d.])\d+\.\d+(?!\.?\d)|[\p{L}\p{N}\p{M}]+")
"""A decimal number, or a run of letters, digits and marks."""
DPR_TOKEN = regex.compile(r"([\p{L}\p{N}\p{M}]+)|([^\p{Z}\p{C}])", regex.IGNORECASE | regex.UNICODE | regex.MULTILINE)
TRIVIAQA_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~‘’´]")


@lru_cache(maxsize=1024)
def words(text: str) -> tuple[str, ...]:
    """The normalized words of a text: "Forty-two, ÉCOLE & 1,000" -> ("forty", "two", "ecole", "and", "1000").

    Lower case, accents off, apostrophes dropped, other punctuation to spaces, & and % as words, thousands joined.
    """
    text = text.translate(dict.fromkeys(map(ord, APOSTROPHES)))
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    text = unicodedata.normalize("NFKC", ACCENTS.sub("", text)).translate(LETTERS)
    text = THOUSANDS.sub(lambda number: number[0].replace(",", ""), TIME.sub(r"\1", text))
    return tuple(TOKEN.findall(text.replace("&", " and ").replace("%", " percent ")))


@lru_cache(maxsize=1024)
def tokens(text: str) -> tuple[str, ...]:
    """The normalized words of a text, number words as digits: "Forty-two, ÉCOLE" -> ("42", "ecole")."""
    return tuple(fold_numbers(words(text)))


@lru_cache(maxsize=1024)
def dpr_tokens(text: str) -> tuple[str, ...]:
    """The uncased tokens of DPR's SimpleTokenizer: "L'École" -> ("l", "'", "e\u0301cole")."""
    return tuple(match[0].lower() for match in DPR_TOKEN.finditer(unicodedata.normalize("NFD", text)))


def contiguous(prediction: str, answer: str) -> bool:
    """Whether the answer's `tokens` stand side by side in the prediction, articles that lead the answer left out.

    This project's own rule, and the default. A possessive ("Einstein's") counts as the word itself, too. Only leading
    articles are left out: "vitamin a" must not become "vitamin".
    """
    wanted = _without_articles(tokens(answer))
    return any(_side_by_side(wanted, tokens(reading)) for reading in _readings(prediction))


def has_answer(prediction: str, answer: str) -> bool:
    """DPR's has_answer with match type "string": the answer's tokens stand side by side in the prediction, uncased.

    Karpukhin et al. (2020), "Dense passage retrieval for open-domain question answering"; facebookresearch/DPR,
    dpr/data/qa_validation.py with the SimpleTokenizer of dpr/utils/tokenizers.py. Tokens are runs of letters, digits
    and marks, or single other characters, of the NFD text. Nothing else is normalized: accents, articles, punctuation
    inside an answer and the spelling of numbers count. Unlike there, an empty answer does not match everything.
    """
    return _side_by_side(dpr_tokens(answer), dpr_tokens(prediction))


def substrings(prediction: str, answer: str) -> bool:
    """Whether each token of the answer occurs in the prediction, in any order and be it inside a longer word.

    Several open implementations of spoken question answering look for each token in the lower-cased prediction, and
    once more with its number words as digits. Here both sides are normalized as for `contiguous`, so that this is the
    more generous rule in every case.
    """
    for reading in _readings(prediction):
        for split in (words, tokens):
            wanted, given = _without_articles(split(answer)), " ".join(split(reading))
            if wanted and all(word in given for word in wanted):
                return True
    return False


RULES: dict[str, Callable[[str, str], bool]] = {
    "contiguous": contiguous,
    "has_answer": has_answer,
    "substrings": substrings,
}
DESCRIPTIONS = {
    "contiguous": "An answer counts if its words stand side by side in the prediction, "
    "apart from case, accents, punctuation, leading articles and the spelling of numbers.",
    "has_answer": "An answer counts if DPR's has_answer finds it: its tokens side by side, uncased.",
    "substrings": "An answer counts if each of its words occurs anywhere in the prediction, even inside a longer word, "
    "with numbers as words or digits.",
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


def _readings(prediction: str) -> tuple[str, ...]:
    """The prediction, and where it has possessives also without them."""
    without = POSSESSIVE.sub("", prediction)
    return (prediction,) if without == prediction else (prediction, without)


def _without_articles(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Without leading articles, unless there is nothing else: "a" remains."""
    start = next((i for i, word in enumerate(wanted) if word not in ARTICLES), 0)
    return wanted[start:]


def _side_by_side(wanted: tuple[str, ...], given: tuple[str, ...]) -> bool:
    n = len(wanted)
    return bool(n) and any(given[i : i + n] == wanted for i in range(len(given) - n + 1))
