"""Text and units to audio: the same in a batch and alone, hours of audio an hour, what half precision changes."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from transformers import (
    SeamlessM4Tv2Config,
    SpeechT5Config,
    SpeechT5ForTextToSpeech,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    SpeechT5Tokenizer,
)
from transformers.models.seamless_m4t_v2.modeling_seamless_m4t_v2 import SeamlessM4Tv2CodeHifiGan

from benchmarks.gpu_checks import memory
from benchmarks.gpu_checks.findings import Findings
from src.machine.loads import SPEECHT5
from src.machine.memory import GIB
from src.speech.audio import SAMPLE_RATE
from src.speech.batches import default_device
from src.speech.code_hifigan import CodeHifiGanVocoder
from src.speech.speecht5 import SpeechT5Synthesizer

UNITS, SAMPLES = 1800, 320
"""Of an answer, and in a unit."""
TEXTS = 16
APART = 1e-2
"""How far audio of a batch may be from that of a text alone, as a share of its size."""
TOY_VOICE: dict[str, Any] = {
    "hidden_size": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "speech_decoder_prenet_units": 16,
    "speech_decoder_postnet_units": 16, "speaker_embedding_dim": 16,
}  # fmt: skip
PUBLISHED = {"max_text_positions": 600, "max_speech_positions": 1876}
"""What of SpeechT5's published voice is not transformers' default."""
TOY_VOCODER = {"upsample_initial_channel": 32, "unit_hifi_gan_vocab_size": 100, "unit_embed_dim": 16,
               "lang_embed_dim": 8, "spkr_embed_dim": 8}  # fmt: skip


def speecht5(found: Findings, quick: bool) -> None:
    """A voice that never ends by itself: each text is spoken for as long as it may."""
    letters = 4 if quick else 40
    rows = range(4 if quick else TEXTS)
    texts = ["".join("abcdefghij"[(row + i) % 10] for i in range(letters - row % 3)) for row in rows]
    torch.manual_seed(0)
    with default_device():
        model: Any = SpeechT5ForTextToSpeech(SpeechT5Config(vocab_size=81, **PUBLISHED, **(TOY_VOICE if quick else {})))
        vocoder: Any = SpeechT5HifiGan(SpeechT5HifiGanConfig(**({"upsample_initial_channel": 32} if quick else {})))
    with torch.no_grad():
        model.speech_decoder_postnet.prob_out.bias.fill_(-20.0)
        for parameter in vocoder.parameters():
            parameter.mul_(3)  # loud enough to be compared
    if not quick:
        number = sum(p.numel() for part in (model, vocoder) for p in part.parameters())
        found.beside("parameters", number, "", SPEECHT5["microsoft/speecht5_tts"])
    speaker = np.random.default_rng(0).normal(size=model.config.speaker_embedding_dim).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = SpeechT5Tokenizer(str(_letters(Path(folder))))
    for dtype in ("float32", "float16"):
        kind = getattr(torch, dtype)
        voice = SpeechT5Synthesizer(model.to(kind), vocoder.to(kind), tokenizer, speaker, len(texts))
        if not quick:
            voice.speak(texts[:1])
        with memory.watch() as watched:
            audios = voice.speak(texts)
        seconds = sum(map(len, audios)) / SAMPLE_RATE
        found.gpu_figure(f"{dtype}: audio", seconds / watched.seconds, "hours an hour")
        found.gpu_figure(f"{dtype}: peak memory", watched.peak, "GiB")
        whole = all(len(audio) and np.isfinite(audio).all() for audio in audios)
        found.criterion(f"{dtype}: every text is spoken, in finite numbers", whole)
        if dtype == "float32":
            (alone,) = voice.speak(texts[1:2])
            apart = _apart(alone, audios[1]) if alone.shape == audios[1].shape else float("inf")
            found.figure("alone and in a batch apart", apart, "share")
            found.criterion(f"alone and in a batch are at most {APART:.0%} apart", apart <= APART)


def vocoder(found: Findings, quick: bool) -> None:
    """The unit vocoder of SeamlessM4T v2, one answer after another."""
    count, rounds = (20, 1) if quick else (UNITS, 8)
    torch.manual_seed(0)
    config = SeamlessM4Tv2Config(**(TOY_VOCODER if quick else {}))
    with default_device():
        model: Any = SeamlessM4Tv2CodeHifiGan(config)
    found.figure("weights", sum(p.nbytes for p in model.parameters()) / GIB, "GiB")
    units = np.random.default_rng(0).integers(config.unit_hifi_gan_vocab_size, size=count).tolist()
    exact = np.zeros(0, np.float32)
    for dtype in ("float32", "float16"):
        speak = CodeHifiGanVocoder(model.to(getattr(torch, dtype)), 8, 10)
        audio = speak(units)
        with memory.watch() as watched:
            for _ in range(rounds):
                audio = speak(units)
        found.gpu_figure(f"{dtype}: audio", rounds * count * SAMPLES / SAMPLE_RATE / watched.seconds, "hours an hour")
        found.gpu_figure(f"{dtype}: peak memory", watched.peak, "GiB")
        whole = len(audio) == count * SAMPLES and bool(np.isfinite(audio).all())
        found.criterion(f"{dtype}: {SAMPLES} samples a unit, in finite numbers", whole)
        if dtype == "float32":
            exact = audio
            found.criterion("it is no silence", float(np.abs(audio).max()) > 1e-3)
            other = speak(units[: count // 2])
            edge = 10 * SAMPLES  # what a unit is heard of in others
            apart = _apart(other[: len(other) - edge], exact[: len(other) - edge])
            found.figure("a shorter answer's audio apart, without its last units", apart, "share")
        else:
            found.figure(f"{dtype}: apart from float32", _apart(audio, exact), "share")


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """The size of the difference as a share of the other's size."""
    return float(np.linalg.norm(one - other) / max(float(np.linalg.norm(other)), 1e-12))


def _letters(folder: Path) -> Path:
    """A sentencepiece model of single letters, as SpeechT5's is."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    (folder / "letters.txt").write_text(f"{' '.join(letters)} {letters.upper()} , . ; : ! ? ' -\n" * 3)
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "letters.txt"), model_prefix=str(folder / "letters"), model_type="char", vocab_size=81,
        hard_vocab_limit=False, character_coverage=1.0, bos_id=0, pad_id=1, eos_id=2, unk_id=3, minloglevel=2,
    )  # fmt: skip
    return folder / "letters.model"
