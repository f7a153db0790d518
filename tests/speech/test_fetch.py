"""What the step `pretrained` leaves: from folders, pickles, addresses and the hub's cache, and what it refuses. That
artifacts compute what the originals do is tested where they are used, and here for HuBERT."""

import argparse
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from src.data import jsonl
from src.grid.typed import typed
from src.model import hub_files
from src.speech import kmeans, load
from src.speech.audio import read_audio, write_audio
from src.speech.code_hifigan import load_vocoder
from src.speech.kmeans import fit_centroids
from src.speech.published_settings import CodeHifiGanSettings, QuantizerSettings, SpeechT5Settings
from src.speech.speecht5 import load_synthesizer
from src.steps.pretrained import (
    Pretrained,
    PretrainedCodeHifiGan,
    PretrainedEncoder,
    PretrainedSpeechT5,
    PretrainedWhisper,
)
from tests.speech.published_components import make_components, train_whisper
from tests.speech.test_encoder import AUDIOS, LAYER, TINY

CLUSTERS = 20


@pytest.fixture(scope="module")
def components(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("components")
    make_components(folder, CLUSTERS)
    (folder / "vocoder" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    return folder


KINDS: dict[str, type[Pretrained]] = {
    "encoder": PretrainedEncoder,
    "whisper": PretrainedWhisper,
    "speecht5": PretrainedSpeechT5,
    "code_hifigan": PretrainedCodeHifiGan,
}


def run(settings: dict[str, Any], out: Path) -> dict[str, Any]:
    """Run the step whose settings.json is to hold `settings`, defaults left out."""
    own = {key: value for key, value in settings.items() if key in ("component", "centroids", "clusters")}
    config = {key: value for key, value in settings.items() if key not in own}
    step = typed(KINDS[settings["component"]], {**own, "config": config})
    out.mkdir()
    work: Any = SimpleNamespace(work=out.with_name(f"{out.name}-work"))
    summary = step.run({}, out, work)
    written = json.loads((out / "settings.json").read_text(encoding="utf-8"))
    assert {key: written[key] for key in settings} == json.loads(json.dumps(settings))
    return summary


def encoder(components: Path, **changes: Any) -> dict[str, Any]:
    files = {"model": str(components / "encoder.pt"), "centroids": str(components / "kmeans.npy")}
    return {"component": "encoder", **files, "layer": LAYER, "architecture": TINY, "clusters": CLUSTERS, **changes}


def test_an_encoder_and_its_centroids(components: Path, tmp_path: Path) -> None:
    summary = run(encoder(components), tmp_path / "encoder")
    files = sorted(str(path.relative_to(tmp_path / "encoder")) for path in (tmp_path / "encoder").rglob("*.*"))
    weights, settings = "model/model.safetensors", "settings.json"
    assert files == ["centroids.safetensors", "model/config.json", weights, settings]
    names = load_file(tmp_path / "encoder" / weights)
    assert {int(name.split(".")[2]) for name in names if name.startswith("encoder.layers.")} == set(range(LAYER))
    used = summary["sources"]
    digest = hashlib.sha256((components / "encoder.pt").read_bytes()).hexdigest()
    assert used[0]["files"]["encoder.pt"]["sha256"] == digest and used[1]["files"].keys() == {"kmeans.npy"}
    run(encoder(components), tmp_path / "again")
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "encoder" / file).read_bytes()


def test_from_an_address(components: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the Seamless release publishes it; the network is not part of the test."""
    address = "https://dl.fbaipublicfiles.com/seamlessM4T/models/unit_extraction/"
    asked = []

    def download(url: str, folder: Path) -> Path:
        asked.append((url, folder))
        return components / {"xlsr2_1b_v2.pt": "encoder.pt", "kmeans_10k.npy": "kmeans.npy"}[url.split("/")[-1]]

    monkeypatch.setattr(hub_files, "download", download)
    urls = {"model": f"{address}xlsr2_1b_v2.pt", "centroids": f"{address}kmeans_10k.npy"}
    summary = run(encoder(components, **urls), tmp_path / "encoder")
    assert asked == [(url, tmp_path / "encoder-work" / "downloads") for url in urls.values()]
    assert "CC-BY-NC 4.0" in summary["licence"] and ";" not in summary["licence"]
    assert [used["source"] for used in summary["sources"]] == list(urls.values())
    assert np.array_equal(
        load.encoder(tmp_path / "encoder")(AUDIOS[0]),
        load.encoder(_fetched(components, tmp_path / "local"))(AUDIOS[0]),
    )


def _fetched(components: Path, out: Path) -> Path:
    run(encoder(components), out)
    return out


def test_a_hubert_with_pickled_weights_and_fitted_centroids(tmp_path: Path) -> None:
    """Published as pytorch_model.bin alone, as HuBERT is; its centroids are fitted to what transformers computes."""
    torch.manual_seed(1)
    base = {**TINY, "do_stable_layer_norm": False, "feat_extract_norm": "group", "conv_bias": False}
    model = HubertModel(HubertConfig(**base, feat_proj_layer_norm=False)).eval()
    folder = tmp_path / "hubert"
    model.config.save_pretrained(folder)
    weights = model.state_dict()
    del weights["masked_spec_embed"]  # of training alone; facebook/wav2vec2-base-960h lacks it, too
    torch.save(weights, folder / "pytorch_model.bin")
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    extractor.save_pretrained(folder)
    summary = run({"component": "encoder", "model": str(folder), "layer": 2}, tmp_path / "encoder")
    names = ["config.json", "preprocessor_config.json", "pytorch_model.bin"]
    assert list(summary["sources"][0]["files"]) == names

    corpus = tmp_path / "corpus"
    for i, audio in enumerate(AUDIOS):
        write_audio(corpus / "audio" / f"{i}.flac", audio)
    jsonl.write(corpus / "asr.jsonl", ({"id": str(i), "audio": f"audio/{i}.flac"} for i in range(len(AUDIOS))))
    settings = QuantizerSettings(clusters=6, fit_utterances=99, fit_frames=10_000, seed=3)
    (tmp_path / "kmeans").mkdir()
    reports: list[dict[str, float]] = []
    context: Any = SimpleNamespace(report=lambda **numbers: reports.append(numbers))
    folders = (corpus, tmp_path / "encoder", tmp_path / "kmeans")
    summary = kmeans.fit_to_corpus(settings, *folders, context)

    frames = []
    for i in range(len(AUDIOS)):
        audio = read_audio(corpus / "audio" / f"{i}.flac")
        if len(audio) >= 400:
            inputs_ = extractor(audio, sampling_rate=16_000, return_tensors="pt")
            with torch.inference_mode():
                frames.append(model(**inputs_, output_hidden_states=True).hidden_states[2][0].numpy())
    fitted = load_file(tmp_path / "kmeans" / "centroids.safetensors")["centroids"].numpy()
    shuffled = {tuple(row) for row in np.round(fitted, 3).tolist()}
    assert summary["frames"] == len(np.concatenate(frames)) and fitted.shape == (6, 32)
    expected = fit_centroids(np.concatenate(frames), 6, 3)
    assert shuffled == {tuple(row) for row in np.round(expected, 3).tolist()}
    assert "masked_spec_embed" not in load_file(tmp_path / "encoder" / "model" / "model.safetensors"), "random"
    assert load.quantizer(tmp_path / "kmeans").clusters == 6 and reports[-1]["done"] == reports[-1]["total"] == 6

    fewer = kmeans.fit_to_corpus(replace(settings, fit_frames=30, fit_utterances=3), *folders, context)
    assert 10 < fewer["frames"] <= 30
    with pytest.raises(ValueError, match=r"^speech\.quantizer\.clusters is 64; it must be at most the .* frames"):
        kmeans.fit_to_corpus(replace(settings, clusters=64, fit_frames=12), *folders, context)


def test_one_voice_out_of_the_hubs_dataset(components: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the layout of the hub's cache, without a network."""
    snapshot = tmp_path / "hub" / "datasets--Matthijs--cmu-arctic-xvectors" / "snapshots" / ("0123456789" * 4)
    snapshot.mkdir(parents=True)
    (snapshot / "spkrec-xvect.zip").write_bytes((components / "spkrec-xvect.zip").read_bytes())
    (snapshot / "README.md").write_text("---\nlicense: mit\n---\n")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(snapshot.name)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folders: dict[str, Any] = {
        "model": str(components / "tts"), "vocoder": str(components / "hifigan"), "speaker": 1
    }  # fmt: skip
    config = {"component": "speecht5", "xvectors": "Matthijs/cmu-arctic-xvectors", **folders}
    summary = run(config, tmp_path / "voice")
    assert [used["commit"] for used in summary["sources"]] == [None, None, snapshot.name]
    zipped = SpeechT5Settings(**{**folders, "xvectors": str(components / "spkrec-xvect.zip")})
    expected = load_synthesizer(zipped).speak(["So it is."])[0]
    assert np.array_equal(load.synthesizer(tmp_path / "voice").speak(["So it is."])[0], expected)
    with pytest.raises(ValueError, match=r"^speech\.synthesizer\.xvectors: somebody/else is .*`hf download somebody"):
        run(config | {"xvectors": "somebody/else"}, tmp_path / "other")
    with pytest.raises(ValueError, match=r"synthesizer\.speaker is 9; it must be below 4"):
        run(config | {"speaker": 9}, tmp_path / "third")


def test_the_vocoder_alone(components: Path, tmp_path: Path) -> None:
    source = components / "vocoder"
    config = {"component": "code_hifigan", "model": str(source), "clusters": CLUSTERS}
    summary = run(config, tmp_path / "vocoder")
    assert summary["licence"] == "cc-by-nc-4.0"
    units = [3, 3, 7, 19]
    expected = load_vocoder(CodeHifiGanSettings(model=str(source)))(units)
    assert np.array_equal(load.vocoder(tmp_path / "vocoder")(units), expected)
    right = r"must be a vocoder of the 500 units of speech\.quantizer, not of 20 others"
    with pytest.raises(ValueError, match=right):
        run(config | {"clusters": 500}, tmp_path / "other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"vocoder\.model is .*empty'; it must be a SeamlessM4T v2: it has no config"):
        run(config | {"model": str(tmp_path / "empty")}, tmp_path / "third")


def test_whisper_is_copied_as_it_is(components: Path, tmp_path: Path) -> None:
    source = components / "whisper"
    train_whisper(source, [("one two", AUDIOS[0])], steps=2)
    (source / "flax_model.msgpack").write_bytes(b"not needed")
    run({"component": "whisper", "model": str(source)}, tmp_path / "whisper")
    copied = {path.name: path.read_bytes() for path in (tmp_path / "whisper" / "model").iterdir()}
    assert "flax_model.msgpack" not in copied and copied.keys() < {path.name for path in source.iterdir()}
    assert all((source / name).read_bytes() == content for name, content in copied.items())
    heard = load.recognizer(tmp_path / "whisper")
    assert heard([AUDIOS[0]]) == load.whisper(tmp_path / "whisper")([AUDIOS[0]])

    weights = load_file(source / "model.safetensors")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for name in copied.keys() - {"model.safetensors"}:
        (pickled / name).write_bytes((source / name).read_bytes())
    torch.save(weights, pickled / "pytorch_model.bin")
    run({"component": "whisper", "model": str(pickled)}, tmp_path / "converted")
    converted = load_file(tmp_path / "converted" / "model" / "model.safetensors")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in converted.items())


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "whisper"
    train_whisper(folder, [("one two", AUDIOS[0])], steps=2)
    return folder


def refused(config: dict[str, Any], out: Path) -> str:
    """The one line with which the step ends."""
    with pytest.raises(ValueError) as raised:
        run(config, out)
    assert "\n" not in str(raised.value)
    return str(raised.value)


WHISPERS = "speech.aligner.whisper.model or speech.recognizer.model "


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("weights", "cannot be read, as if damaged or cut short (SafetensorError: "),
        ("a weight", "has no model.decoder.layer_norm.bias among its weights, which the WhisperFor"),
        ("a shape", "has in another shape model.decoder.layer_norm.bias among its weights"),
        ("no tokenizer", "it must be a Whisper: it has no tokenizer.json"),
        ("no preprocessor", "must be a Whisper: it has no preprocessor_config.json"),
        ("tokenizer", "cannot be opened: "),
        ("config", "must be a Whisper, not a model of type that its config.json does not tell"),
    ],
)
def test_a_broken_whisper_does_not_pass(whisper: Path, tmp_path: Path, broken: str, said: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whisper, folder)
    weights = folder / "model.safetensors"
    if broken == "weights":
        weights.write_bytes(weights.read_bytes()[:-500])
    elif broken in ("a weight", "a shape"):
        tensors = load_file(weights)
        bias = tensors.pop("model.decoder.layer_norm.bias")
        changed = {"model.decoder.layer_norm.bias": bias[:-1].clone()} if broken == "a shape" else {}
        save_file(tensors | changed, weights, {"format": "pt"})
    elif broken == "tokenizer":
        (folder / "tokenizer.json").write_text("{}")
    elif broken == "config":
        (folder / "config.json").write_text("not JSON")
    else:
        name = {"no tokenizer": "tokenizer.json", "no preprocessor": "preprocessor_config.json"}[broken]
        (folder / name).unlink()
    told = refused({"component": "whisper", "model": str(folder)}, tmp_path / "out")
    assert told.startswith(WHISPERS) and said in told and str(folder) in told


def test_a_language_that_whisper_does_not_hear(whisper: Path, tmp_path: Path) -> None:
    config = {"component": "whisper", "model": str(whisper)}
    told = refused(config | {"language": "xx"}, tmp_path / "xx")
    names = "speech.aligner.whisper.language or speech.recognizer.language"
    assert told == f"{names} is 'xx'; it must be one of en, fi"
    for i, language in enumerate(("fi", "Finnish", None)):
        run(config | {"language": language}, tmp_path / str(i))


def test_models_of_another_kind(components: Path, whisper: Path, tmp_path: Path) -> None:
    """Whose missing weights transformers would fill with random numbers."""
    llama = tmp_path / "llama"
    llama.mkdir()
    (llama / "config.json").write_text(json.dumps({"model_type": "llama"}))
    voice = {"component": "speecht5", "model": str(components / "tts"), "vocoder": str(components / "hifigan"),
             "xvectors": str(components / "spkrec-xvect.zip"), "speaker": 1}  # fmt: skip
    kind = r"a speech encoder (wav2vec 2.0, HuBERT, WavLM or w2v-BERT)"
    for config, setting, source, right in (
        (encoder(components, model=str(whisper)), "encoder.model", whisper, f"{kind}, not a model of type whisper"),
        (encoder(components, model=str(llama)), "encoder.model", llama, f"{kind}, not a model of type llama"),
        (encoder(components, model=str(tmp_path)), "encoder.model", tmp_path, f"{kind}: it has no config.json"),
        (voice | {"vocoder": str(whisper)}, "synthesizer.vocoder", whisper,
         "a HiFi-GAN of SpeechT5, not a model of type whisper"),
        (voice | {"model": str(whisper)}, "synthesizer.model", whisper, "a SpeechT5, not a model of type whisper"),
        ({"component": "code_hifigan", "model": str(whisper), "clusters": CLUSTERS}, "vocoder.model", whisper,
         "a SeamlessM4T v2, not a model of type whisper"),
    ):  # fmt: skip
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        assert refused(config, out) == f"speech.{setting} is '{source}'; it must be {right}"
    told = refused({"component": "whisper", "model": str(components / "tts")}, tmp_path / "voice")
    assert told == f"{WHISPERS}is '{components / 'tts'}'; it must be a Whisper, not a model of type speecht5"


def test_a_voice_that_lacks_something(components: Path, tmp_path: Path) -> None:
    voice = {"component": "speecht5", "model": str(components / "tts"), "vocoder": str(components / "hifigan"),
             "xvectors": str(components / "spkrec-xvect.zip"), "speaker": 1}  # fmt: skip
    silent, hoarse = tmp_path / "silent", tmp_path / "hoarse"
    shutil.copytree(components / "tts", silent)
    (silent / "spm_char.model").unlink()
    told = refused(voice | {"model": str(silent)}, tmp_path / "first")
    assert told == f"speech.synthesizer.model is '{silent}'; it must be a SpeechT5: it has no spm_char.model"
    shutil.copytree(components / "hifigan", hoarse)
    weights = load_file(hoarse / "model.safetensors")
    del weights["conv_pre.weight"], weights["conv_pre.bias"]
    save_file(weights, hoarse / "model.safetensors", {"format": "pt"})
    told = refused(voice | {"vocoder": str(hoarse)}, tmp_path / "second")
    assert told.startswith(f"speech.synthesizer.vocoder = {hoarse}: has no conv_pre.bias and 1 more among its weights")


def test_a_message_names_what_was_asked_for_and_not_the_copy(components: Path, tmp_path: Path) -> None:
    source = tmp_path / "vocoder"
    shutil.copytree(components / "vocoder", source)
    weights = load_file(source / "model.safetensors")
    del weights["dur_predictor.conv1.bias"]
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    told = refused({"component": "code_hifigan", "model": str(source), "clusters": CLUSTERS}, tmp_path / "out")
    assert told.startswith(f"speech.vocoder.model = {source}: its weights are not those of")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clusters": 21}, r"^speech\.quantizer\.clusters is 21; it must be the 20 of .*kmeans\.npy"),
        ({"layer": 9}, r"^speech\.encoder\.layer is 9; it must be from 1 to 4"),
        ({"model": "missing.pt"}, r"^speech\.encoder\.model = missing\.pt: there is no such file"),
        ({"model": "nobody"}, r"^speech\.encoder\.model: nobody is neither a folder nor the id of a hub repository"),
        ({"centroids": "missing.npy"}, r"^speech\.quantizer\.centroids is missing\.npy; it must be a \.npy file of "),
    ],
)
def test_what_does_not_fit(components: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        run(encoder(components, **changes), tmp_path / "encoder")
    assert "\n" not in str(raised.value)


def test_centroids_of_another_encoder(components: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((CLUSTERS, 48), np.float32))
    with pytest.raises(ValueError, match=r"quantizer\.centroids is .*; it must be of the 32 dimensions .*, not of 48"):
        run(encoder(components, centroids=str(tmp_path / "wide.npy")), tmp_path / "encoder")


def test_other_objects_are_not_unpickled(components: Path, tmp_path: Path) -> None:
    for name in ("config.json", "spm_char.model", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((components / "tts" / name).read_bytes())
    torch.save({"model": argparse.Namespace(layers=2)}, tmp_path / "pytorch_model.bin")
    folders = {"vocoder": str(components / "hifigan"), "xvectors": str(components / "spkrec-xvect.zip")}
    with pytest.raises(ValueError, match=r"speecht5: its pickled weights hold argparse\.Namespace") as raised:
        run({"component": "speecht5", "model": str(tmp_path), **folders}, tmp_path / "voice")
    assert "\n" not in str(raised.value)
