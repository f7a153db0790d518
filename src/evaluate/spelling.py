"""A text as the words that it consists of, however it is written: the first step of judging an answer.

Case, accents and punctuation go, signs become the words that are said for them. What is left open ("St.", "J. K.",
"July 4") has several readings: src/evaluate/readings.py.
"""

import unicodedata
from typing import NamedTuple

import regex

APOSTROPHES = "'`\u00b4\u02b9\u02bb\u02bc\u02bd\u02be\u02bf\u05f3\u2018\u2019\u201b\u2032\ua78b\ua78c\uff07"
"""Quotation marks, accents, primes and letters that people write for an apostrophe."""
MARKS = regex.compile(
    r"(?<!\u0438)\u0306|[\u0300-\u0305\u0307-\u036f]"  # Latin, Greek and Cyrillic accents; but й is a letter of its own
    r"|[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c7]"  # Hebrew points
    r"|[\u0610-\u061a\u0640\u064b-\u0655\u0670]"  # Arabic vowels, hamza on a letter, the stretched line
)
"""Marks of decomposed text that one may leave out. In other scripts marks make another letter, and stay."""
LETTERS = str.maketrans({
    **{"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ŧ": "t", "ı": "i"}, **{"æ": "ae", "œ": "oe", "þ": "th"},
    **{"\u06a9": "\u0643", "\u06cc": "\u064a"},
})  # fmt: skip
"""Accented letters that Unicode does not take apart, and the Persian form of two Arabic ones."""

DASH = regex.compile("[\u2010-\u2013\u2212\ufe63\uff0d]")
PART = regex.compile("(?=[¼½¾⅐-⅞])")
"""Before a fraction of one character."""
DIGIT = regex.compile(r"(?![0-9])\p{Nd}")
GROUPED = regex.compile(r"(?<![\d.,])\d{1,3}(?:[,'\u00a0\u066c\u2007\u2009\u202f]\d{3})+(?!,?\d)")
"""Thousands set apart by a comma, an apostrophe or a space that does not break."""
UNITS = {
    **dict.fromkeys(("km", "kilometers", "kilometre", "kilometres"), "kilometer"),
    **dict.fromkeys(("m", "meters", "metre", "metres"), "meter"),
    **dict.fromkeys(("cm", "centimeters", "centimetre", "centimetres"), "centimeter"),
    **dict.fromkeys(("mm", "millimeters", "millimetre", "millimetres"), "millimeter"),
    **{"mi": "mile", "miles": "mile", "ft": "foot", "feet": "foot", "kg": "kilogram", "kilograms": "kilogram"},
    **{"g": "gram", "grams": "gram", "lb": "pound", "lbs": "pound", "pounds": "pound", "oz": "ounce"},
    **{"ounces": "ounce", "hr": "hour", "hrs": "hour", "hours": "hour", "min": "minute", "mins": "minute"},
    **{"minutes": "minute", "sec": "second", "secs": "second", "seconds": "second", "degrees": "degree"},
    **{"dollars": "dollar", "euros": "euro", "cents": "cent", "rupees": "rupee"},
}
"""How a unit is written or said behind a number -> the reading that all have in common."""
CURRENCIES = {"$": "dollars", "€": "euros", "£": "pounds", "¥": "yen", "₹": "rupees", "¢": "cents"}
MONEY = "[" + "".join(CURRENCIES) + "]"
SCALE = r"(?:\s?(?:hundred|thousand|million|billion|trillion)\b)?"


def _said(found: regex.Match[str]) -> str:
    return f"{found['sign'] or ''}{found['amount']} {CURRENCIES[found['money']]} "


SIGNS = [
    (regex.compile(rf"(?<!\d\s?)(?P<sign>-?)(?P<money>{MONEY})\s?(?P<amount>\d+(?:\.\d+)?{SCALE})"), _said),
    (regex.compile(rf"(?P<sign>)(?P<amount>\d+(?:\.\d+)?{SCALE})\s?(?P<money>{MONEY})"), _said),
    (regex.compile(r"(?<![^\s(])-(?=\d)"), " minus "),
    (regex.compile(r"\+(?=\s?\d)"), " plus "),
    (regex.compile(r"(?<![\w.])\.(?=\d)"), "0."),
    (regex.compile(r"(?:#|\bno\.)\s?(?=\d)"), " number "),
    (regex.compile(r"(?<!\d)(\d\d?):00(?!\d)"), r"\1 "),
    (regex.compile(r"(?<!\d)(1\d|20):(?=[0-5]\d(?!\d))"), r"\1"),  # 19:45 is said as a year is
    (regex.compile(r"(?<!\d)(\d):0(?=[1-9](?!\d))"), r"\1 oh "),
    (regex.compile(rf"(?<![\w.])(\d+(?:\.\d+)?)(?=(?:{'|'.join(UNITS)})\b)"), r"\1 "),
    (regex.compile(r"(?<!\w)'?n'(?!\w)"), " and "),
    (regex.compile("&"), " and "),
    (regex.compile("%"), " percent "),
    (regex.compile("°"), " degrees "),
    (regex.compile("="), " equals "),
    (regex.compile("×"), " times "),
    (regex.compile("÷"), " divided by "),
]
"""What is written, in lower case -> what is said."""

UNSPACED = r"[\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
"""Letters of scripts that set no space between words: each counts as a word, for want of a dictionary."""
TOKEN = regex.compile(rf"(?<![\d.])\d+\.\d+(?!\.?\d)|{UNSPACED}\p{{M}}*|(?:(?!{UNSPACED})[\p{{L}}\p{{N}}\p{{M}}'])+")


class Word(NamedTuple):
    text: str
    """Without apostrophes."""
    gap: str
    """What stands between it and the word before it."""
    owner: str = ""
    """The word without its possessive ending: "einstein" of "Einstein's"."""


def words(text: str) -> list[Word]:
    """The normalized words of a text: "Forty-two, ÉCOLE & 1,000" -> forty, two, ecole, and, 1000."""
    text = text.translate(dict.fromkeys(map(ord, APOSTROPHES), "'"))
    text = GROUPED.sub(lambda number: "".join(filter(str.isdecimal, number[0])), text)
    text = DASH.sub("-", PART.sub(" ", text))
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    text = unicodedata.normalize("NFKC", MARKS.sub("", text)).translate(LETTERS).replace("\u2044", "/")
    text = DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    for written, said in SIGNS:
        text = written.sub(said, text)
    found, end = [], 0
    for token in TOKEN.finditer(text):
        spelled = token[0].strip("'")
        if bare := spelled.replace("'", ""):
            owner = spelled.removesuffix("'s").replace("'", "") if spelled.endswith("'s") else ""
            found.append(Word(bare, text[end : token.start()], owner))
            end = token.end()
    return found
