"""Text to speech with exact word times: espeak-ng, through the library that `espeakng_loader` brings.

    synthesizer = make_synthesizer(SynthesizerConfig(seed=1), stream="fit")
    utterance = synthesizer("what is the capital of france")

The audio of a call depends on the calls before it (espeak-ng keeps state from one to the next), so a list of texts is
reproducible when it is spoken in the same order by a new synthesizer.
"""

import ctypes
import re
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np
import numpy.typing as npt

from src.speech.audio import Utterance, Word, resample
from src.speech.protocols import Synthesizer
from src.speech.settings import SynthesizerConfig

SPEAKABLE = re.compile(r"[a-z]+(?:'[a-z]+)*(?: [a-z]+(?:'[a-z]+)*)*")
WORD_BREAK = " || "
"""Keeps espeak-ng from contracting two words ("of the"), so that every word has an event; it is not audible."""
PAUSE = "_"
"""The phone of silence."""


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_EVENT_END, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _DONT_EXIT = 0x0001, 0x8000
_RATE, _PITCH = 1, 3
_UTF8 = 1
_IPA_SEPARATED = 0x02 | ord("_") << 8
"""espeak_TextToPhonemes: IPA, phones separated by an underscore."""


class Espeak:
    """espeak-ng itself, in one voice: samples and events of a text, and its phones.

    Every instance loads a private copy of the library, whose state (all of it global) is then that of a new process.
    """

    def __init__(self, voice: str = "en-us") -> None:
        """Raises ValueError for a voice that espeak-ng lacks."""
        with tempfile.TemporaryDirectory(prefix="espeak-") as folder:
            library = Path(espeakng_loader.get_library_path())
            self._library = ctypes.CDLL(shutil.copy(library, folder))
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        data = str(espeakng_loader.get_data_path()).encode()
        self.sample_rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _PHONEME_EVENTS | _DONT_EXIT)
        if self.sample_rate <= 0:
            raise RuntimeError(f"espeak-ng cannot start: its data should be in {data.decode()}")
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"synthesizer.voice is {voice!r}; espeak-ng has no such voice")
        self._samples: list[npt.NDArray[np.int16]] = []
        self._events: list[tuple[int, float, str]] = []
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while (event := events[i]).type != _EVENT_END:
            if event.type in (_EVENT_WORD, _EVENT_PHONEME):
                phone = event.id.string.decode() if event.type == _EVENT_PHONEME else ""
                self._events.append((event.type, event.audio_position / 1000, phone))
            i += 1
        return 0

    def speak(
        self, text: str, rate: int, pitch: int
    ) -> tuple[npt.NDArray[np.int16], list[float], list[tuple[str, float]]]:
        """Samples at `sample_rate`, the start of each word, and each phone with its start (seconds)."""
        self._samples, self._events = [], []
        self._library.espeak_SetParameter(_RATE, rate, 0)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        data = text.encode() + b"\0"
        if code := self._library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 1, 0, _UTF8, None, None):
            raise RuntimeError(f"espeak-ng cannot speak {text!r} (error {code})")
        self._library.espeak_Synchronize()
        words = [start for kind, start, _ in self._events if kind == _EVENT_WORD]
        phones = [(phone, start) for kind, start, phone in self._events if kind == _EVENT_PHONEME]
        return np.concatenate(self._samples or [np.zeros(0, np.int16)]), words, phones

    def pronounce(self, text: str) -> list[tuple[str, ...]]:
        """The phones (IPA, without stress) of each word of `text` as spoken in this order: `a` alone is another than in
        `a cat`. Raises ValueError as `check_speakable` does."""
        check_speakable(text)
        words = text.split()
        pointer = ctypes.c_char_p(WORD_BREAK.join(words).encode())
        spoken = self._library.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, _IPA_SEPARATED).decode()
        phones = [tuple(phone for phone in word.translate(_NO_STRESS).split("_") if phone) for word in spoken.split()]
        if len(phones) != len(words):
            raise RuntimeError(f"espeak-ng pronounces {len(phones)} words for the {len(words)} of {text!r}")
        return phones


_NO_STRESS = str.maketrans("", "", "ˈˌ")


def check_speakable(text: str) -> None:
    """Raise ValueError unless `text` is lower-case words (a to z, apostrophes inside) joined by single spaces."""
    if SPEAKABLE.fullmatch(text):
        return
    strange = sorted(set(re.sub(r"[a-z' ]", "", text)))
    found = f"it has {', '.join(map(repr, strange))}" if strange else "it is empty or has a stray space or apostrophe"
    raise ValueError(f"cannot speak {text!r}: {found}; write lower-case words of a to z joined by single spaces")


class EspeakSynthesizer:
    """Speaks in one voice; rate and pitch of each utterance are drawn from the configured ranges."""

    def __init__(self, config: SynthesizerConfig, stream: str = "") -> None:
        self._espeak = Espeak(config.voice)
        self._config = config
        self._random = np.random.default_rng([config.seed, zlib.crc32(stream.encode())])

    def __call__(self, text: str) -> Utterance:
        """Speak `text`. Raises ValueError as `check_speakable` does, RuntimeError if the word events do not match."""
        check_speakable(text)
        config = self._config
        rate = int(self._random.integers(config.rate_min, config.rate_max + 1))
        pitch = int(self._random.integers(config.pitch_min, config.pitch_max + 1))
        words = text.split()
        samples, starts, phones = self._espeak.speak(WORD_BREAK.join(words), rate, pitch)
        if len(starts) != len(words):
            raise RuntimeError(f"espeak-ng speaks {len(starts)} words for the {len(words)} of {text!r}")
        end = len(samples) / self._espeak.sample_rate
        audio = resample(samples.astype(np.float32) / np.float32(32768), self._espeak.sample_rate)
        return Utterance(
            text,
            audio,
            words=tuple(map(Word, words, starts, [*starts[1:], end])),
            phones=tuple(
                Word(_plain_phone(phone), start, stop)
                for (phone, start), stop in zip(phones, [start for _, start in phones[1:]] + [end], strict=True)
            ),
        )


def _plain_phone(phone: str) -> str:
    """An espeak-ng phoneme name without stress; all that is silent is one phone."""
    plain = phone.lstrip("',%=").rstrip(";")
    return plain if plain.strip("_:;?") else PAUSE


SYNTHESIZERS = {"espeak": EspeakSynthesizer}


def make_synthesizer(config: SynthesizerConfig, stream: str = "") -> Synthesizer:
    """A new synthesizer. `stream` names what it is to speak ("asr"): each stream draws its own rates and pitches."""
    return SYNTHESIZERS[config.name](config, stream)
