"""Tiny published speech components, in the files and layouts in which the real ones are published.

    settings = make_components(folder / "components", clusters=20)
    train_whisper(folder / "components" / "whisper", [("the lion is red", audio), ...])

`settings` are the settings of `PretrainedSpeech`, by their dotted names, for a command line. Their weights are random,
but for Whisper's: it really recognizes the utterances that it was trained on, and so can align them.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import (
    GenerationConfig,
    SeamlessM4Tv2Config,
    SpeechT5Config,
    SpeechT5ForTextToSpeech,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    SpeechT5Tokenizer,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.models.seamless_m4t_v2.modeling_seamless_m4t_v2 import SeamlessM4Tv2CodeHifiGan

from src.speech.published_settings import SpeechT5Settings
from src.speech.speecht5 import load_synthesizer
from tests.speech.test_encoder import TINY as ENCODER
from tests.speech.test_encoder import named
from tests.speech.test_speecht5 import SMALL, write_letters, write_zip
from tests.speech.test_whisper import SPECIAL, make_tokenizer

LAYER = 3
XVECTORS = 4
Audio = npt.NDArray[np.float32]


def make_components(folder: Path, clusters: int) -> dict[str, Any]:
    """Write encoder.pt, kmeans.npy, tts/, hifigan/, spkrec-xvect.zip and vocoder/ into `folder`; settings for them, and
    for the Whisper that is to be written to `folder`/whisper."""
    folder.mkdir(parents=True, exist_ok=True)
    _encoder(folder, clusters)
    _voice(folder)
    _vocoder(folder / "vocoder", clusters)
    return {
        "speech.encoder.model": str(folder / "encoder.pt"),
        "speech.encoder.layer": LAYER,
        "speech.encoder.architecture": ENCODER,
        "speech.encoder.batch_seconds": 20.0,
        "speech.quantizer.centroids": str(folder / "kmeans.npy"),
        "speech.quantizer.clusters": clusters,
        "speech.synthesizer.model": str(folder / "tts"),
        "speech.synthesizer.vocoder": str(folder / "hifigan"),
        "speech.synthesizer.xvectors": str(folder / "spkrec-xvect.zip"),
        "speech.synthesizer.speaker": XVECTORS - 1,
        "speech.vocoder.model": str(folder / "vocoder"),
        "speech.aligner.whisper.model": str(folder / "whisper"),
        "speech.recognizer.model": str(folder / "whisper"),
        "speech.shards.asr": 2,
        "speech.shards.sqa": 1,
    }


def command_line(settings: dict[str, Any]) -> list[str]:
    """The settings as overrides of Hydra."""

    def value(given: Any) -> str:
        return given if isinstance(given, str) else json.dumps(given, separators=(",", ":")).replace('"', "")

    return [f"{name}={value(given)}" for name, given in settings.items()]


def _encoder(folder: Path, clusters: int) -> None:
    torch.manual_seed(0)
    model = Wav2Vec2Model(Wav2Vec2Config(**ENCODER, mask_time_prob=0.0)).eval()
    torch.save({"model": named(model.state_dict(), "fairseq2")}, folder / "encoder.pt")
    noise = 0.1 * torch.randn(1, 16_000 * max(2, clusters // 40))
    with torch.inference_mode():
        states = model(noise, output_hidden_states=True).hidden_states[LAYER][0]
    drawn = torch.randperm(len(states))[:clusters]
    np.save(folder / "kmeans.npy", states[drawn].numpy())


def _voice(folder: Path) -> None:
    """A voice that speaks up to 1.6 s of some noise for each text, always the same for the same text."""
    letters = write_letters(folder)
    torch.manual_seed(3)
    model = SpeechT5ForTextToSpeech(SpeechT5Config(**SMALL, max_text_positions=300, max_speech_positions=50))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
            if "encoder_attn" in name:  # so that what is said depends on the text
                parameter.mul_(3)
        torch.manual_seed(0)
        model.speech_decoder_postnet.prob_out.weight.normal_()
        model.speech_decoder_postnet.prob_out.bias.fill_(-6.0)
    model.save_pretrained(folder / "tts")
    SpeechT5Tokenizer(str(letters)).save_pretrained(folder / "tts")
    vocoder = SpeechT5HifiGan(SpeechT5HifiGanConfig(upsample_initial_channel=32))
    with torch.no_grad():
        for parameter in vocoder.parameters():
            parameter.mul_(10)
    vocoder.save_pretrained(folder / "hifigan")
    generator = np.random.default_rng(5)
    vectors = {f"spkrec-xvect/cmu_us_slt_{i}.npy": generator.normal(size=16).astype(np.float32)
               for i in range(XVECTORS)}  # fmt: skip
    write_zip(folder / "spkrec-xvect.zip", vectors)


def _vocoder(folder: Path, clusters: int) -> None:
    torch.manual_seed(1)
    shape: dict[str, Any] = {"upsample_initial_channel": 32, "unit_hifi_gan_vocab_size": clusters, "unit_embed_dim": 16,
                             "lang_embed_dim": 8, "spkr_embed_dim": 8, "vocoder_num_langs": 12,
                             "vocoder_num_spkrs": 15}  # fmt: skip
    model = SeamlessM4Tv2CodeHifiGan(SeamlessM4Tv2Config(**shape))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("hifi_gan") or "embedding" in name:
                parameter.mul_(3)
    model.save_pretrained(folder)


def spoken_by(folder: Path, texts: Sequence[str]) -> list[Audio]:
    """What the voice of `make_components` says of each text."""
    settings = SpeechT5Settings(
        xvectors=str(folder / "spkrec-xvect.zip"), speaker=XVECTORS - 1, model=str(folder / "tts"),
        vocoder=str(folder / "hifigan"),
    )  # fmt: skip
    return load_synthesizer(settings, torch.device("cpu")).speak(texts)


def train_whisper(folder: Path, utterances: Sequence[tuple[str, Audio]], steps: int = 1500) -> float:
    """Train a tiny Whisper until it knows the utterances by heart, and save it to `folder`; its last loss.

    Its encoder stays random, which keeps the training short: the decoder learns what the encoder makes of each sound.
    The window is as long as the longest utterance. One head of the decoder is taught to go through the audio evenly,
    and is the one that tells when words are spoken.
    """
    generator = random.Random(0)
    torch.manual_seed(0)
    window = max(2, -(-max(len(audio) for _, audio in utterances) // 16_000))
    words = sorted({word for text, _ in utterances for word in text.split()})
    tokenizer = make_tokenizer(words, window)
    extractor = WhisperFeatureExtractor(chunk_length=window)
    ids: dict[str, Any] = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in SPECIAL}
    end: dict[str, Any] = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids["endoftext"])
    texts = [tokenizer(" " + " ".join(text.split()), add_special_tokens=False)["input_ids"] for text, _ in utterances]
    longest = max(map(len, texts)) + 8
    config = WhisperConfig(
        vocab_size=len(tokenizer), d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, max_source_positions=50 * window,
        max_target_positions=2 * longest, suppress_tokens=None, begin_suppress_tokens=None,
        decoder_start_token_id=ids["startoftranscript"], init_std=0.1, **end,
    )  # fmt: skip
    config._attn_implementation = "eager"  # the only one that tells what was attended to
    model = WhisperForConditionalGeneration(config)
    with torch.inference_mode():
        states = torch.cat(
            [
                model.model.encoder(extractor(audio, sampling_rate=16_000, return_tensors="pt").input_features)[0]
                for _, audio in utterances
            ]
        )
    states = states.clone()
    frames = [len(audio) // 320 for _, audio in utterances]
    beginning = [ids["startoftranscript"], ids["en"], ids["transcribe"]]
    plain = [[*beginning, ids["notimestamps"], *text, ids["endoftext"]] for text in texts]
    # As for word times, which transformers asks for with times around what is said.
    zero, last = (tokenizer.convert_tokens_to_ids(f"<|{time:.2f}|>") for time in (0.0, window))
    timed = [[*beginning, zero, *text, last, ids["endoftext"]] for text in texts]
    learned = [parameter for name, parameter in model.named_parameters() if "encoder." not in name]
    optimizer = torch.optim.AdamW(learned, lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    recent = 9.0
    for _ in range(steps):
        chosen = generator.sample(range(len(texts)), min(16, len(texts)))
        rows = [(timed if generator.random() < 0.5 else plain)[i] for i in chosen]
        width = max(map(len, rows))
        tokens = torch.tensor([row + [ids["endoftext"]] * (width - len(row)) for row in rows])
        labels = tokens[:, 1:].clone()
        for row, given in enumerate(rows):
            labels[row, len(given) - 1 :] = -100
            # Whether times follow is not for the model to say.
            labels[row, : 2 if given[3] == zero else 3] = -100
        outputs = model(encoder_outputs=(states[chosen],), decoder_input_ids=tokens[:, :-1], output_attentions=True)
        attended = outputs.cross_attentions[1][:, 0]
        loss = torch.nn.functional.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        evenly = torch.stack([_evenly(attended[row], len(texts[i]), frames[i]) for row, i in enumerate(chosen)])
        optimizer.zero_grad()
        (loss + 0.1 * evenly.mean()).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        schedule.step()
        recent += 0.1 * (loss.item() - recent)
        if recent < 0.003:
            break
    settings: dict[str, Any] = {
        **end,
        "decoder_start_token_id": ids["startoftranscript"],
        "max_length": 2 * longest,
        "alignment_heads": [[1, 0]],
        "no_timestamps_token_id": ids["notimestamps"],
        "lang_to_id": {"<|en|>": ids["en"], "<|fi|>": ids["fi"]},
        "task_to_id": {"transcribe": ids["transcribe"], "translate": ids["translate"]},
        "is_multilingual": True,
        "begin_suppress_tokens": [ids["endoftext"]],
    }
    model.generation_config = GenerationConfig(**settings)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return recent


def _evenly(attended: torch.Tensor, count: int, frames: int) -> torch.Tensor:
    """How far attention [tokens, frames of the window] is from going evenly through `frames` while `count` tokens of
    text are said, which are the fifth and later tokens: the mean of -log of what is near its place."""
    places = (torch.arange(count) + 0.5) * frames / count
    distance = (torch.arange(attended.shape[1])[None] - places[:, None]).abs()
    near = (attended[4 : 4 + count] * (distance <= max(1.0, frames / count / 2))).sum(dim=1)
    return -(near + 1e-6).log().mean()
