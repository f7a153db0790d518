"""What is taken out of a response to a spoken question: transcript, text answer, units."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data.prompts import SqaParts, parse_sqa, sqa_response, unit_text, units_of

WELL_FORMED = [
    ("heard\n\nanswer\n\nanswer<|2|><|3|>", "heard", "answer", (2, 3)),
    ("Heard it?\n\n The answer. \n\nThe<|2|> answer.<|3|>", "Heard it?", "The answer.", (2, 3)),
    ("heard\n\n\n \nanswer\n\t\n\nanswer<|2|>\n\n", "heard", "answer", (2,)),
    ("heard\r\n\r\nanswer\r\n\r\nanswer<|2|>\r\n", "heard", "answer", (2,)),
    ("heard\r\ranswer\r\ranswer<|2|>", "heard", "answer", (2,)),
    ("heard\n\none\nanswer\n\none<|1|> answer<|2|>", "heard", "one answer", (1, 2)),
    # a text answer of several paragraphs
    ("heard\n\none\n\ntwo\n\none<|1|> two<|2|>", "heard", "one two", (1, 2)),
]
BROKEN = [
    ("", "", "", ()),
    (" \r\n\t\n ", "", "", ()),
    # one part
    ("only a text", "only a text", "only a text", ()),
    ("one line\nanother", "one line another", "one line another", ()),
    ("heard <|4|>", "heard", "heard", (4,)),
    ("<|4|><|5|>", "", "", (4, 5)),
    # blank lines are missing
    ("heard\nanswer\nanswer<|2|>", "heard", "answer", (2,)),
    ("heard\r\nanswer\r\nanswer<|2|>", "heard", "answer", (2,)),
    ("heard\n\nanswer\nanswer<|2|>", "heard", "answer", (2,)),
    ("heard\nanswer\n\nanswer<|2|>", "heard", "answer", (2,)),
    ("heard\none\ntwo\none<|1|> two<|2|>", "heard", "one two", (1, 2)),
    ("heard answer answer<|2|>", "heard answer answer", "heard answer answer", (2,)),
    # units are missing
    ("heard\n\nanswer", "heard", "answer", ()),
    ("heard\n\nanswer\n\nanswer", "heard", "answer answer", ()),
    ("heard\n\nanswer\n\nanswer<||><|x|>", "heard", "answer answer<||><|x|>", ()),
    # units stand elsewhere
    ("heard\n\nanswer<|7|>", "heard", "answer", (7,)),
    ("heard\n\none<|1|>\ntwo<|2|>", "heard", "one two", (1, 2)),
    ("heard\n\nan<|7|>swer\n\nanswer<|2|>", "heard", "an swer", (2,)),
    ("heard <|1|>\n\nanswer\n\nanswer<|2|>", "heard", "answer", (2,)),
    ("heard<|1|>\n\nanswer\n\nanswer", "heard", "answer answer", (1,)),
    # parts are repeated, or there are more
    ("heard\n\nanswer\n\nanswer<|2|>\n\nbye", "heard", "answer", (2,)),
    ("heard\n\nanswer\n\nanswer<|2|>\n\nanswer<|2|>", "heard", "answer", (2, 2)),
    ("heard\n\nanswer\n\nanswer<|2|>\n\nheard\n\nother\n\nother<|3|>", "heard", "answer", (2, 3)),
    # a part is empty
    ("heard\n\n<|1|>\n\n<|2|>", "heard", "", (2,)),
    ("<|1|>\n\nanswer\n\nanswer<|2|>", "", "answer", (2,)),
    ("\n\nanswer\n\nanswer<|2|>", "answer", "answer", (2,)),
]


@pytest.mark.parametrize(("response", "transcript", "text", "units"), WELL_FORMED)
def test_well_formed(response, transcript, text, units):
    assert parse_sqa(response) == SqaParts(transcript, text, units, well_formed=True)


@pytest.mark.parametrize(("response", "transcript", "text", "units"), BROKEN)
def test_what_can_be_read_of_a_broken_format(response, transcript, text, units):
    assert parse_sqa(response) == SqaParts(transcript, text, units, well_formed=False)


WORD = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=6).filter(lambda w: "<|" not in w)
SENTENCE = st.lists(WORD, min_size=1, max_size=5).map(" ".join)
UNITS = st.lists(st.integers(0, 9999), max_size=5)
BREAKS = st.sampled_from(["\n\n", "\r\n\r\n", "\n \n", "\n\n\n"])


@given(SENTENCE, st.lists(SENTENCE, min_size=1, max_size=3), st.lists(st.tuples(WORD, UNITS), min_size=1), BREAKS)
@settings(max_examples=400, deadline=None)
def test_parse_is_the_inverse(question, paragraphs, spoken, line_break):
    """Of what training teaches, however many paragraphs the text answer has."""
    units = tuple(unit for _, own in spoken for unit in own)
    response = sqa_response(
        question, "\n\n".join(paragraphs), [word for word, _ in spoken], [own for _, own in spoken]
    ).replace("\n\n", line_break)
    parts = parse_sqa(response)
    if units:
        assert parts == SqaParts(question, " ".join(paragraphs), units, well_formed=True)
    else:
        words = " ".join(word for word, _ in spoken)
        assert parts == SqaParts(question, " ".join([*paragraphs, words]), (), well_formed=False)


def by_definition(response: str) -> SqaParts:
    """For exactly three parts."""
    transcript, text, spoken = re.split(r"\n\s*\n", response.strip())
    return SqaParts(" ".join(transcript.split()), " ".join(text.split()), units_of(spoken), well_formed=True)


@given(SENTENCE, SENTENCE, st.lists(st.tuples(WORD, UNITS.filter(bool)), min_size=1))
@settings(max_examples=300, deadline=None)
def test_three_parts_read_as_the_format_says(question, answer, spoken):
    response = sqa_response(question, answer, [word for word, _ in spoken], [own for _, own in spoken])
    assert parse_sqa(response) == by_definition(response)


BLANKS = st.sampled_from(["\n", "\n\n", "\r\n", "\r", " ", "\u2028", "\x0b"])
PIECES = BLANKS | st.sampled_from(["word", "<|3|>", "<|14|>", "<|", "|>", "<|\u0663|>", "<|-1|>"])


@given(st.lists(PIECES | st.text(max_size=8), max_size=12).map("".join))
@settings(max_examples=600, deadline=None)
def test_nothing_raises_and_no_unit_is_lost_or_made_up(response):
    parts = parse_sqa(response)
    everywhere = units_of(response)
    assert bool(parts.units) is bool(everywhere)
    assert parts.units == everywhere[len(everywhere) - len(parts.units) :], "what is spoken comes last"
    for text in (parts.transcript, parts.text):
        assert not re.search(r"<\|[0-9]+\|>", text) and text == " ".join(text.split())
        # no word that the response does not have, in its order
        remaining = iter(re.sub(r"<\|[0-9]+\|>", " ", response).split())
        assert all(word in remaining for word in text.split())
    if parts.well_formed:
        assert parts.transcript and parts.text and parts.units == everywhere


def test_absurd_units_are_none():
    """Python refuses to read numbers of more than 4,300 digits."""
    response = f"heard\n\nanswer\n\nanswer<|{'9' * 5000}|>{unit_text([4])}"
    assert parse_sqa(response) == SqaParts("heard", "answer", (4,), well_formed=True)
