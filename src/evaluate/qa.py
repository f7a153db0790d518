"""Whether a prediction holds the answer to a question.

Two rules. `contiguous` (default): the tokens of an answer stand side by side in the prediction, after normalization.
`substrings`: each token of an answer occurs somewhere in the prediction, be it inside a longer word; several open
implementations score so, and it is the more generous one. Any alias of the answer will do. An answer without a token
never matches.

Normalization: lower case, accents off, punctuation to spaces, number words to digits; articles that lead an answer are
dropped (not those inside it: "vitamin a" must not become "vitamin").
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

ONES = {
    **{"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9},
    **{"ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16},
    **{"seventeen": 17, "eighteen": 18, "nineteen": 19},
}
TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
ARTICLES = {"a", "an", "the"}


def tokens(text: str) -> list[str]:
    """The normalized tokens of a text, number words folded: "Forty-two, ÉCOLE" -> ["42", "ecole"]."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", plain)  # 1,000
    plain = re.sub(r"['\u2018\u2019\u00b4`]", "", plain)
    return fold_numbers(re.sub(r"[\W_]+", " ", plain).split())


def fold_numbers(words: Sequence[str]) -> list[str]:
    """Runs of number words as digits: "one hundred and five" -> "105", "nineteen eighty four" -> "1984"."""
    folded: list[str] = []
    i = 0
    while i < len(words):
        number, used = _number(words[i:])
        if not used:
            folded.append(words[i])
            i += 1
            continue
        following, more = _number(words[i + used :])
        if more and 11 <= number <= 20 and 10 <= following <= 99:  # a year
            number, used = 100 * number + following, used + more
        folded.append(str(number))
        i += used
    return folded


def _number(words: Sequence[str]) -> tuple[int, int]:
    """(value, number of words) of the cardinal number that `words` start with; (0, 0) if there is none."""
    total, group, used = 0, 0, 0
    room, scale = 1000, max(SCALES.values()) + 1  # what comes next must be smaller: "twenty one", but not "one two"
    if len(words) > 1 and words[1] in SCALES and words[0].isdecimal() and len(words[0]) < 10:  # 5 million
        group, room, used = int(words[0]), 0, 1
    while used < len(words):
        start = used + 1 if words[used] == "and" and used and room in (100, 1000) else used
        word = words[start] if start < len(words) else ""
        if word in ONES and ONES[word] < room and (ONES[word] or not used):
            group, room = group + ONES[word], 0
        elif word in TENS and room >= 100:
            group, room = group + TENS[word], 10
        elif word == "hundred" and 0 < group < 100 and room < 100:
            group, room = 100 * group, 100
        elif word in SCALES and group and SCALES[word] < scale:
            total, group, room, scale = total + group * SCALES[word], 0, 1000, SCALES[word]
        else:
            break
        used = start + 1
    return total + group, used


def _answer_tokens(answer: str) -> list[str]:
    words = tokens(answer)
    start = next((i for i, word in enumerate(words) if word not in ARTICLES), 0)
    return words[start:]


def contiguous(prediction: str, answer: str) -> bool:
    """Whether the answer's tokens stand side by side in the prediction."""
    wanted, given = _answer_tokens(answer), tokens(prediction)
    n = len(wanted)
    return bool(n) and any(given[i : i + n] == wanted for i in range(len(given) - n + 1))


def substrings(prediction: str, answer: str) -> bool:
    """Whether each of the answer's tokens occurs in the prediction, anywhere."""
    wanted, given = _answer_tokens(answer), " ".join(tokens(prediction))
    return bool(wanted) and all(word in given for word in wanted)


RULES: dict[str, Callable[[str, str], bool]] = {"contiguous": contiguous, "substrings": substrings}


def correct(prediction: str, answers: Iterable[str], rule: str = "contiguous") -> bool:
    """Whether the prediction holds any of the aliases under the rule, a key of RULES."""
    return any(RULES[rule](prediction, answer) for answer in answers)
