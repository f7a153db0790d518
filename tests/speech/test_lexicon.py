import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.speech.lexicon import BOUNDARY, Lexicon, LexiconDecoder, make_lexicon

LEXICON = Lexicon({"ab": ["xy"], "a": ["x"], "bee": ["y"], "be": ["y"], "aa": ["xx"]})


def test_homophones_are_written_as_the_first() -> None:
    assert LEXICON.homophones == [["be", "bee"]]
    assert LEXICON.canonical("bee ab other") == "be ab other"


def test_homophones_of_homophones() -> None:
    lexicon = Lexicon({"for": ["f", "fr"], "four": ["fr", "fur"], "fore": ["fur"]})
    assert lexicon.homophones == [["for", "four"], ["fore", "four"]]
    assert lexicon.canonical("for four fore") == "for for for"


def best_by_enumeration(log_probabilities: np.ndarray, penalty: float) -> float:
    """The best score of any path of classes, each read as words in every possible way."""
    blank = len(LEXICON.symbols)
    spellings = {tuple(p): word for word, spoken in LEXICON.pronunciations.items() for p in spoken}

    def words_in(phones: tuple[str, ...]) -> float:
        """Fewest words that `phones` (between two gaps, or none) can be read as; infinite if they cannot be."""
        if not phones:
            return 0
        return min(
            (1 + words_in(phones[n:]) for n in range(1, len(phones) + 1) if phones[:n] in spellings), default=np.inf
        )

    best = -np.inf
    for path in itertools.product(range(blank + 1), repeat=len(log_probabilities)):
        collapsed = [c for c, _ in itertools.groupby(path)]
        phones: list[list[str]] = [[]]
        for c in collapsed:
            if c == blank:
                continue
            if LEXICON.symbols[c] == BOUNDARY:
                phones.append([])
            else:
                phones[-1].append(LEXICON.symbols[c])
        count = sum(words_in(tuple(part)) for part in phones)
        best = max(best, log_probabilities[np.arange(len(path)), path].sum() - penalty * count)
    return best


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), penalty=st.sampled_from([0.0, 1.0, 4.0]), frames=st.integers(1, 5))
def test_words_are_the_likeliest_of_all_readings(seed: int, penalty: float, frames: int) -> None:
    scores = np.random.default_rng(seed).normal(scale=3, size=(frames, len(LEXICON.symbols) + 1))
    log_probabilities = (scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)).astype(np.float32)
    _, score = LexiconDecoder(LEXICON, penalty).search(log_probabilities)
    assert score == pytest.approx(best_by_enumeration(log_probabilities, penalty), abs=1e-3)


def sharp(symbols: list[str | None]) -> np.ndarray:
    """Log probabilities that are sure of one symbol a frame; None is the blank."""
    classes = [len(LEXICON.symbols) if s is None else LEXICON.symbols.index(s) for s in symbols]
    out = np.full((len(classes), len(LEXICON.symbols) + 1), -9, np.float32)
    out[np.arange(len(classes)), classes] = -0.01
    return out


@pytest.mark.parametrize(
    ("symbols", "text"),
    [
        ([], ""),
        ([None, None], ""),
        (["x", "y"], "ab"),
        (["x", " ", "y"], "a be"),
        (["x", None, "x"], "aa"),
        (["x", " ", "x"], "a a"),
        (["x", "x", "x"], "a"),
        ([None, "x", "y", None, " ", "x", None], "ab a"),
    ],
)
def test_sure_symbols(symbols: list[str | None], text: str) -> None:
    log_probabilities = sharp(symbols) if symbols else np.zeros((0, len(LEXICON.symbols) + 1), np.float32)
    assert LexiconDecoder(LEXICON, 2.0)(log_probabilities) == text


def test_lexicon_of_texts_has_the_pronunciations_in_them() -> None:
    lexicon, symbols = make_lexicon(["the", "apple", "cat"], ["the apple", "the cat"], "en-us")
    assert len(lexicon.pronunciations["the"]) == 2
    assert symbols[1] == ["ð", "ə", BOUNDARY, "k", "æ", "t"]
    assert set(symbols[0]) <= set(lexicon.symbols)


def test_unknown_word() -> None:
    with pytest.raises(ValueError, match=r"spoken.json lacks 'dog' of 'the dog'"):
        make_lexicon(["the"], ["the dog"], "en-us")
