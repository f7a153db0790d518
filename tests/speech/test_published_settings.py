"""The settings of published components: which steps they make, and what conf/speech says."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import hydra
import pytest
from omegaconf import OmegaConf

from src.data import jsonl
from src.data.settings import ClosedDomain
from src.grid.errors import ConfigError
from src.grid.step import read
from src.grid.typed import typed
from src.speech import kmeans, load, utterances
from src.speech.published_settings import (
    ALIGNED,
    LISTS,
    SEAMLESS,
    AlignmentSettings,
    CodeHifiGanSettings,
    EncoderSettings,
    PretrainedSpeech,
    QuantizerSettings,
    Shards,
    SpeechT5Settings,
    UtterancesConfig,
)
from src.steps.corpus import Corpus
from src.steps.kmeans import Kmeans
from src.steps.pretrained import Pretrained, components
from src.steps.utterances import shards_of
from tests.conftest import TINY_CORPUS

CONF = Path(__file__).parents[2] / "conf"


def composed(name: str, *overrides: str) -> PretrainedSpeech:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        values: Any = OmegaConf.to_container(hydra.compose(f"speech/{name}", list(overrides)).speech, resolve=True)
    return typed(PretrainedSpeech, values, "speech")


CORPUS = Corpus(config=ClosedDomain(**TINY_CORPUS))


def test_settings_say_which_steps_there_are() -> None:
    encoder, voice = EncoderSettings("x.pt"), SpeechT5Settings("x.zip")
    with pytest.raises(ValueError, match=r"^vocoder\.model is 'facebook/seamless.*; it must be a vocoder of the 10000"):
        PretrainedSpeech(encoder=encoder, synthesizer=voice)
    fitted = PretrainedSpeech(encoder=encoder, synthesizer=voice, vocoder=CodeHifiGanSettings("mine"))
    copied = components(fitted)
    assert copied["encoder"].further == {} and copied["aligner"] == copied["recognizer"], "one copy of Whisper"
    kmeans = Kmeans(config=fitted.quantizer, corpus=CORPUS, encoder=copied["encoder"])
    assert "centroids" not in kmeans.settings.get("config", {})

    paper = PretrainedSpeech(
        encoder=encoder, synthesizer=voice, quantizer=QuantizerSettings(centroids="kmeans_10k.npy")
    )
    copied = components(paper)
    assert copied["encoder"].further == {"centroids": "kmeans_10k.npy", "clusters": 10_000}
    shards = {name: shards_of(name, paper, CORPUS, copied, copied["encoder"]) for name in LISTS}
    assert [step.label for step in shards["asr"]] == [f"utterances-asr-00{i}" for i in range(8)]
    assert len(shards["eval_qa"]) == 1 and paper.vocoder.model == SEAMLESS
    assert list(shards["sqa"][0].inputs) == ["corpus", "encoder", "quantizer", "aligner", "synthesizer"]
    assert list(shards["eval_asr"][0].inputs) == ["corpus", "encoder", "quantizer"]
    assert list(shards["eval_qa"][0].inputs) == ["corpus", "encoder", "quantizer", "synthesizer"]
    assert [name for name in LISTS if "aligner" in shards[name][0].inputs] == list(ALIGNED)


def test_equal_settings_of_two_components_are_two_steps() -> None:
    names = ("whisper", "speecht5")
    made = {Pretrained(component=name, config={"model": "x"}).fingerprint for name in names}
    assert len(made) == 2


@pytest.mark.parametrize("role", ["encoder", "aligner", "synthesizer", "vocoder"])
def test_a_recorded_step_is_read_again(role: str) -> None:
    step = components(composed("paper"))[role]
    again = read(json.loads(json.dumps(step.record())), {})
    assert again == step and again.name == step.name == f"{step.component}-{step.fingerprint[:8]}"


def test_the_paper_s_components() -> None:
    speech = composed("paper")
    encoder, centroids = speech.encoder.model, str(speech.quantizer.centroids)
    assert encoder.endswith("/unit_extraction/xlsr2_1b_v2.pt") and speech.encoder.layer == 35
    assert centroids.endswith("/unit_extraction/kmeans_10k.npy")
    assert (speech.quantizer.clusters, speech.synthesizer.speaker) == (10_000, 7306)
    assert (speech.vocoder.language, speech.vocoder.speaker, speech.vocoder.predict_durations) == (8, 10, False)
    copied = components(speech)
    assert copied["aligner"] == copied["recognizer"] and speech.recognizer.model == "openai/whisper-large-v3"
    assert speech == PretrainedSpeech(
        encoder=EncoderSettings(encoder),
        synthesizer=SpeechT5Settings("Matthijs/cmu-arctic-xvectors"),
        quantizer=QuantizerSettings(centroids),
    ), "the defaults of the code are the paper's"


def test_another_encoder_needs_a_vocoder_of_its_units() -> None:
    speech = composed("hubert", "speech.vocoder.model=/data/vocoder")
    assert speech.quantizer == QuantizerSettings(None, clusters=500, fit_utterances=4000, fit_frames=500_000, seed=0)
    assert components(speech)["vocoder"].further == {"clusters": 500}
    with pytest.raises(ConfigError, match=r"^speech\.vocoder\.model is .* a vocoder of the 500 units that are fitted"):
        composed("hubert")


def test_numbers_that_are_wrong() -> None:
    for kind, settings in (
        (Shards, {"asr": 0}), (Shards, {"sqa": 1000}), (QuantizerSettings, {"clusters": 1}),
        (QuantizerSettings, {"fit_frames": 0}), (QuantizerSettings, {"centroids": ""}),
    ):  # fmt: skip
        name, value = next(iter(settings.items()))
        with pytest.raises(ValueError, match=rf"^{name} is {value!r}; it must be"):
            kind(**settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"list": "tts"}, r"^utterances\.list is 'tts'; it must be one of asr, sqa"),
        ({"shard": 2}, r"^utterances\.shard is 2; it must be from 0 to 1"),
        ({"alignment": None}, r"^utterances\.alignment is None; it must be given for asr and sqa"),
        ({"backend": "mfa"}, r"^utterances\.backend is 'mfa'; it must be one of transformers"),
    ],
)
def test_shards_that_are_wrong(change: dict[str, Any], message: str) -> None:
    good = {"list": "asr", "shard": 0, "shards": 2, "alignment": {}}
    assert typed(UtterancesConfig, good).alignment == AlignmentSettings()
    with pytest.raises(ConfigError, match=message):
        typed(UtterancesConfig, good | change, "utterances")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("speech.aligner.alignment.min_similarity=0", r"^speech\.aligner\.alignment\.min_similarity is 0\.0"),
        ("speech.aligner.alignment.silence=next", r"^speech\.aligner\.alignment\.silence is 'next'; it must be"),
        ("+speech.encoder.strides=3", r"^speech\.encoder\.strides is no setting"),
    ],
)
def test_settings_are_named_as_they_are_set(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        composed("paper", override)


def test_every_step_names_settings_as_they_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jsonl.write(tmp_path / "eval_asr.jsonl", [])
    folders = utterances.Folders(corpus=tmp_path, encoder=tmp_path, quantizer=tmp_path)
    shard = UtterancesConfig(list="eval_asr", shard=0, shards=1)
    nothing: Any = SimpleNamespace()
    both = "speech.aligner.whisper.model or speech.recognizer.model"
    for said, told in (
        ("encoder.layer is 9; it must be", "speech.encoder.layer is 9; it must be"),
        ("whisper.model = x: lacks", f"{both} = x: lacks"),
        ("x/encoder.layer", "x/encoder.layer"),
    ):
        monkeypatch.setattr(load, "encoder", Mock(side_effect=ValueError(said)))
        with pytest.raises(ValueError) as raised:
            kmeans.fit_to_corpus(QuantizerSettings(), tmp_path, tmp_path, tmp_path, nothing)
        assert str(raised.value) == told
        with pytest.raises(ValueError) as raised:
            utterances.shard_units(shard, folders, tmp_path, nothing)
        assert str(raised.value) == told
