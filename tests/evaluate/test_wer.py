import json
import math
import subprocess
import sys
from pathlib import Path

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.evaluate.statistics import accuracy, clustered_accuracy, share
from src.evaluate.wer import COUNTS, NORMALIZATIONS, normalize, per_utterance, score, total, whisper_normalizer


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


TEXTS = st.lists(st.sampled_from(["one", "Two", "it's", "colour", "?", "twenty", "hmm", "é"]), max_size=6).map(" ".join)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6), st.sampled_from(NORMALIZATIONS))
@settings(max_examples=300, deadline=None)
def test_counts_are_those_of_jiwer_utterance_by_utterance(pairs, normalization):
    clean = {"basic": normalize, "whisper": whisper_normalizer()}[normalization]
    pairs = [(f"red {reference}", heard) for reference, heard in pairs]
    references, heard_all = [reference for reference, _ in pairs], [heard for _, heard in pairs]
    counts = per_utterance(references, heard_all, normalization)
    for (reference, heard), count in zip(pairs, counts, strict=True):
        alone = jiwer.process_words(clean(reference), clean(heard))
        assert count == {
            "words": len(clean(reference).split()),
            "substitutions": alone.substitutions,
            "deletions": alone.deletions,
            "insertions": alone.insertions,
        }
    whole = jiwer.process_words([*map(clean, references)], [*map(clean, heard_all)])
    found = score(references, heard_all, normalization)
    assert found["value"] == pytest.approx(whole.wer)
    assert found == total(counts) == total(json.loads(json.dumps(counts))), "recomputed exactly from what is stored"
    assert all(found[name] == sum(count[name] for count in counts) for name in COUNTS)


def test_case_and_punctuation_do_not_count():
    assert normalize("It's 5 O\u2019Clock -- now!") == "its 5 oclock now"
    assert score(["What is that?", "É"], ["what is that", "é"])["value"] == 0


def test_nothing_heard_is_all_deletions():
    found = score(["one two", "three"], ["", ""])
    assert (found["value"], found["deletions"]) == (1.0, 3)
    assert score(["one"], ["two three four"])["value"] == 3.0


@pytest.mark.parametrize(("normalization", "empty"), [("basic", "?"), ("basic", ""), ("whisper", "uh (laughs)")])
def test_a_reference_without_words_counts_none(normalization, empty):
    """What is heard there is inserted, as jiwer 4 counts it."""
    found = score(["red dog", empty, empty], ["red dog", "green cat", ""], normalization)
    whole = jiwer.process_words(["red dog", "", ""], ["red dog", "green cat", ""])
    assert found["value"] == whole.wer == 1.0
    assert [found[name] for name in ("n", *COUNTS)] == [3, 2, 0, 0, 2]
    with pytest.raises(ValueError, match="nothing to score"):
        score([empty], ["one"], normalization)


def test_every_apostrophe_is_one():
    assert {normalize(f"O{mark}Neill") for mark in "'\u2019\u02bc\u2032\u00b4`"} == {"oneill"}


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="2 references and 1 hypotheses"):
        score(["one", "two"], ["one"])
    with pytest.raises(ValueError, match="no normalization 'none'; there are basic, whisper"):
        score(["one"], ["one"], "none")
    with pytest.raises(ValueError, match="nothing to score"):
        score([], [])


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        # examples of whisper's own tests/test_normalizer.py
        ("two", "2"),
        ("five twenty four", "524"),
        ("nineteen ninety nine", "1999"),
        ("two point five million", "2500000"),
        ("four point two billions", "4200000000s"),
        ("200 thousand dollars", "$200000"),
        ("$20 million", "$20000000"),
        ("two double o eight", "2008"),
        ("forty three thousand two hundred and sixty", "43260"),
        ("nineteen fifties", "1950s"),
        ("thirty first", "31st"),
        ("july third twenty twenty", "july 3rd 2020"),
        ("3 point 14", "3.14"),
        ("seventy six per cent", "76%"),
        ("double oh seven", "007"),
        ("minus 500", "-500"),
        ("two dollars and seventy cents", "$2.70"),
        ("3 cents", "¢3"),
        ("three and a half million", "3500000"),
        ("b747", "b 747"),
        ("10 th", "10th"),
        ("Let's", "let us"),
        ("he's like", "he is like"),
        ("she's been like", "she has been like"),
        ("10km", "10 km"),
        ("RC232", "rc 232"),
        ("Mr. Park visited Assoc. Prof. Kim Jr.", "mister park visited associate professor kim junior"),
    ],
)
def test_whisper_normalization_is_the_published_one(text, normalized):
    assert whisper_normalizer()(text) == normalized
    words = len(normalized.split())
    assert per_utterance([text], [""], "whisper")[0] == dict(zip(COUNTS, (words, 0, words, 0), strict=True))


def test_spellings_count_unless_there_is_a_table(tmp_path):
    table = tmp_path / "normalizer.json"
    table.write_text(json.dumps({"mobilisation": "mobilization", "colour": "color"}))
    pair = ["The colour of mobilisation"], ["the color of mobilization"]
    assert score(*pair, "whisper")["substitutions"] == score(*pair)["substitutions"] == 2
    assert score(*pair, "whisper", table)["value"] == 0
    table.with_name("list.json").write_text("[]")
    with pytest.raises(ValueError, match=r"list\.json must be one JSON object"):
        score(*pair, "whisper", table.with_name("list.json"))
    with pytest.raises(ValueError, match=r"spellings .*none\.json cannot be read"):
        score(*pair, "whisper", tmp_path / "none.json")


def test_normalizations_differ_where_they_should():
    pair = ["Mr. Gray won't pay twenty dollars, um, today"], ["mister gray will not pay $20 today"]
    assert score(*pair, "whisper")["value"] == 0
    assert score(*pair, "basic")["value"] > 0.5


def test_import_is_light():
    command = "import sys, src.evaluate.wer; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", command], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


ODD = ["and a half", "point", "double", "3.5", "$", "%", "1,000", "oh", "per", "th", "'s", "(", "]", "million"]


@given(st.text(max_size=30), st.lists(st.sampled_from(ODD)))
@settings(max_examples=200, deadline=None)
def test_any_text_is_scored(text, words):
    for normalization in NORMALIZATIONS:
        found = score(["red"], [f"{text} {' '.join(words)}"], normalization)
        assert found["words"] == 1


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
