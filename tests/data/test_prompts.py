"""The prompt formats, character by character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data import prompts


def test_formats() -> None:
    assert prompts.asr([3, 17], "transcribe this audio:") == "transcribe this audio: <|3|><|17|>"
    assert prompts.tts("paris rome", "read this text aloud:") == "read this text aloud: paris rome"
    assert prompts.sqa([5]) == "<|5|>"
    assert prompts.interleave(["paris", "rome"], [[3, 9], [4]]) == "paris<|3|><|9|> rome<|4|>"
    assert prompts.sqa_response("which city", "paris", ["paris"], [[3, 9]]) == "which city\n\nparis\n\nparis<|3|><|9|>"


def test_ten_instructions_each() -> None:
    assert len(set(prompts.ASR_INSTRUCTIONS)) == len(set(prompts.TTS_INSTRUCTIONS)) == 10


def test_interleave_needs_units_for_every_word() -> None:
    with pytest.raises(ValueError):
        prompts.interleave(["paris", "rome"], [[1]])


@pytest.mark.parametrize(
    ("units", "flat"), [([[1, 2], [2, 3]], [1, 2, 3]), ([[1], [], [1, 1]], [1, 1]), ([], []), ([[4], [5]], [4, 5])]
)
def test_flatten_joins_a_run_across_words(units: list[list[int]], flat: list[int]) -> None:
    assert prompts.flatten(units, repeats=False) == flat
    assert prompts.flatten(units, repeats=True) == [unit for own in units for unit in own]


words = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=4)


@given(words, words, st.data())
def test_parse_is_the_inverse(question: list[str], answer: list[str], data: st.DataObject) -> None:
    units = [data.draw(st.lists(st.integers(0, 99), min_size=1, max_size=5)) for _ in answer]
    response = prompts.sqa_response(" ".join(question), " ".join(answer), answer, units)
    parts = prompts.parse_sqa(response)
    assert parts.transcript == " ".join(question)
    assert parts.text == " ".join(answer)
    assert parts.units == tuple(u for own in units for u in own)
    assert parts.well_formed


@pytest.mark.parametrize(
    ("response", "transcript", "text", "units"),
    [
        ("", "", "", ()),
        ("only a text", "only a text", "only a text", ()),
        ("heard\n\nanswer", "heard", "answer", ()),
        ("heard <|4|>", "heard", "heard", (4,)),
        ("heard\n\nanswer<|7|>", "heard", "answer", (7,)),
        ("heard <|1|>\n\nanswer\n\nanswer <|2|>", "heard", "answer", (2,)),
        ("a\n\nb\n\n\n\nc <|2|>", "a", "b", (2,)),
    ],
)
def test_broken_formats_keep_what_can_be_read(
    response: str, transcript: str, text: str, units: tuple[int, ...]
) -> None:
    parts = prompts.parse_sqa(response)
    assert (parts.transcript, parts.text, parts.units) == (transcript, text, units)
    assert parts.well_formed == (response == "a\n\nb\n\n\n\nc <|2|>")
