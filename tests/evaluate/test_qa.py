"""The matching rules: examples, adversarial cases, and an oracle written another way."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.evaluate.qa import RULES, contiguous, correct, fold_numbers, substrings, tokens


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("it is paris", "Paris", True),
        ("Paris.", "paris", True),
        ("parish", "Paris", False),
        ("the lord of the rings", "The Lord of the Rings", True),
        ("lord of the rings", "The Lord of the Rings", True),
        ("the lord rings of", "The Lord of the Rings", False),
        ("vitamin c", "vitamin A", False),
        ("São Paulo", "Sao Paulo", True),
        ("sao paulo", "S\u00e3o Paulo", True),
        ("the year 1984", "nineteen eighty-four", True),
        ("nineteen eighty four", "1984", True),
        ("about 1,500 people", "fifteen hundred", True),
        ("five million", "5 million", True),
        ("there are seven of them", "7", True),
        ("there are 17", "7", False),
        ("o'neill", "O\u2019Neill", True),
        ("new-york city", "New York", True),
        ("york new", "New York", False),
        ("", "paris", False),
        ("paris", "", False),
        ("", "", False),
        ("?!", "...", False),
        ("the the", "The The", True),
        ("strasse", "stra\u00dfe", True),
    ],
)
def test_contiguous(prediction, answer, expected):
    assert contiguous(prediction, answer) is expected


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("parish", "Paris", True),
        ("york is a new town", "New York", True),
        ("york is a town", "New York", False),
        ("there were twenty one", "21", True),
        ("", "paris", False),
        ("paris", "", False),
        ("paris", "?", False),
    ],
)
def test_substrings(prediction, answer, expected):
    assert substrings(prediction, answer) is expected


def test_any_alias_will_do():
    assert correct("it is nyc", ["New York", "NYC"])
    assert not correct("it is", ["New York", "NYC", ""])
    assert not correct("anything", [])
    assert correct("parish", ["paris"], "substrings")


@pytest.mark.parametrize(
    ("words", "folded"),
    [
        ("one two three", "1 2 3"),
        ("twenty one", "21"),
        ("one hundred and five", "105"),
        ("one hundred and paris", "100 and paris"),
        ("salt and five", "salt and 5"),
        ("two thousand and one", "2001"),
        ("two thousand twenty three", "2023"),
        ("twenty twenty", "2020"),
        ("nineteen oh", "19 oh"),
        ("nineteen hundred", "1900"),
        ("one million two hundred thousand", "1200000"),
        ("zero", "0"),
        ("twenty zero", "20 0"),
        ("hundred million", "hundred million"),
        ("3 million people", "3000000 people"),
        ("3 people", "3 people"),
        ("forty forty", "40 40"),
    ],
)
def test_number_words(words, folded):
    assert fold_numbers(words.split()) == folded.split()


SPOKEN_ONES = [
    *["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"],
    *["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"],
]
SPOKEN_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def spoken(n: int) -> str:
    """A number in words; the inverse of folding, written the other way round."""
    if n < 20:
        return SPOKEN_ONES[n]
    if n < 100:
        return SPOKEN_TENS[n // 10 - 2] + (f" {spoken(n % 10)}" if n % 10 else "")
    for size, name in ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if n >= size:
            return f"{spoken(n // size)} {name}" + (f" {spoken(n % size)}" if n % size else "")
    raise AssertionError


@given(st.integers(0, 10**12 - 1))
@settings(max_examples=300, deadline=None)
def test_every_number_is_folded_to_its_digits(n):
    assert fold_numbers(spoken(n).split()) == [str(n)]
    assert tokens(f"{n:,}") == [str(n)]


VOCABULARY = ["red", "Red", "re", "the", "a", "blue", "seven", "7", "twenty", "one", "é", "e", "ed", ".", "-", "o'"]
TEXTS = st.lists(st.sampled_from(VOCABULARY), max_size=6).map(" ".join)


@given(TEXTS, TEXTS)
@settings(max_examples=500, deadline=None)
def test_rules_against_an_oracle(prediction, answer):
    """The same rules as regular expressions over the joined tokens."""
    given_tokens, wanted = tokens(prediction), re.sub(r"^((a|an|the) )+(?=.)", "", " ".join(tokens(answer)) + " ")
    wanted = wanted.strip() or " ".join(tokens(answer))
    if all(word in ("a", "an", "the") for word in tokens(answer)):
        wanted = " ".join(tokens(answer))
    pattern = r"(?<!\S)" + re.escape(wanted) + r"(?!\S)"
    expected = bool(wanted) and re.search(pattern, " ".join(given_tokens)) is not None
    assert contiguous(prediction, answer) is expected
    everywhere = bool(wanted) and all(re.search(re.escape(w), " ".join(given_tokens)) for w in wanted.split())
    assert substrings(prediction, answer) is everywhere


@given(st.text(max_size=40), st.text(max_size=20))
@settings(max_examples=300, deadline=None)
def test_any_text_is_judged(prediction, answer):
    for rule in RULES:
        verdict = correct(prediction, [answer], rule)
        assert verdict is False or tokens(answer)
    if contiguous(prediction, answer):
        assert substrings(prediction, answer), "the stricter rule implies the other"
    if tokens(answer) and not any(word.isdecimal() for word in tokens(answer)):
        assert contiguous(f"so {answer} then", answer)
