"""Recognized texts and word times of a tiny Whisper against transformers' own pipeline, one audio at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken
from transformers import (
    AutomaticSpeechRecognitionPipeline,
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.models.whisper.generation_whisper import WhisperGenerationMixin

from src.speech.protocols import Recognizer
from src.speech.published_settings import WhisperSettings
from src.speech.whisper import BatchedWhisper, WhisperRecognizer, load_whisper

WORDS = ("the", "a", "lion", "tiger", "paris", "rome", "is", "in", "of", "what", "one", "two", "dog", "cat", "red")
SPECIAL = ["endoftext", "startoftranscript", "en", "fi", "translate", "transcribe", "startoflm", "startofprev",
           "nospeech", "notimestamps"]  # fmt: skip
WINDOW = 2
"""Seconds that the tiny model hears at once, as the real one hears 30."""
SECONDS = (1.0, 0.5, 1.9, 0.3, 0.0, 1.4)


def tones(seconds: float, seed: int) -> np.ndarray:
    """Five tones a second, with a little noise."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16_000)) / 16_000
    pitches = random.choice([200, 400, 800, 1600, 3200], size=int(seconds * 5) + 1)
    sound = 0.3 * np.sin(2 * np.pi * pitches[(time * 5).astype(int)] * time) + 0.01 * random.normal(size=len(time))
    return sound.astype(np.float32)


AUDIOS = [tones(seconds, seed) for seed, seconds in enumerate(SECONDS)]
LONG = tones(3.1, 9)


def make_tokenizer(words: Sequence[str] = WORDS, window: int = WINDOW) -> WhisperTokenizer:
    """Bytes, the beginnings of the words with their spaces, special tokens, and times up to the end of the window."""
    vocabulary = {letter: i for i, letter in enumerate(sorted(bytes_to_unicode().values()))}
    merges: list[tuple[str, str]] = []
    for word in words:
        for end in range(len(word)):
            start = "Ġ" + word[:end]
            if start + word[end] not in vocabulary:
                merges.append((start, word[end]))
                vocabulary[start + word[end]] = len(vocabulary)
    special = [f"<|{name}|>" for name in SPECIAL]
    vocabulary |= {name: len(vocabulary) + i for i, name in enumerate(special)}
    tokenizer = WhisperTokenizer(
        vocab=vocabulary, merges=merges, pad_token=special[0], additional_special_tokens=special[1:]
    )
    times = [f"<|{0.02 * i:.2f}|>" for i in range(50 * window + 1)]
    tokenizer.add_tokens([AddedToken(time, special=False, normalized=False) for time in times])
    return tokenizer


def save_whisper(folder: Path, **generation: Any) -> Path:
    """A model that says something else, and as much or little of it, about every sound."""
    tokenizer = make_tokenizer()
    ids: dict[str, Any] = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in SPECIAL}
    end: dict[str, Any] = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids["endoftext"])
    torch.manual_seed(2)
    config = WhisperConfig(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=50 * WINDOW,
        max_target_positions=48, init_std=0.7, suppress_tokens=None, begin_suppress_tokens=None,
        decoder_start_token_id=ids["startoftranscript"], **end,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    settings: dict[str, Any] = {
        **end,
        "decoder_start_token_id": ids["startoftranscript"],
        "max_length": 48,
        "alignment_heads": [[0, 1], [1, 0], [1, 3]],
        "no_timestamps_token_id": ids["notimestamps"],
        "lang_to_id": {"<|en|>": ids["en"], "<|fi|>": ids["fi"]},
        "task_to_id": {"transcribe": ids["transcribe"], "translate": ids["translate"]},
        "is_multilingual": True,
        "suppress_tokens": list(range(256)),
        "begin_suppress_tokens": [ids["endoftext"]],
    }
    model.generation_config = GenerationConfig(**settings | generation)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(chunk_length=WINDOW).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whisper(tmp_path_factory.mktemp("whisper"))


def tiny(folder: Path, **settings: Any) -> WhisperRecognizer:
    return load_whisper(WhisperSettings(model=str(folder), **settings))


def pipeline(folder: Path) -> Any:
    """As transformers makes it, without our model class."""
    return AutomaticSpeechRecognitionPipeline(
        model=WhisperForConditionalGeneration.from_pretrained(folder).eval(),
        feature_extractor=WhisperFeatureExtractor.from_pretrained(folder),
        tokenizer=WhisperTokenizer.from_pretrained(folder),
    )


ENGLISH: dict[str, Any] = {"language": "en", "task": "transcribe", "num_beams": 1}
ONCE: dict[str, Any] = {"force_unique_generate_call": True}
"""A random model writes times unasked, at which transformers would start again."""


def chunks(output: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(chunk["text"].strip(), *chunk["timestamp"]) for chunk in output["chunks"]]


def triples(words: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [(word.text, word.start, word.end) for word in words]


@torch.inference_mode()
def test_texts_are_those_of_generate(folder: Path) -> None:
    """Without the pipeline: features, tokens, text."""
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    extractor, tokenizer = WhisperFeatureExtractor.from_pretrained(folder), WhisperTokenizer.from_pretrained(folder)
    for audio in (AUDIOS[0], AUDIOS[2]):
        features = extractor(audio, sampling_rate=16_000, return_tensors="pt").input_features
        expected = tokenizer.decode(model.generate(features, **ENGLISH, **ONCE)[0], skip_special_tokens=True)
        assert expected and tiny(folder)([audio]) == [expected.strip().lower()]


@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_batches_change_nothing(folder: Path, batch_size: int) -> None:
    alone = pipeline(folder)
    recognizer = tiny(folder, batch_size=batch_size)
    finished: list[Sequence[int]] = []
    texts = recognizer(AUDIOS, finished.append)
    words = recognizer.words(AUDIOS, finished.append)
    assert sorted(i for places in finished for i in places) == sorted([*range(6), *range(6)])
    assert len(set(texts)) == 6 and len({len(own) for own in words}) >= 4, "they differ, also in length"
    for i, audio in enumerate(AUDIOS):
        if not len(audio):
            assert texts[i] == "" and words[i] == ()
            continue
        assert texts[i] == alone(audio, generate_kwargs=ENGLISH | ONCE)["text"].strip().lower()
        assert triples(words[i]) == chunks(alone(audio, return_timestamps="word", generate_kwargs=ENGLISH))


def test_transformers_still_aligns_padding(folder: Path) -> None:
    """The reason for a model class of our own. When this fails, it is not needed any more."""
    kept = [audio for audio in AUDIOS if len(audio)]
    options: dict[str, Any] = {"return_timestamps": "word", "generate_kwargs": ENGLISH}
    batch = pipeline(folder)(kept, batch_size=len(kept), **options)
    alone = [pipeline(folder)(audio, **options) for audio in kept]
    assert [chunks(output) for output in batch] != [chunks(output) for output in alone]


def test_only_the_attention_that_aligns_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a published model the rest is gigabytes: the encoder's for each audio, the decoder's for each text, and the
    cache, which transformers copies to the CPU."""
    generated: list[Any] = []
    copied: list[Any] = []
    encoded: list[Any] = []

    def watch(kind: type, into: list[Any]) -> None:
        original = kind._postprocess_outputs  # type: ignore[attr-defined]

        def postprocess(self: Any, seek_outputs: Any, *arguments: Any, **options: Any) -> Any:
            into.append(seek_outputs)
            return original(self, seek_outputs, *arguments, **options)

        monkeypatch.setattr(kind, "_postprocess_outputs", postprocess)

    watch(BatchedWhisper, generated)
    watch(WhisperGenerationMixin, copied)
    recognizer, plain = tiny(folder), pipeline(folder)
    for model in (recognizer.model, plain.model):
        model.model.encoder.register_forward_hook(lambda *called: encoded.append(called[-1].attentions))
    words = recognizer.words(AUDIOS)
    assert encoded and set(encoded) == {None}
    frames = 50 * WINDOW
    for made in generated:
        assert made.encoder_attentions is None and not any(made.decoder_attentions)
        assert made.past_key_values is not None and len(made.cross_attentions) > 10
        for step in made.cross_attentions:
            assert [(layer.shape[1], layer.shape[3]) for layer in step] == [(1, frames), (2, frames)]
            assert all(layer.untyped_storage().nbytes() == 4 * layer.numel() for layer in step), "no view of all heads"
    # transformers adds the times to what it is given.
    assert {frozenset(kept) - {"token_timestamps"} for kept in copied} == {
        frozenset({"sequences", "scores", "cross_attentions"})
    }
    encoded.clear()
    heard = plain(AUDIOS[0], return_timestamps="word", generate_kwargs=ENGLISH)
    assert chunks(heard) == triples(words[0])
    assert [layer.shape[1:] for layer in encoded[0]] == [(4, frames, frames)] * 2, "transformers does keep them"


def test_longer_than_the_window(folder: Path) -> None:
    recognizer, alone = tiny(folder), pipeline(folder)
    assert len(LONG) > WINDOW * 16_000
    as_others_see_it: Recognizer = recognizer
    texts = as_others_see_it([AUDIOS[1], LONG, AUDIOS[0]])
    assert texts[1] == alone(LONG, return_timestamps=True, generate_kwargs=ENGLISH)["text"].strip().lower() != ""
    assert [texts[0], texts[2]] == recognizer([AUDIOS[1], AUDIOS[0]])
    words = recognizer.words([AUDIOS[1], LONG])
    assert triples(words[1]) == chunks(alone(LONG, return_timestamps="word", generate_kwargs=ENGLISH))
    assert words[1][-1].end > WINDOW


def test_languages(folder: Path) -> None:
    audios = [audio for audio in AUDIOS if len(audio)]
    options: dict[str | None, dict[str, Any]] = {"fi": {"language": "fi", "task": "transcribe"}, None: {}}
    for language, own in options.items():
        texts = tiny(folder, language=language)(audios)
        alone = [pipeline(folder)(audio, generate_kwargs={"num_beams": 1, **own, **ONCE})["text"] for audio in audios]
        assert texts == [text.strip().lower() for text in alone] != tiny(folder)(audios)


def test_int16_is_the_same_audio(folder: Path) -> None:
    as_int16 = np.round(AUDIOS[0] * 32767).astype(np.int16)
    assert tiny(folder)([as_int16]) == tiny(folder)([as_int16.astype(np.float32) / 32767])


def test_word_times_need_alignment_heads(tmp_path: Path) -> None:
    recognizer = tiny(save_whisper(tmp_path, alignment_heads=None))
    assert recognizer([AUDIOS[0]])[0]
    with pytest.raises(ValueError, match=r"whisper\.model = .*: lacks alignment_heads in generation_config\.json"):
        recognizer.words([AUDIOS[0]])


def test_settings_that_are_wrong() -> None:
    bad: tuple[dict[str, Any], ...] = ({"model": ""}, {"dtype": "int8"}, {"batch_size": 0})
    for setting in bad:
        with pytest.raises(ValueError, match=rf"^{next(iter(setting))} is "):
            WhisperSettings(**setting)
