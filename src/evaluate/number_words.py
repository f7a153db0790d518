"""English number words as digits, so that a spoken "nineteen eighty four" is the written "1984".

Read are cardinals ("one hundred and five", "a hundred", "5 million"), ordinals ("twenty first": "21st"), decades
("nineteen fifties": "1950s"), decimals ("three point one four": "3.14"), years said in two halves ("ten sixty six",
"nineteen oh five") and signs ("minus forty": "-40"). Neighbors that make no number together stay apart: "one two
three" is "1 2 3". What is ambiguous is read as the number: in "a twenty second delay" there is a "22nd", and "ten
thirty" is "1030".
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
ORDINALS = (
    *("zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    *("eleventh", "twelfth", *(f"{one}th" for one in ONES[13:])),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
SMALL: dict[str, tuple[int, str]] = {
    **{word: (value, "") for value, word in enumerate(ONES)},
    **{word: (value, {1: "st", 2: "nd", 3: "rd"}.get(value, "th")) for value, word in enumerate(ORDINALS)},
    **{word: (10 * value, "") for value, word in enumerate(TENS, 2)},
    **{word[:-1] + "ieth": (10 * value, "th") for value, word in enumerate(TENS, 2)},
    **{word[:-1] + "ies": (10 * value, "s") for value, word in enumerate(TENS, 2)},
}
"""Word -> its value, below 100, and what is written behind the digits."""
SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
DIGITS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
"""What a number is folded to, and what a text has in digits."""
OH = ("oh", "o")
MINUS = ("minus", "negative")


class Number(NamedTuple):
    value: Decimal
    suffix: str
    """Ending of an ordinal or a decade, as "th" or "s"."""
    end: int
    """Index of the first word behind it."""


class Folded(NamedTuple):
    text: str
    """A word, or a number in digits."""
    start: int
    end: int
    """The words that it stands for: from index `start` up to, and without, `end`."""


def fold_numbers(words: Sequence[str]) -> list[Folded]:
    """The lower-case words, with digits in place of each run of number words.

    A minus is part of the number that follows it, unless a number comes before: "five minus three" is "5 minus 3".
    """
    folded: list[Folded] = []
    start = 0
    while start < len(words):
        minus = words[start] in MINUS and not (folded and NUMBER.fullmatch(folded[-1].text))
        number = _signless(words, start + 1) if minus and start + 1 < len(words) else None
        if number and not number.suffix:
            text, end = f"-{number.value:f}", number.end
        else:
            number = _decimal(words, start) or _year(words, start) or _number(words, start)
            text, end = (f"{number.value:f}{number.suffix}", number.end) if number else (words[start], start + 1)
        folded.append(Folded(text, start, end))
        start = end
    return folded


def _signless(words: Sequence[str], start: int) -> Number | None:
    """A number in words or in digits."""
    number = _decimal(words, start) or _year(words, start) or _number(words, start)
    return number or (Number(Decimal(words[start]), "", start + 1) if NUMBER.fullmatch(words[start]) else None)


def _number(words: Sequence[str], start: int) -> Number | None:
    """The longest cardinal, ordinal or decade from `start` on; digits are read where a scale follows ("5 million")."""
    total, group, limit = Decimal(0), Decimal(0), max(SCALES.values()) + 1
    room = 1000  # what comes next in the group must be smaller: "twenty one", but not "one two"
    suffix, at = "", start
    mark = (total, group, start)  # behind the last hundred or larger scale
    if _at(words, start + 1).removesuffix("th") in SCALES and DIGITS.fullmatch(words[start]):
        group, room, at = Decimal(words[start]), 0, start + 1
    while not suffix:
        word = _at(words, at)
        joined = word == "and" and at > start and room in (100, 1000)  # one hundred and five, two thousand and one
        if joined:
            word = _at(words, at + 1)
        scale = 0 if joined else SCALES.get(word.removesuffix("th"), 0)
        value, suffix = SMALL.get(word, (room, "th" if scale and word.endswith("th") else ""))
        if value < room and (value or at == start):
            group, room = group + value, 10 if value >= 20 else 0
        elif scale == 100 and (at == start or 0 < group < 100):
            group, room = (group or Decimal(1)) * scale, 100
        elif 100 < scale < limit and (at == start or group):
            total, group, room, limit = total + (group or Decimal(1)) * scale, Decimal(0), 1000, scale
        else:
            if scale and mark[2] > start:  # one hundred and two hundred: the "two" is of the next number
                total, group, at = mark
            suffix = ""
            break
        at += 1 + joined
        if scale:
            mark = (total, group, at)
    return Number(_plain(total + group), suffix, at) if at > start else None


def _decimal(words: Sequence[str], start: int) -> Number | None:
    """Three point one four, 3 point 14, two point five million."""
    number = _number(words, start)
    if not number and words[start].isdecimal() and DIGITS.fullmatch(words[start]):
        number = Number(Decimal(words[start]), "", start + 1)
    if not number or number.suffix or _at(words, number.end) != "point":
        return None
    at, digits = number.end + 1, ""
    while (word := _at(words, at)) in OH or word in ONES[:10]:
        digits, at = digits + str(ONES.index(word) if word in ONES else 0), at + 1
    if not digits and (rest := _number(words, at)) and not rest.suffix and rest.value in range(100):
        digits, at = f"{rest.value:f}", rest.end
    elif not digits and word.isdecimal() and DIGITS.fullmatch(word):
        digits, at = word, at + 1
    if not digits or number.value % 1:
        return None
    value = Decimal(f"{number.value:f}.{digits}")
    if scale := SCALES.get(_at(words, at)):
        return Number(_plain(value * scale), "", at + 1)
    return Number(value, "", at)


def _year(words: Sequence[str], start: int) -> Number | None:
    """Nineteen eighty four, nineteen oh five, nineteen fifties."""
    century = _number(words, start)
    if not century or century.suffix or not 10 <= century.value <= 20:
        return None
    oh = _at(words, century.end) in OH
    rest = _number(words, century.end + oh)
    if not rest or rest.suffix not in ("", "s") or not (1 <= rest.value <= 9 if oh else 10 <= rest.value <= 99):
        return None
    if 10 <= rest.value <= 20 and (after := _number(words, rest.end)) and 10 <= after.value <= 99:
        return None  # eleven nineteen eighty four: the year begins at the second word
    return Number(100 * century.value + rest.value, rest.suffix, rest.end)


def _at(words: Sequence[str], index: int) -> str:
    """The word there, or "" behind the last."""
    return words[index] if index < len(words) else ""


def _plain(value: Decimal) -> Decimal:
    """Without zeros behind the decimal point."""
    whole = value.to_integral_value()
    return whole if value == whole else value.normalize()
