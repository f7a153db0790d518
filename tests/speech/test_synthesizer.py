import hashlib
import itertools
import re
from typing import Any

import numpy as np
import pytest

from src.grid.errors import ConfigError
from src.grid.typed import typed
from src.speech.audio import SAMPLE_RATE
from src.speech.settings import SynthesizerConfig
from src.speech.synthesizer import Espeak, make_synthesizer

TEXTS = [
    "what is the capital of france",
    "of the",
    "twenty one",
    "a apple",
    "who's there",
    "i have to be in the bus stop",
]


def digest(texts: list[str], stream: str, **settings: Any) -> str:
    speak = make_synthesizer(SynthesizerConfig(**settings), stream)
    return hashlib.sha256(b"".join(speak(text).audio.tobytes() for text in texts)).hexdigest()


def test_every_word_has_its_time() -> None:
    speak = make_synthesizer(SynthesizerConfig())
    for text in TEXTS:
        utterance = speak(text)
        assert [word.text for word in utterance.words] == text.split()
        times = [utterance.words[0].start] + [word.end for word in utterance.words]
        assert times[0] == 0 and all(a < b for a, b in itertools.pairwise(times))
        assert times[-1] == pytest.approx(len(utterance.audio) / SAMPLE_RATE, abs=0.001)


def test_word_times_are_those_of_the_phones() -> None:
    """espeak-ng's phone events come from another part of it than its word events."""
    espeak = Espeak()
    _, starts, phones = espeak.speak("zebra || dog || zebra", 165, 50)
    zebras = [start for phone, start in phones if phone == "z"]
    assert len(starts) == 3 and len(zebras) == 2
    assert [starts[0], starts[2]] == pytest.approx(zebras, abs=0.03)


def test_speech_is_loud_and_pauses_are_labelled() -> None:
    utterance = make_synthesizer(SynthesizerConfig())("paris")
    assert 0.05 < np.abs(utterance.audio).max() <= 1
    assert utterance.phones[-1].text == "_" and utterance.phones[0].text == "p"
    assert not any(re.search(r"[',]", phone.text) for phone in utterance.phones)


def test_a_new_synthesizer_speaks_the_same_whatever_was_spoken_before() -> None:
    first = digest(TEXTS, "fit")
    make_synthesizer(SynthesizerConfig())("something else in between")
    assert digest(TEXTS, "fit") == first


def test_streams_and_seeds_differ() -> None:
    assert len({digest(TEXTS[:2], "fit"), digest(TEXTS[:2], "asr"), digest(TEXTS[:2], "fit", seed=1)}) == 3


def test_rate_is_words_a_minute() -> None:
    slow = make_synthesizer(SynthesizerConfig(rate_min=100, rate_max=100))(TEXTS[0])
    fast = make_synthesizer(SynthesizerConfig(rate_min=200, rate_max=200))(TEXTS[0])
    assert 1.6 < len(slow.audio) / len(fast.audio) < 2.4


@pytest.mark.parametrize(
    ("text", "reason"), [("route 66", "'6'"), ("Paris", "'P'"), ("", "empty"), ("a  b", "stray space"), ("café", "'é'")]
)
def test_what_cannot_be_spoken_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make_synthesizer(SynthesizerConfig())(text)


def test_pronunciations_depend_on_the_neighbours() -> None:
    espeak = Espeak()
    assert espeak.pronounce("the cat")[0] != espeak.pronounce("the apple")[0]
    assert espeak.pronounce("two") == espeak.pronounce("to")
    assert espeak.pronounce("cat") == [("k", "æ", "t")]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate_min": 200, "rate_max": 150}, "synthesizer.rate_max is 150; it must be from rate_min=200"),
        ({"pitch_max": 101}, "pitch_max"),
        ({"name": "festival"}, "one of espeak"),
        ({"voice": "xx-nowhere"}, "no such voice"),
        ({"speed": 3}, "synthesizer.speed is no setting"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        make_synthesizer(typed(SynthesizerConfig, settings, "synthesizer"))


def test_defaults_are_valid() -> None:
    assert SynthesizerConfig().voice == "en-us"
