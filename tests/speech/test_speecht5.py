"""The voice against transformers' own calls, batches, long texts, and x-vectors in a zip."""

import io
import random
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from transformers import (
    SpeechT5Config,
    SpeechT5ForTextToSpeech,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    SpeechT5Tokenizer,
)

from src.speech.protocols import Synthesizer
from src.speech.published_settings import SpeechT5Settings
from src.speech.speecht5 import SpeechT5Synthesizer, load_synthesizer, read_xvector, split_text

TEXTS = [
    "Paris is the capital of France.",
    "No!",
    "The lion, the tiger and the elephant live in 7 zoos.",
    "",
    "What do you know?",
    "So it is.",
]
SPEAKERS = [f"spkrec-xvect/cmu_us_{name}_arctic-wav-arctic_a{i:04}.npy" for name in ("awb", "slt") for i in (1, 2, 3)]
XVECTORS = {name: np.random.default_rng(i).normal(size=16).astype(np.float32) for i, name in enumerate(SPEAKERS)}


def write_zip(path: Path, vectors: dict[str, np.ndarray]) -> Path:
    """In no order, with folders and a readme, as archives may be."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("spkrec-xvect/", b"")
        for name in random.Random(0).sample(sorted(vectors), len(vectors)):
            buffer = io.BytesIO()
            np.save(buffer, vectors[name])
            archive.writestr(name, buffer.getvalue())
        archive.writestr("README.md", b"x-vectors")
    return path


SMALL: dict[str, Any] = {
    "vocab_size": 81, "hidden_size": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "speech_decoder_prenet_units": 16, "speech_decoder_postnet_units": 16, "speaker_embedding_dim": 16,
}  # fmt: skip


def write_letters(folder: Path) -> Path:
    """SpeechT5's sentencepiece model of single letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    (folder / "letters.txt").write_text(f"{' '.join(letters)} {letters.upper()} , . ; : ! ? ' -\n" * 3)
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "letters.txt"), model_prefix=str(folder / "spm_char"), model_type="char", vocab_size=81,
        hard_vocab_limit=False, character_coverage=1.0, bos_id=0, pad_id=1, eos_id=2, unk_id=3, minloglevel=2,
    )  # fmt: skip
    return folder / "spm_char.model"


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: tts, hifigan, xvectors.zip. The model stops after a while that depends on the text, or not at all."""
    folder = tmp_path_factory.mktemp("speecht5")
    letters = write_letters(folder)
    torch.manual_seed(3)
    model = SpeechT5ForTextToSpeech(SpeechT5Config(**SMALL, max_text_positions=60, max_speech_positions=150))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
        torch.manual_seed(0)
        model.speech_decoder_postnet.prob_out.weight.normal_()
        model.speech_decoder_postnet.prob_out.bias.fill_(-4.0)
    model.save_pretrained(folder / "tts")
    SpeechT5Tokenizer(str(letters)).save_pretrained(folder / "tts")
    vocoder = SpeechT5HifiGan(SpeechT5HifiGanConfig(upsample_initial_channel=32))
    with torch.no_grad():
        for parameter in vocoder.parameters():
            parameter.mul_(10)
    vocoder.save_pretrained(folder / "hifigan")
    write_zip(folder / "xvectors.zip", XVECTORS)
    return folder


def tiny(voice: Path, **settings: Any) -> SpeechT5Synthesizer:
    paths = {"model": str(voice / "tts"), "vocoder": str(voice / "hifigan"), "xvectors": str(voice / "xvectors.zip")}
    return load_synthesizer(SpeechT5Settings(**{**paths, "speaker": 4, **settings}))


@torch.inference_mode()
def by_transformers(voice: Path, text: str, speaker: int = 4, seed: int = 0) -> np.ndarray:
    model = SpeechT5ForTextToSpeech.from_pretrained(voice / "tts").eval()
    vocoder = SpeechT5HifiGan.from_pretrained(voice / "hifigan").eval()
    ids = SpeechT5Tokenizer.from_pretrained(voice / "tts")(text, normalize=True, return_tensors="pt").input_ids
    torch.manual_seed(seed)
    return model.generate_speech(ids, torch.tensor(XVECTORS[SPEAKERS[speaker]])[None], vocoder=vocoder).numpy()


def test_audio_is_that_of_transformers(voice: Path) -> None:
    texts = [TEXTS[0], TEXTS[4], TEXTS[2]]
    for text, audio in zip(texts, tiny(voice, batch_size=1).speak(texts), strict=True):
        assert np.array_equal(audio, by_transformers(voice, text)) and audio.dtype == np.float32
    other: Synthesizer = tiny(voice, speaker=1)
    utterance = other(TEXTS[0])
    assert np.array_equal(utterance.audio, by_transformers(voice, TEXTS[0], speaker=1)), "also as a Synthesizer"
    assert utterance.text == TEXTS[0] and utterance.words == ()
    assert np.abs(utterance.audio[:2560] - by_transformers(voice, TEXTS[0])[:2560]).max() > 5e-3, "another voice"
    assert np.array_equal(tiny(voice, seed=1)(TEXTS[0]).audio, by_transformers(voice, TEXTS[0], seed=1))
    assert not np.array_equal(tiny(voice, seed=1)(TEXTS[0]).audio, tiny(voice)(TEXTS[0]).audio)


def test_batches_change_nothing(voice: Path) -> None:
    alone = [tiny(voice)(text).audio for text in TEXTS]
    steps = [len(audio) // 512 for audio in alone]
    assert steps[3] == 0 and len(set(steps)) >= 4, "some stop earlier than others"
    assert steps[1] == 5 * 20 // 2, "one does not stop: it ends where it would alone, though its neighbors are longer"
    for size in (2, 6):
        finished: list[Sequence[int]] = []
        together = tiny(voice, batch_size=size).speak(TEXTS, finished.append)
        assert sorted(i for places in finished for i in places) == [0, 1, 2, 3, 4, 5]
        for audio, expected in zip(together, alone, strict=True):
            assert audio.shape == expected.shape
            np.testing.assert_allclose(audio, expected, atol=1e-5)


def test_the_random_state_stays(voice: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    tiny(voice).speak(TEXTS[:1])
    assert torch.equal(torch.rand(1), expected)


def test_long_texts_are_spoken_in_pieces(voice: Path) -> None:
    synthesizer = tiny(voice)
    text = f"{TEXTS[0]}  {TEXTS[2]}\n{TEXTS[1]} {TEXTS[5]}"
    pieces = [TEXTS[0], TEXTS[2], f"{TEXTS[1]} {TEXTS[5]}"]
    finished: list[Sequence[int]] = []
    audios = tiny(voice, batch_size=1).speak(["So.", text], finished.append)
    assert np.array_equal(audios[1], np.concatenate([synthesizer(piece).audio for piece in pieces]))
    assert finished == [[1], [0]], "a text is finished once, with its last piece"


def test_a_text_is_cut_where_it_may_be() -> None:
    def cut(text: str, most: int) -> list[str]:
        return split_text(text, lambda piece: len(piece) <= most)

    assert cut("One two. Three four! Five?", 50) == ["One two. Three four! Five?"]
    assert cut("One two. Three four! Five?", 20) == ["One two. Three four!", "Five?"]
    assert cut('He said "No." Then he left.', 20) == ['He said "No."', "Then he left."]
    assert cut("One, two; three: four. Five.", 12) == ["One, two;", "three: four.", "Five."]
    assert cut("one two three four five", 9) == ["one two", "three", "four five"]
    assert cut("3.14 is less than 3.15. Yes.", 24) == ["3.14 is less than 3.15.", "Yes."]
    assert cut("", 5) == cut(" \n ", 5) == []
    long = " ".join(f"Sentence {i} has some words, and more." for i in range(60))
    assert " ".join(cut(long, 600)) == long and all(500 < len(piece) <= 600 for piece in cut(long, 600)[:-1])
    with pytest.raises(ValueError, match="cannot speak a single word of 30 letters: 'aaaa"):
        cut(f"one {'a' * 30}", 20)


def test_a_text_of_all_positions(voice: Path) -> None:
    """The end of the sequence and the first space count as well: 58 letters are 60 tokens."""
    synthesizer = tiny(voice)
    text = "a" * 28 + " " + "b" * 29
    assert len(synthesizer.tokens(text)) == 60
    assert np.array_equal(synthesizer(text).audio, by_transformers_within_positions(voice, text))
    assert len(synthesizer.tokens(text + "b")) == 61 and len(synthesizer(text + "b").audio) > 0


@torch.inference_mode()
def by_transformers_within_positions(voice: Path, text: str) -> np.ndarray:
    """transformers crashes at the end of its positions, unless it is told to stop there."""
    model = SpeechT5ForTextToSpeech.from_pretrained(voice / "tts").eval()
    vocoder = SpeechT5HifiGan.from_pretrained(voice / "hifigan").eval()
    ids = SpeechT5Tokenizer.from_pretrained(voice / "tts")(text, return_tensors="pt").input_ids
    speaker = torch.tensor(XVECTORS[SPEAKERS[4]])[None]
    torch.manual_seed(0)
    return model.generate_speech(ids, speaker, vocoder=vocoder, maxlenratio=150 * 2 / ids.shape[1]).numpy()


def test_xvectors_are_counted_by_name(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "spkrec-xvect.zip", XVECTORS)
    for i, name in enumerate(sorted(XVECTORS)):
        assert np.array_equal(read_xvector(path, i), XVECTORS[name])
    with pytest.raises(ValueError, match=r"synthesizer\.speaker is 6; it must be below 6, the x-vectors in .*\.zip"):
        read_xvector(path, 6)
    with pytest.raises(ValueError, match=r"synthesizer\.xvectors is .*missing\.zip; it must be a zip of \.npy files"):
        read_xvector(tmp_path / "missing.zip", 0)
    (tmp_path / "page.zip").write_text("<html>")
    with pytest.raises(ValueError, match=r"page\.zip; it must be a zip of \.npy files"):
        read_xvector(tmp_path / "page.zip", 0)


def test_settings_that_are_wrong(voice: Path, tmp_path: Path) -> None:
    short = write_zip(tmp_path / "short.zip", {name: vector[:12] for name, vector in XVECTORS.items()})
    with pytest.raises(ValueError, match="x-vectors of 12 numbers, but the model needs 16"):
        tiny(voice, xvectors=str(short))
    bad: tuple[dict[str, Any], ...] = (
        {"xvectors": ""}, {"speaker": -1}, {"model": ""}, {"vocoder": ""}, {"batch_size": 0}, {"dtype": "int8"},
        {"seed": -1},
    )  # fmt: skip
    for setting in bad:
        with pytest.raises(ValueError, match=rf"^{next(iter(setting))} is "):
            SpeechT5Settings(**{"xvectors": "spkrec-xvect.zip", **setting})
