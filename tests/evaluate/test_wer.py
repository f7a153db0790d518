import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.evaluate.statistics import accuracy, clustered_accuracy, share
from src.evaluate.wer import normalize, score


def edits(a: list[str], b: list[str]) -> int:
    """Levenshtein distance, the textbook way."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(previous + (x != y), row[j] + 1, row[j - 1] + 1)
    return row[-1]


WORDS = st.lists(st.sampled_from("abcd"), max_size=6)


@given(st.lists(st.tuples(WORDS.filter(bool), WORDS), min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_against_levenshtein(pairs):
    found = score([" ".join(reference) for reference, _ in pairs], [" ".join(heard) for _, heard in pairs])
    errors = [edits(reference, heard) for reference, heard in pairs]
    words = [len(reference) for reference, _ in pairs]
    assert found["value"] == pytest.approx(sum(errors) / sum(words))
    assert found["substitutions"] + found["deletions"] + found["insertions"] == sum(errors)
    assert (found["words"], found["n"]) == (sum(words), len(pairs))
    if len(pairs) > 1:
        ratio = sum(errors) / sum(words)
        expected = math.sqrt(sum((e - ratio * w) ** 2 for e, w in zip(errors, words, strict=True))) / sum(words)
        assert found["standard_error"] == pytest.approx(expected)


def test_case_and_punctuation_do_not_count():
    assert normalize("It's 5 O\u2019Clock -- now!") == "its 5 oclock now"
    assert score(["What is that?", "É"], ["what is that", "é"])["value"] == 0


def test_nothing_heard_is_all_deletions():
    found = score(["one two", "three"], ["", ""])
    assert (found["value"], found["deletions"]) == (1.0, 3)
    assert score(["one"], ["two three four"])["value"] == 3.0


def test_a_reference_without_words_is_refused():
    with pytest.raises(ValueError, match="reference 1 of 2 has no word"):
        score(["one", "?"], ["one", "x"])


def test_accuracy_has_the_binomial_error():
    assert accuracy([True, False, True, True]) == {
        "value": 0.75,
        "n": 4,
        "standard_error": pytest.approx(math.sqrt(0.75 * 0.25 / 4)),
    }
    assert accuracy([True])["standard_error"] is None
    assert accuracy([True, True])["standard_error"] == 0.0
    with pytest.raises(ValueError, match="nothing to score"):
        accuracy([])


def test_clusters_of_one_are_binomial_and_copies_add_nothing():
    verdicts = [True, False, True, True, False]
    alone = clustered_accuracy([[verdict] for verdict in verdicts])
    assert alone["standard_error"] == pytest.approx(accuracy(verdicts)["standard_error"])
    # the same verdict three times in a prompt says no more than once
    copied = clustered_accuracy([[verdict] * 3 for verdict in verdicts])
    assert copied["standard_error"] == pytest.approx(alone["standard_error"])
    assert (copied["n"], copied["clusters"], copied["value"]) == (15, 5, 0.6)
    assert share([1.0, 2.0], [2.0, 2.0])[0] == 0.75
