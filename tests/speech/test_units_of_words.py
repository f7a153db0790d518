import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.speech.audio import Word
from src.speech.units_of_words import WordAligner, without_repeats


def test_words_own_the_frames_from_their_start() -> None:
    words = [Word("red", 0.05, 0.1), Word("cat", 0.1, 0.2)]
    # 50 frames a second: "cat" starts in frame 5; the silence before "red" is its own.
    assert WordAligner()([9, 9, 3, 3, 4, 4, 4, 5, 9, 9], words, 50) == [[9, 3, 4], [4, 5, 9]]


def test_a_short_word_takes_the_frame_it_starts_in() -> None:
    words = [Word("one", 0.0, 0.041), Word("a", 0.041, 0.045), Word("cat", 0.045, 0.1)]
    assert WordAligner()([1, 2, 3, 4, 5], words, 50) == [[1, 2], [3], [3, 4, 5]]


def test_a_word_that_starts_after_the_last_frame_takes_the_last() -> None:
    assert WordAligner()(np.array([1, 2]), [Word("one", 0.0, 0.04), Word("a", 0.04, 0.05)], 50) == [[1], [2]]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_every_word_has_units_and_nothing_is_lost(units: list[int], starts: list[float]) -> None:
    words = [Word("w", start, start) for start in sorted(starts)]
    aligned = WordAligner()(units, words, 25)
    assert len(aligned) == len(words) and all(aligned)
    assert all(own == without_repeats(own) for own in aligned)
    assert without_repeats(units)[0] == aligned[0][0] and units[-1] == aligned[-1][-1]
    if len({int(start * 25) for start in sorted(starts)[1:]} - {0}) == len(starts) - 1 and len(units) > 25:
        joined = [unit for own in aligned for unit in own]
        assert without_repeats(joined) == without_repeats(units)


def test_runs() -> None:
    assert without_repeats(np.array([7, 7, 3, 7])) == [7, 3, 7]
    assert without_repeats([]) == []


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="no units"):
        WordAligner()([], [Word("a", 0, 1)], 50)
    with pytest.raises(ValueError, match="order of time"):
        WordAligner()([1], [Word("a", 1, 2), Word("b", 0, 1)], 50)
