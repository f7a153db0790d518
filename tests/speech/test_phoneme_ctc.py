import json
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch

from src.data import jsonl
from src.grid.errors import ConfigError
from src.grid.typed import typed
from src.speech.audio import slices
from src.speech.lexicon import make_lexicon
from src.speech.phoneme_ctc import PhonemeNetwork, PhonemeRecognizer, train
from src.speech.recognizer import count_errors
from src.speech.recognizers.phoneme_ctc import PhonemeCtc
from src.speech.settings import RecognizerConfig
from src.speech.spectrogram import log_mel
from tests.speech.conftest import quiet_context


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    network = PhonemeNetwork(symbols=5, width=8, dropout=0.0).eval()
    short, long = torch.randn(1, 37, 80), torch.randn(1, 61, 80)
    padded = torch.zeros(2, 61, 80)
    padded[0, :37], padded[1] = short[0], long[0]
    with torch.inference_mode():
        together, lengths = network(padded, torch.tensor([37, 61]))
        alone, length = network(short, torch.tensor([37]))
    assert lengths.tolist() == [10, 16] and length.tolist() == [10]
    assert torch.allclose(together[0, :10], alone[0], atol=1e-5)


def test_training_learns_to_tell_words_apart(speech: dict[str, Path]) -> None:
    rows = list(jsonl.read(speech["quantizer"] / "utterances.jsonl"))[1:7]
    audio = slices(np.load(speech["quantizer"] / "audio.npy"), rows)
    texts = [row["text"] for row in rows]
    lexicon, symbols = make_lexicon(texts, texts, "en-us")
    frames = [log_mel(samples, 80) for samples in audio]
    mean, deviation = np.concatenate(frames).mean(axis=0), np.concatenate(frames).std(axis=0)
    config = PhonemeCtc(steps=120, batch_size=6, learning_rate=5e-3)
    targets = [[lexicon.symbols.index(symbol) for symbol in spoken] for spoken in symbols]
    normalized = [(part - mean) / deviation for part in frames]
    torch.manual_seed(0)
    network = PhonemeNetwork(len(lexicon.symbols), width=32, dropout=0.1)
    train(normalized, targets, network, 0.2, 0, config, quiet_context(Path()))
    recognizer = PhonemeRecognizer(network, torch.from_numpy(mean), torch.from_numpy(deviation), lexicon, 4.0)
    assert recognizer(audio) == texts
    assert recognizer([audio[2]]) == [texts[2]], "alone as in a batch"


def test_nothing_to_hear(speech: dict[str, Path]) -> None:
    recognizer = PhonemeCtc.load(speech["recognizer"])
    nothing = np.zeros(0, np.float32)
    assert recognizer([]) == []
    assert recognizer([nothing]) == [""]
    assert recognizer([nothing, np.zeros(40, np.float32), nothing])[::2] == ["", ""]


def test_artifact(speech: dict[str, Path]) -> None:
    described = json.loads((speech["recognizer"] / "recognizer.json").read_text(encoding="utf-8"))
    assert described["homophones"] == [] and len(described["symbols"]) > 20
    assert set(described["lexicon"]) == set(json.loads((speech["corpus"] / "spoken.json").read_text()))
    wer = json.loads((speech["recognizer"] / "wer.json").read_text())
    rows = list(jsonl.read(speech["recognizer"] / "judge.jsonl"))
    assert [row["text"] for row in rows] == [row["text"] for row in jsonl.read(speech["corpus"] / "judge.jsonl")]
    for kind in ("natural", "resynthesized"):
        references, heard = [row["text"] for row in rows], [row[f"heard_{kind}"] for row in rows]
        assert wer[kind]["wer"] == pytest.approx(jiwer.wer(references, heard))
        assert wer[kind]["n"] == len(rows) == wer[kind]["hits"] + wer[kind]["substitutions"] + wer[kind]["deletions"]


def test_loaded_recognizer_hears_what_the_step_heard(speech: dict[str, Path]) -> None:
    recognizer = PhonemeCtc.load(speech["recognizer"])
    audio = slices(
        np.load(speech["quantizer"] / "audio.npy"), list(jsonl.read(speech["quantizer"] / "utterances.jsonl"))[:3]
    )
    words = set(recognizer.lexicon.pronunciations)
    assert all(set(text.split()) <= words for text in recognizer(audio))


def test_errors_are_counted() -> None:
    counts = count_errors(["red cat", "dog"], ["red", "a dog"])
    assert counts.pop("wer") == pytest.approx(2 / 3)
    assert counts == {"n": 2, "hits": 2, "substitutions": 0, "deletions": 1, "insertions": 1}


@pytest.mark.parametrize(("name", "value"), [("batch_size", 0), ("dropout", 1.0), ("name", "whisper"), ("beam", 3)])
def test_bad_settings(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"recognizer.{name}"):
        typed(RecognizerConfig, {name: value}, "recognizer")  # type: ignore[type-abstract]
