"""The other readings of a place in a text, one function for each kind: initials, dates, fractions and so on."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import regex

from src.evaluate.number_words import NUMBER, OH, ORDINALS
from src.evaluate.spelling import UNITS, UNSPACED

ARTICLES = {"a", "an", "the"}
ABBREVIATIONS: dict[str, tuple[str, ...]] = {
    **{"st": ("saint", "street"), "dr": ("doctor", "drive"), "mt": ("mount", "mountain"), "ft": ("fort",)},
    **{"mr": ("mister",), "mrs": ("missus", "misses"), "ms": ("miss", "miz"), "prof": ("professor",)},
    **{"jr": ("junior",), "sr": ("senior",), "gen": ("general",), "gov": ("governor",), "sen": ("senator",)},
    **{"capt": ("captain",), "col": ("colonel",), "lt": ("lieutenant",), "sgt": ("sergeant",), "rev": ("reverend",)},
    **{"pres": ("president",), "ave": ("avenue",), "blvd": ("boulevard",), "rd": ("road",), "co": ("company",)},
    **{"corp": ("corporation",), "inc": ("incorporated",), "ltd": ("limited",), "bros": ("brothers",)},
    **{"vs": ("versus",), "v": ("versus",), "dept": ("department",), "univ": ("university",)},
}  # fmt: skip
MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
          "december")  # fmt: skip
MONTH = {**{name: name for name in MONTHS}, **{name[:3]: name for name in MONTHS}, "sept": "september"}
CELSIUS = {"c": "celsius", "celsius": "celsius", "centigrade": "celsius", "f": "fahrenheit", "fahrenheit": "fahrenheit"}
PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4, "3rd": 3, "thirds": 3} | {
    name: n for n in range(4, 11) for name in (f"{n}th", f"{ORDINALS[n]}s")
}
"""What a part of one is called, number words being digits -> how many there are in one."""
ROMAN = re.compile(r"(?=[ivxl])(?!l$)(xl|l?x{0,3})(ix|iv|v?i{0,3})")
ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)")
MIXED = re.compile(r"(?=.*[a-z])(?=.*\d)(?!\d+(?:st|nd|rd|th|s)$)[a-z\d]+")
JOINED = (
    regex.compile(rf"(?!{UNSPACED})\p{{L}}"),
    regex.compile(r"[\p{Katakana}ー]{2,}"),
)
"""Single letters, and words of foreign names in Japanese."""
BETWEEN = regex.compile(r"[.\s・-]*")
"""What may stand between them."""
LONGEST_INITIALS = 8


class Piece(NamedTuple):
    """A word, or a number in digits."""

    text: str
    gap: str
    """What stands between it and the piece before it."""
    owner: str

    @property
    def whole(self) -> bool:
        """Whether it is a whole number without a sign."""
        return self.text.isascii() and self.text.isdecimal()


Pieces = Sequence[Piece]
Found = Iterator[tuple[int, tuple[str, ...]]]
"""Other readings of what begins at a piece: the index behind what is read, and the words of the reading. They are taken
as a whole or not at all: in "World War I" there is a "war 1", but no "1"."""


def _text(pieces: Pieces, i: int) -> str:
    """The text of a piece, "" behind the last."""
    return pieces[i].text if i < len(pieces) else ""


def _owner(pieces: Pieces, i: int) -> Found:
    """Einstein's -> einstein."""
    if pieces[i].owner:
        yield i + 1, (pieces[i].owner,)


def _initials(pieces: Pieces, i: int) -> Found:
    """J. K. -> jk, D.C. -> dc; ジョン・レノン -> ジョンレノン."""
    for kind in JOINED:
        joined = ""
        for at in range(i, min(i + LONGEST_INITIALS, len(pieces))):
            if not kind.fullmatch(pieces[at].text) or (at > i and not BETWEEN.fullmatch(pieces[at].gap)):
                break
            joined += pieces[at].text
            if at > i:
                yield at + 1, (joined,)


def _digits(pieces: Pieces, i: int) -> Found:
    """Numbers that are said one after another are one: nine one one -> 911, double oh seven -> 007, 1 000 -> 1000."""
    if i and pieces[i - 1].whole and not pieces[i].gap.strip():
        return  # in the middle of them
    joined, at = "", i
    while at < len(pieces) and (at == i or not pieces[at].gap.strip()):
        times = {"double": 2, "triple": 3}.get(pieces[at].text, 1)
        digit = _text(pieces, at + (times > 1))
        if digit in OH and (joined or times > 1):
            digit = "0"
        if not (digit.isascii() and digit.isdecimal()) or (times > 1 and len(digit) > 1):
            break
        joined, at = joined + digit * times, at + 1 + (times > 1)
    if at > i + 1:
        yield at, (joined,)


def _compound(pieces: Pieces, i: int) -> Found:
    """Ice cream -> icecream, e-mail -> email."""
    first, second = pieces[i].text, _text(pieces, i + 1)
    if not (first.isalpha() and second.isalpha()):
        return
    apart = pieces[i + 1].gap.isspace() and min(len(first), len(second)) > 2 and first != "the"
    if apart or pieces[i + 1].gap == "-":
        yield i + 2, (first + second,)


def _ordinal(pieces: Pieces, i: int) -> Found:
    """The second -> second, as in "Elizabeth the second"."""
    if pieces[i].text == "the" and ORDINAL.fullmatch(_text(pieces, i + 1)):
        yield i + 2, (pieces[i + 1].text,)


def _roman(pieces: Pieces, i: int) -> Found:
    """Henry VIII -> henry 8, henry 8th."""
    numeral = ROMAN.fullmatch(_text(pieces, i + 1))
    if not numeral or not pieces[i].text.isalpha():
        return
    tens, ones = numeral.groups()
    value = {"xl": 40}.get(tens, 50 * tens.count("l") + 10 * tens.count("x"))
    value += {"ix": 9, "iv": 4}.get(ones, 5 * ones.count("v") + ones.count("i"))
    yield i + 2, (pieces[i].text, str(value))
    yield i + 2, (pieces[i].text, _ordinal_of(value))


def _ordinal_of(value: int) -> str:
    ending = "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value}{ending}"


def _date(pieces: Pieces, i: int) -> Found:
    """July 4th, July the fourth, 4 July, fourth of July -> july 4."""
    if name := MONTH.get(pieces[i].text):
        at = i + 1 + (_text(pieces, i + 1) == "the")
        if day := _day(_text(pieces, at)):
            yield at + 1, (name, day)
    elif day := _day(pieces[i].text):
        at = i + 1 + (_text(pieces, i + 1) == "of")
        if name := MONTH.get(_text(pieces, at)):
            yield at + 1, (name, day)


def _day(text: str) -> str:
    """The number of a day of a month, "" if it is none."""
    number = text if text.isdecimal() else ORDINAL.sub(r"\1", text)
    return number.lstrip("0") if number.isascii() and number.isdecimal() and 1 <= int(number) <= 31 else ""


def _short(pieces: Pieces, i: int) -> Found:
    """St. -> saint, street; Feb. -> february where a day follows; per cent -> percent."""
    for full in ABBREVIATIONS.get(pieces[i].text, ()):
        yield i + 1, (full,)
    if (pieces[i].text, _text(pieces, i + 1)) == ("per", "cent"):
        yield i + 2, ("percent",)


def _measure(pieces: Pieces, i: int) -> Found:
    """5 km -> 5 kilometer; 7 o'clock, +7 -> 7; point five -> 0.5; 3 dollars and fifty cents -> 3.50 dollar."""
    number, unit = pieces[i].text, _text(pieces, i + 1)
    if number == "plus" and NUMBER.fullmatch(unit):
        yield i + 2, (unit,)
    if number == "point" and pieces[i + 1 :] and pieces[i + 1].whole:
        yield i + 2, (f"0.{unit}",)
    if not NUMBER.fullmatch(number):
        return
    if unit == "oclock":
        yield i + 2, (number,)
    if unit not in UNITS and unit not in UNITS.values():
        return
    unit = UNITS.get(unit, unit)
    yield i + 2, (number, unit)
    if unit == "degree" and (scale := CELSIUS.get(_text(pieces, i + 2))):
        yield i + 3, (number, unit, scale)
    at = i + 2 + (_text(pieces, i + 2) == "and")
    small, coin = _text(pieces, at), _text(pieces, at + 1)
    if unit in ("dollar", "euro", "pound") and coin in ("cent", "cents", "pence") and re.fullmatch(r"\d\d?", small):
        yield at + 2, (f"{number}.{small:0>2}", unit)


def _fraction(pieces: Pieces, i: int) -> Found:
    """A half, one half, 1/2 -> 1/2; two and a half, 2 1/2 -> 2.5."""
    for end, part in _part(pieces, i):
        yield end, (part,)
    if pieces[i].whole:
        at = i + 1 + (_text(pieces, i + 1) == "and")
        for end, part in _part(pieces, at):
            over, under = map(int, part.split("/"))
            yield end, (pieces[i].text, part)
            if under in (2, 4) and over < under:
                yield end, (f"{int(pieces[i].text) + over / under:g}",)


def _part(pieces: Pieces, i: int) -> Iterator[tuple[int, str]]:
    """The index behind a fraction and the fraction: (i + 2, "3/4") for three quarters."""
    first, second = _text(pieces, i), _text(pieces, i + 1)
    if first in ("half", "halves"):
        yield i + 1, "1/2"
    elif second in PARTS and (first in ARTICLES or (first.isascii() and first.isdecimal())):
        yield i + 2, f"{1 if first in ARTICLES else first}/{PARTS[second]}"
    elif second and pieces[i].whole and pieces[i + 1].whole and pieces[i + 1].gap.strip() == "/" and int(second):
        yield i + 2, f"{first}/{second}"


def _mixed(pieces: Pieces, i: int) -> Found:
    """H2O -> h 2 o, U2 -> u 2, B52 -> b 52."""
    if MIXED.fullmatch(pieces[i].text):
        yield i + 1, tuple(re.findall(r"[a-z]+|\d+", pieces[i].text))


ALTERNATIVES: Sequence[Callable[[Pieces, int], Found]] = (
    _owner, _initials, _digits, _compound, _ordinal, _roman, _date, _short, _measure, _fraction, _mixed,
)  # fmt: skip
