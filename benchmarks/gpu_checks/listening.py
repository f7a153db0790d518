"""Speech to units and to words, in several types: the same units, hours of audio an hour, memory."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken
from transformers import (
    GenerationConfig,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperTokenizer,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

from benchmarks.gpu_checks import memory, shapes
from benchmarks.gpu_checks.findings import Findings
from src.machine.loads import WORD_TIMES, encoder_parameters
from src.machine.memory import GIB, WHISPER
from src.speech.audio import SAMPLE_RATE
from src.speech.batches import default_device
from src.speech.encoder import load_encoder
from src.speech.kmeans import extract_units
from src.speech.nearest import NearestCentroid
from src.speech.precision import weights
from src.speech.published_settings import XLSR2_1B, EncoderSettings
from src.speech.whisper import BatchedWhisper, WhisperRecognizer

TYPES = ("float32", "tf32", "float16", "bfloat16")
MOST_CHANGED = 1e-3
"""The share of units that may be others in another batch, as sums of another shape round differently."""
TOY_ENCODER = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, "conv_dim": [32] * 7,
               "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}  # fmt: skip
LARGE_V3: dict[str, Any] = {
    "num_mel_bins": 128, "d_model": 1280, "encoder_layers": 32, "decoder_layers": 32, "encoder_attention_heads": 20,
    "decoder_attention_heads": 20, "encoder_ffn_dim": 5120, "decoder_ffn_dim": 5120, "max_source_positions": 1500,
    "max_target_positions": 448,
}  # fmt: skip
HEADS = [[7, 0], [10, 17], [12, 18], [13, 12], [16, 1], [17, 14], [19, 11], [21, 4], [24, 1], [25, 6]]
"""Those of large-v3 that align words."""
TOY_WHISPER: dict[str, Any] = {
    "num_mel_bins": 80, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_source_positions": 100,
    "max_target_positions": 48,
}  # fmt: skip
BYTES, TEXT_TOKENS = 256, 50_257
TOKENS = 128
"""Of a text, its beginning included: some twice as many as 14 s of speech have."""


def sounds(count: int, seconds: float, seed: int) -> list[np.ndarray]:
    """Audio of changing tones in noise."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    made = []
    for _ in range(count):
        place = (time * 12).astype(int)
        parts = int(seconds * 12) + 1
        pitches, loudness = random.uniform(80, 3800, (2, parts)), random.uniform(0, 0.3, parts)
        tones = sum(np.sin(2 * np.pi * pitch[place] * time) for pitch in pitches)
        made.append((loudness[place] * tones + 0.02 * random.normal(size=len(time))).astype(np.float32))
    return made


def encoder(found: Findings, quick: bool) -> None:
    """XLSR2-1B-v2 up to the layer of the paper's units, and as many centroids, which are features of other audio."""
    told = shapes.settings_file("speech/paper.yaml")
    layer, seconds = (2, 4.0) if quick else (told["encoder"]["layer"], float(told["encoder"]["batch_seconds"]))
    clusters, length = (50, 1.0) if quick else (told["quantizer"]["clusters"], 16.0)
    shape = {**XLSR2_1B, **(TOY_ENCODER if quick else {}), "num_hidden_layers": layer}
    audios = sounds(2 * int(seconds / length), length, 1)
    hours = len(audios) * length / 3600
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        with default_device():
            Wav2Vec2Model(Wav2Vec2Config(**shape, mask_time_prob=0.0)).save_pretrained(folder)
        if not quick:
            number = encoder_parameters(EncoderSettings("xlsr2_1b_v2.pt", layer))
            size = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors")) / 4
            found.beside("parameters", size, "", number)
        quantizer, exact = None, np.zeros(0, np.int64)
        for dtype in TYPES:
            listener = load_encoder(EncoderSettings(folder, layer, dtype=dtype, batch_seconds=seconds))
            if quantizer is None:
                others = sounds(2 * int(seconds / length), length, 2)
                frames = torch.cat([part for _, parts in listener.batches(others) for part in parts])
                drawn = torch.randperm(len(frames), generator=torch.Generator().manual_seed(0))[:clusters]
                quantizer = NearestCentroid(frames[drawn.to(frames.device)].float().cpu().numpy())
            extract_units(listener, quantizer, audios[:2])
            with memory.watch() as watched:
                units = np.concatenate(extract_units(listener, quantizer, audios))
            if dtype == "float32":
                exact = units
                listener.batch_seconds = 0.0
                alone = np.concatenate(extract_units(listener, quantizer, audios[:4]))
                changed = float((alone != units[: len(alone)]).mean())
                found.figure("units changed one utterance at a time", changed, "share")
                found.criterion(f"at most {MOST_CHANGED:.1%} of units are others alone", changed <= MOST_CHANGED)
                found.criterion("many units occur", len(set(units.tolist())) > clusters // 10)
            else:
                found.figure(f"{dtype}: units changed", float(np.mean(units != exact)), "share")
            found.gpu_figure(f"{dtype}: audio", hours / (watched.seconds / 3600), "hours an hour")
            found.gpu_figure(f"{dtype}: peak memory", watched.peak, "GiB")
            del listener


def whisper(found: Findings, quick: bool) -> None:
    """Word times of a batch, whose texts all have TOKENS tokens."""
    count, seconds = (4, 1.5) if quick else (16, 14.0)
    audios = sounds(count, seconds, 3)
    model: Any
    model, extractor, tokenizer = _whisper(quick)
    if not quick:
        found.beside("parameters", sum(p.numel() for p in model.parameters()), "", WHISPER["openai/whisper-large-v3"])
    exact: list[Any] = []
    for dtype in TYPES[:3]:
        model.to(weights(dtype))
        recognizer = WhisperRecognizer(model, extractor, tokenizer, "en", count, dtype)
        recognizer.words(audios[:1])
        with memory.watch() as watched:
            words = recognizer.words(audios)
        if dtype == "float32":
            exact = words
            said = sum(map(len, words))
            found.figure("words heard", said, "")
            found.figure("different ones", len({word.text for own in words for word in own}), "")
            found.criterion("words with times are heard", said > 5 * count)
            found.criterion("alone the same words are heard", recognizer.words(audios[1:2]) == words[1:2])
            needed = (WHISPER["openai/whisper-large-v3"] * 4 + count * WORD_TIMES) / GIB
            found.beside("float32: peak memory", watched.peak, "GiB", None if quick else needed)
        else:
            same = [[word.text for word in own] for own in words] == [[word.text for word in own] for own in exact]
            found.figure(f"{dtype}: texts as in float32", float(same), "")
            found.gpu_figure(f"{dtype}: peak memory", watched.peak, "GiB")
        found.gpu_figure(f"{dtype}: audio with word times", count * seconds / watched.seconds, "hours an hour")
        found.gpu_figure(f"{dtype}: a step", 1000 * watched.seconds / TOKENS, "ms")


def _whisper(quick: bool) -> tuple[BatchedWhisper, WhisperFeatureExtractor, WhisperTokenizer]:
    """A model that writes text up to its last token: its tokens of text are larger than all others."""
    shape, window = (TOY_WHISPER, 2) if quick else (LARGE_V3, 30)
    tokenizer = text_tokenizer(400 if quick else TEXT_TOKENS, window)
    ids: dict[str, Any] = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in _special()}
    end: dict[str, Any] = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids["endoftext"])
    torch.manual_seed(0)
    config = WhisperConfig(
        **shape, vocab_size=len(tokenizer), suppress_tokens=None, begin_suppress_tokens=None,
        decoder_start_token_id=ids["startoftranscript"], **end,
    )  # fmt: skip
    with default_device():
        model: Any = BatchedWhisper(config)
    with torch.no_grad():
        # logits of words get a deviation of 3; those of bytes, special tokens and times are 0, so that none wins
        embeddings = model.get_input_embeddings().weight
        words = embeddings[BYTES : ids["endoftext"]].normal_(std=3 / config.d_model**0.5).clone()
        embeddings.zero_()
        embeddings[BYTES : ids["endoftext"]] = words
        # so that what comes next depends on the place, and on what is heard
        model.model.decoder.embed_positions.weight.normal_(std=12 / config.d_model**0.5)
        for layer in model.model.decoder.layers:
            layer.encoder_attn.out_proj.weight.mul_(10)
    model.generation_config = GenerationConfig(
        **end, decoder_start_token_id=ids["startoftranscript"], max_length=40 if quick else TOKENS,
        alignment_heads=[[0, 1], [1, 0]] if quick else HEADS, no_timestamps_token_id=ids["notimestamps"],
        lang_to_id={"<|en|>": ids["en"]}, task_to_id={name: ids[name] for name in ("transcribe", "translate")},
        is_multilingual=True,
    )  # fmt: skip
    return model.eval(), WhisperFeatureExtractor(feature_size=shape["num_mel_bins"], chunk_length=window), tokenizer


def _special() -> list[str]:
    """As many as large-v3 has, in its order; languages but English without their names."""
    languages = ["en", *(f"language{i}" for i in range(99))]
    return ["endoftext", "startoftranscript", *languages, "translate", "transcribe", "startoflm", "startofprev",
            "nospeech", "notimestamps"]  # fmt: skip


def text_tokenizer(size: int, window: int) -> WhisperTokenizer:
    """So many tokens of text, all but the bytes words of their own; then special ones, and times."""
    vocabulary = {letter: i for i, letter in enumerate(sorted(bytes_to_unicode().values()))}
    letters = "abcdefghijklmnopqrstuvwxyz"
    for i in range(size - len(vocabulary)):
        name = "".join(letters[i // 26**place % 26] for place in range(4))
        vocabulary[f"Ġ{name}"] = len(vocabulary)
    special = [f"<|{name}|>" for name in _special()]
    vocabulary |= {name: len(vocabulary) + i for i, name in enumerate(special)}
    tokenizer = WhisperTokenizer(
        vocab=vocabulary, merges=[], pad_token=special[0], additional_special_tokens=special[1:]
    )
    times = [f"<|{0.02 * i:.2f}|>" for i in range(50 * window + 1)]
    tokenizer.add_tokens([AddedToken(time, special=False, normalized=False) for time in times])
    return tokenizer
