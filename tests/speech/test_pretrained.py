"""The settings of published components: which steps they make, and what conf/speech says."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import hydra
import pytest
from omegaconf import OmegaConf

from src.config import typed
from src.data import jsonl
from src.speech import kmeans, load, utterances
from src.speech.pretrained import (
    SEAMLESS,
    CodeHifiGanSettings,
    EncoderSettings,
    PretrainedSpeech,
    QuantizerSettings,
    Shards,
    SpeechT5Settings,
)

CONF = Path(__file__).parents[2] / "conf"


def composed(name: str, *overrides: str) -> PretrainedSpeech:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        values: Any = OmegaConf.to_container(hydra.compose(f"speech/{name}", list(overrides)).speech, resolve=True)
    return typed(PretrainedSpeech, values, "speech")


def test_settings_say_which_steps_there_are() -> None:
    encoder, voice = EncoderSettings("x.pt"), SpeechT5Settings("x.zip")
    with pytest.raises(ValueError, match=r"vocoder\.model = 'facebook/seamless.*: must be a vocoder of the 10000 u"):
        PretrainedSpeech(encoder, voice)
    fitted = PretrainedSpeech(encoder, voice, vocoder=CodeHifiGanSettings("mine"))
    assert fitted.kmeans() == {"clusters": 10_000, "fit_utterances": 4000, "fit_frames": 500_000, "seed": 0}
    assert "centroids" not in fitted.components()["encoder"]
    assert fitted.components()["aligner"] == fitted.components()["recognizer"], "one copy of Whisper"
    paper = PretrainedSpeech(encoder, voice, quantizer=QuantizerSettings(centroids="kmeans_10k.npy"))
    assert paper.kmeans() is None and paper.components()["encoder"]["clusters"] == 10_000
    assert [config["shard"] for config in paper.utterances("asr")] == list(range(8))
    assert len(paper.utterances("eval_qa")) == 1 and paper.vocoder.model == SEAMLESS
    assert paper.heard("sqa") == ("corpus", "encoder", "quantizer", "aligner", "synthesizer")
    assert paper.heard("eval_asr") == ("corpus", "encoder", "quantizer")
    json.dumps([paper.components(), paper.utterances("sqa")])


def test_the_paper_s_components() -> None:
    speech = composed("paper")
    components = speech.components()
    assert components["encoder"]["model"].endswith("/unit_extraction/xlsr2_1b_v2.pt") and speech.encoder.layer == 35
    assert components["encoder"]["centroids"].endswith("/unit_extraction/kmeans_10k.npy") and speech.kmeans() is None
    assert (speech.quantizer.clusters, speech.synthesizer.speaker) == (10_000, 7306)
    assert (speech.vocoder.language, speech.vocoder.speaker, speech.vocoder.predict_durations) == (8, 10, False)
    assert components["aligner"] == components["recognizer"] and speech.recognizer.model == "openai/whisper-large-v3"
    assert speech == PretrainedSpeech(
        encoder=EncoderSettings(components["encoder"]["model"]),
        synthesizer=SpeechT5Settings("Matthijs/cmu-arctic-xvectors"),
        quantizer=QuantizerSettings(components["encoder"]["centroids"]),
    ), "the defaults of the code are the paper's"


def test_another_encoder_needs_a_vocoder_of_its_units() -> None:
    speech = composed("hubert", "speech.vocoder.model=/data/vocoder")
    assert speech.kmeans() == {"clusters": 500, "fit_utterances": 4000, "fit_frames": 500_000, "seed": 0}
    assert speech.components()["vocoder"]["clusters"] == 500
    with pytest.raises(ValueError, match="a vocoder of the 500 units that are fitted here"):
        composed("hubert")


def test_numbers_that_are_wrong() -> None:
    for kind, settings in (
        (Shards, {"asr": 0}), (Shards, {"sqa": 1000}), (QuantizerSettings, {"clusters": 1}),
        (QuantizerSettings, {"fit_frames": 0}), (QuantizerSettings, {"centroids": ""}),
    ):  # fmt: skip
        name, value = next(iter(settings.items()))
        with pytest.raises(ValueError, match=rf"(shards|quantizer)\.{name} = {value!r}: must be"):
            kind(**settings)


def test_settings_of_the_aligner_are_named_with_it() -> None:
    for wrong in ("min_similarity=0", "silence=next"):
        name, value = wrong.split("=")
        with pytest.raises(ValueError, match=rf"^aligner\.alignment\.{name} = '?{value}"):
            composed("paper", f"speech.aligner.alignment.{wrong}")


def test_every_step_names_settings_as_they_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jsonl.write(tmp_path / "eval_asr.jsonl", [])
    inputs = {"corpus": tmp_path, "encoder": tmp_path, "quantizer": tmp_path}
    fit = {"clusters": 2, "fit_utterances": 1, "fit_frames": 1, "seed": 0}
    both = "speech.aligner.whisper.model or speech.recognizer.model"
    for said, told in (
        ("encoder.layer = 9: must be", "speech.encoder.layer = 9: must be"),
        ("whisper.model = x: lacks", f"{both} = x: lacks"),
        ("x/encoder.layer", "x/encoder.layer"),
    ):
        monkeypatch.setattr(load, "encoder", Mock(side_effect=ValueError(said)))
        for run, config in ((kmeans.run, fit), (utterances.run, {"list": "eval_asr", "shard": 0, "shards": 1})):
            with pytest.raises(ValueError) as raised:
                run(config, inputs, tmp_path, SimpleNamespace())  # type: ignore[arg-type]
            assert str(raised.value) == told
