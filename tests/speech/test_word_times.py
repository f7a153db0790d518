"""Words that were misheard, split, joined, left out or added, against the times that the synthesizer knows."""

import itertools
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data import prompts
from src.speech.audio import SAMPLE_RATE, Utterance, Word
from src.speech.protocols import Aligner
from src.speech.published_settings import AlignmentSettings
from src.speech.settings import SynthesizerConfig
from src.speech.synthesizer import make_synthesizer
from src.speech.units_of_words import FrameAligner
from src.speech.word_times import SHORTEST, CannotAlign, align, align_all, letters

SENTENCES = (
    "the baker from brussels has seven yellow elephants",
    "what is the capital of a country in the south of africa",
    "we walked all the way to the other side of the river",
    "my sister told me that she would be at home before nine",
)


def words(*rows: tuple[str, float, float]) -> list[Word]:
    return [Word(*row) for row in rows]


def times(aligned: Sequence[Word]) -> list[tuple[str, float, float]]:
    return [(word.text, round(word.start, 6), round(word.end, 6)) for word in aligned]


HEARD = words((" The", 0.3, 0.5), (" red", 0.5, 0.8), (" lion,", 1.2, 1.7), (" sleeps.", 1.7, 2.2))


def test_words_as_they_were_heard() -> None:
    assert times(align("THE RED LION SLEEPS", HEARD, 2.5)) == [
        ("THE", 0.3, 0.5), ("RED", 0.5, 0.8), ("LION", 1.2, 1.7), ("SLEEPS", 1.7, 2.2)
    ]  # fmt: skip
    assert [word.text for word in align("The red lion... sleeps!", HEARD, 2.5)] == ["The", "red", "lion...", "sleeps!"]


def test_split_and_joined_words() -> None:
    split = words(("some", 0.0, 0.4), ("thing", 0.5, 0.9), ("cannot", 1.0, 1.6), ("be", 1.6, 1.8))
    assert times(align("something can not be", split, 2.0)) == [
        ("something", 0.0, 0.9), ("can", 1.0, 1.3), ("not", 1.3, 1.6), ("be", 1.6, 1.8)
    ]  # fmt: skip


def test_misheard_words_keep_their_times() -> None:
    heard = words(("the", 0.3, 0.5), ("bread", 0.5, 0.8), ("line", 1.2, 1.7), ("sleeps", 1.7, 2.2))
    assert times(align("the red lion sleeps", heard, 2.5)) == [
        ("the", 0.3, 0.5), ("red", 0.5, 0.8), ("lion", 1.2, 1.7), ("sleeps", 1.7, 2.2)
    ]  # fmt: skip


def test_numbers_that_are_written_as_digits() -> None:
    heard = words(("it", 0.0, 0.2), ("happened", 0.2, 0.7), ("in", 0.7, 0.8), ("1990", 0.8, 2.2), ("again", 2.3, 2.8))
    aligned = align("it happened in nineteen ninety again", heard, 3.0, min_similarity=0.6)
    assert times(aligned)[3:] == [("nineteen", 0.8, 1.6), ("ninety", 1.6, 2.2), ("again", 2.3, 2.8)]


def test_a_word_that_was_left_out_is_in_the_pause() -> None:
    aligned = align("the red sleepy lion sleeps", HEARD, 2.5)
    assert times(aligned)[1:4] == [("red", 0.5, 0.8), ("sleepy", 0.8, 1.2), ("lion", 1.2, 1.7)]
    first = align("so the red lion sleeps", HEARD, 2.5)
    assert times(first)[:2] == [("so", 0.0, 0.3), ("the", 0.3, 0.5)]
    last = align("the red lion sleeps now", HEARD, 2.5)
    assert times(last)[-2:] == [("sleeps", 1.7, 2.2), ("now", 2.2, 2.5)]


def test_a_word_that_was_left_out_without_a_pause_shares_its_neighbors_time() -> None:
    heard = words(("the", 0.0, 0.3), ("lion", 0.3, 0.9), ("sleeps", 0.9, 1.5))
    assert times(align("the lion also sleeps", heard, 1.5)) == [
        ("the", 0.0, 0.3), ("lion", 0.3, 0.642857), ("also", 0.642857, 0.985714), ("sleeps", 0.985714, 1.5)
    ]  # fmt: skip
    squeezed = words(("the", 0.0, 0.3), ("lion", 0.3, 0.3), ("sleeps", 0.3, 0.9))
    assert times(align("the lion sleeps", squeezed, 0.9))[1] == ("lion", 0.207692, 0.484615), "no time is no time"


def test_words_that_nobody_said() -> None:
    heard = [*HEARD[:2], Word("um", 0.9, 1.0), *HEARD[2:], Word("Thank you.", 2.6, 3.4)]
    assert times(align("the red lion sleeps", heard, 2.5)) == times(align("the red lion sleeps", HEARD, 2.5))


def test_times_that_go_back_or_leave_the_audio() -> None:
    heard = words(("the", 0.3, 0.6), ("red", 0.5, 0.9), ("lion", 0.8, 1.3), ("sleeps", 1.4, 9.9))
    assert times(align("the red lion sleeps", heard, 2.0)) == [
        ("the", 0.3, 0.6), ("red", 0.6, 0.9), ("lion", 0.9, 1.3), ("sleeps", 1.4, 2.0)
    ]  # fmt: skip


def test_marks_without_letters_go_with_a_word() -> None:
    aligned = align("- The red -- lion sleeps .", HEARD, 2.5)
    assert [word.text for word in aligned] == ["- The", "red --", "lion", "sleeps ."]
    assert letters(" L’été, №5!") == "léténo5"


@pytest.mark.parametrize(
    ("transcript", "heard", "seconds", "reason"),
    [
        ("... --", HEARD, 2.5, "the transcript has no words"),
        ("the red lion sleeps", [Word(" ...", 0.0, 1.0)], 2.5, "nothing was heard"),
        ("the red lion sleeps", words(("thank", 0, 1), ("you", 1, 2)), 2.5, "what was heard is unlike the transcript"),
        ("the red lion sleeps", HEARD * 4, 2.5, "what was heard is unlike the transcript"),
        ("a b c d e f", words(("a", 0, 0.03), ("b", 0.03, 0.05), *[(c, 0.05, 0.05) for c in "cdef"]), 0.06, "no room"),
    ],
)
def test_what_cannot_be_aligned(transcript: str, heard: list[Word], seconds: float, reason: str) -> None:
    with pytest.raises(CannotAlign, match=reason):
        align(transcript, heard, seconds)


def test_what_is_dropped_is_counted() -> None:
    transcripts = ["the red lion sleeps", "", "never said", "the red lion sleeps"]
    aligned, dropped = align_all(transcripts, [HEARD] * 3 + [[]], [2.5] * 4, AlignmentSettings())
    assert [None if own is None else len(own) for own in aligned] == [4, None, None, None]
    reasons = ("the transcript has no words", "what was heard is unlike the transcript", "nothing was heard")
    assert dropped == dict.fromkeys(reasons, 1)
    lenient, dropped = align_all(["the red house"], [HEARD], [2.5], AlignmentSettings(min_similarity=0.4))
    assert lenient[0] is not None and not dropped


@pytest.fixture(scope="module")
def spoken() -> list[Utterance]:
    synthesizer = make_synthesizer(SynthesizerConfig(), stream="alignment")
    return [synthesizer(sentence) for sentence in SENTENCES]


def disturbed(utterance: Utterance, rng: random.Random) -> tuple[list[Word], set[int]]:
    """What a poor recognizer hears, and which words it heard right. A third of the words is left out, joined to the
    next, split, or misspelt."""
    heard: list[Word] = []
    right: set[int] = set()
    i = 0
    while i < len(utterance.words):
        word = utterance.words[i]
        change = rng.choice(["none"] * 8 + ["omit", "join", "split", "misspell"])
        if change == "join" and i + 1 < len(utterance.words):
            following = utterance.words[i + 1]
            heard.append(Word(word.text + following.text, word.start, following.end))
            i += 1
        elif change == "split" and len(word.text) > 3:
            middle = (word.start + word.end) / 2
            heard += [Word(word.text[:2], word.start, middle), Word(word.text[2:], middle, word.end)]
        elif change == "misspell":
            heard.append(Word(word.text.replace("e", "i") + "s", word.start, word.end))
        elif change != "omit":
            heard.append(Word(word.text.title() + rng.choice(["", ",", "."]), word.start, word.end))
            right.add(i)
        i += 1
    return heard, right


def test_disturbed_recognitions_of_real_speech(spoken: list[Utterance]) -> None:
    """What was heard right beside what was heard right keeps its times; the others are where they were spoken."""
    rng = random.Random(0)
    errors: list[float] = []
    changed = 0
    for utterance in spoken * 25:
        heard, right = disturbed(utterance, rng)
        aligned = align(utterance.text, heard, len(utterance.audio) / SAMPLE_RATE, min_similarity=0.4)
        for i, (own, true) in enumerate(zip(aligned, utterance.words, strict=True)):
            assert own.text == true.text
            off = max(abs(own.start - true.start), abs(own.end - true.end))
            if {i - 1, i, i + 1} & set(range(len(utterance.words))) <= right:
                assert off < 1e-3, (utterance.text, heard)
            else:
                errors.append(off)
                changed += i not in right
    assert changed > 200
    assert np.mean(errors) < 0.03 and np.quantile(errors, 0.95) < 0.1, "seconds"


@settings(max_examples=150, deadline=None)
@given(
    known=st.lists(st.text("ab ", max_size=4), max_size=6),
    heard=st.lists(st.tuples(st.text("ab", max_size=4), st.floats(0, 2), st.floats(0, 2)), max_size=6),
    seconds=st.floats(0.05, 2),
)
def test_words_are_in_order_and_within_the_audio(
    known: list[str], heard: list[tuple[str, float, float]], seconds: float
) -> None:
    transcript = " ".join(known)
    try:
        aligned = align(transcript, words(*heard), seconds, min_similarity=0.01)
    except CannotAlign:
        return
    assert [word.text for word in aligned] == transcript.split()
    edges = [0.0, *itertools.chain.from_iterable((word.start, word.end) for word in aligned), seconds]
    assert all(later >= earlier - 1e-6 for earlier, later in itertools.pairwise(edges))
    assert all(word.end - word.start >= SHORTEST - 1e-6 for word in aligned)
    units = list(range(int(seconds * 50)))
    owned = itertools.chain.from_iterable(FrameAligner()(units, aligned, 50.0))
    assert list(owned) == units, "every frame belongs to one word"
    assert all(FrameAligner("drop")(units, aligned, 50.0))


UNITS = [9, 9, 1, 1, 1, 2, 9, 9, 9, 3, 3, 4, 9]
TWO = words(("red", 0.04, 0.12), ("lion", 0.18, 0.24))


def test_units_of_words() -> None:
    drop: Aligner = FrameAligner("drop")
    assert drop(UNITS, TWO, 50.0) == [[1, 1, 1, 2], [3, 3, 4]]
    assert FrameAligner("previous")(UNITS, TWO, 50.0) == [[9, 9, 1, 1, 1, 2, 9, 9, 9], [3, 3, 4, 9]]
    assert FrameAligner()(np.array(UNITS), TWO, 50.0) == FrameAligner("previous")(UNITS, TWO, 50.0)
    text = prompts.interleave([word.text for word in TWO], drop(UNITS, TWO, 50.0))
    assert text == "red<|1|><|1|><|1|><|2|> lion<|3|><|3|><|4|>"


def test_frames_are_not_lost_to_rounding() -> None:
    """0.58 s are 29 frames, though 0.58 * 50 is less in floats."""
    units = list(range(100))
    for frame in range(1, 99):
        start, end = round(frame * 0.02, 2), round((frame + 1) * 0.02, 2)
        assert FrameAligner("drop")(units, [Word("a", start, end)], 50.0) == [[frame]]


def test_words_at_the_end_of_the_units() -> None:
    """1.0 s of audio has 49 units: the last frame of all may be missing."""
    late = words(("a", 0.0, 0.96), ("b", 0.96, 0.98), ("c", 0.98, 1.0))
    for silence in ("drop", "previous"):
        assert FrameAligner(silence)(list(range(49)), late, 50.0) == [list(range(48)), [48], [48]]


def test_units_without_words_and_words_without_units() -> None:
    assert FrameAligner()(UNITS, [], 50.0) == []
    with pytest.raises(ValueError, match="no units to align"):
        FrameAligner()([], TWO, 50.0)
    with pytest.raises(ValueError, match=r"not in order of time: they start at \[0\.18, 0\.04\]"):
        FrameAligner()(UNITS, TWO[::-1], 50.0)


def test_settings_that_are_wrong() -> None:
    with pytest.raises(ValueError, match=r"^min_similarity is 0; it must be above 0 and at most 1"):
        AlignmentSettings(min_similarity=0)
    with pytest.raises(ValueError, match=r"^silence is 'next'; it must be one of previous, drop"):
        AlignmentSettings(silence="next")
