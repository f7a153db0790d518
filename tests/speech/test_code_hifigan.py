"""The vocoder against transformers' own calls: by itself, in shards of a whole model, with and without durations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import SeamlessM4Tv2Config
from transformers.models.seamless_m4t_v2.modeling_seamless_m4t_v2 import SeamlessM4Tv2CodeHifiGan

from src.speech.code_hifigan import CodeHifiGanVocoder, load_vocoder
from src.speech.protocols import Vocoder
from src.speech.published_settings import CodeHifiGanSettings

TINY: dict[str, Any] = {
    "upsample_initial_channel": 32,
    "unit_hifi_gan_vocab_size": 60,
    "unit_embed_dim": 16,
    "lang_embed_dim": 8,
    "spkr_embed_dim": 8,
    "vocoder_num_langs": 12,
    "vocoder_num_spkrs": 15,
}
UNITS = [7, 7, 7, 1, 1, 30, 59, 59, 0, 7, 1]
RUNS = [7, 1, 30, 59, 0, 7, 1]


@pytest.fixture(scope="module")
def model() -> SeamlessM4Tv2CodeHifiGan:
    """Random, with durations of one to many frames."""
    torch.manual_seed(0)
    model = SeamlessM4Tv2CodeHifiGan(SeamlessM4Tv2Config(**TINY)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("hifi_gan") or "embedding" in name:
                parameter.mul_(3)
        model.dur_predictor.proj.weight.normal_()
        model.dur_predictor.proj.bias.fill_(1.2)
    return model


@pytest.fixture(scope="module")
def folder(model: SeamlessM4Tv2CodeHifiGan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocoder")
    model.save_pretrained(folder)
    return folder


def tiny(folder: Path, **settings: Any) -> CodeHifiGanVocoder:
    return load_vocoder(CodeHifiGanSettings(model=str(folder), **settings))


@torch.inference_mode()
def by_transformers(model: SeamlessM4Tv2CodeHifiGan, units: list[int], language: int, speaker: int) -> np.ndarray:
    ids = {"speaker_id": torch.tensor([[speaker]]), "lang_id": torch.tensor([[language]])}
    return model(torch.tensor([units]), **ids)[0][0].numpy()


def test_predicted_durations(model: SeamlessM4Tv2CodeHifiGan, folder: Path) -> None:
    english: Vocoder = tiny(folder, predict_durations=True)
    audio = english(UNITS)
    assert np.array_equal(audio, by_transformers(model, RUNS, 8, 10)), "repeats count once"
    assert audio.dtype == np.float32 and len(audio) % 320 == 0 and len(audio) > 2 * len(RUNS) * 320
    finnish = tiny(folder, predict_durations=True, language=10, speaker=14)
    assert np.array_equal(finnish(UNITS), by_transformers(model, RUNS, 10, 14))
    for other in ({"language": 10}, {"speaker": 14}):
        assert not np.allclose(tiny(folder, predict_durations=True, **other)(UNITS), audio, atol=1e-4)


def test_a_frame_for_each_unit(model: SeamlessM4Tv2CodeHifiGan, folder: Path) -> None:
    """The same as transformers with a predictor that always says one frame."""
    shortest = SeamlessM4Tv2CodeHifiGan(model.config).eval()
    shortest.load_state_dict(model.state_dict())
    torch.nn.init.zeros_(shortest.dur_predictor.proj.weight)
    torch.nn.init.constant_(shortest.dur_predictor.proj.bias, -5)
    audio = tiny(folder)(UNITS)
    assert np.array_equal(audio, by_transformers(shortest, UNITS, 8, 10))
    assert len(audio) == 320 * len(UNITS) and np.abs(audio).max() > 1e-3


def test_a_part_of_the_whole_model(model: SeamlessM4Tv2CodeHifiGan, folder: Path, tmp_path: Path) -> None:
    """Its weights are spread over the shards of a model that has others, one of which is not even there."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    shards = {
        "model-00002-of-00003.safetensors": {f"vocoder.{name}": weights[name] for name in names[::2]},
        "model-00003-of-00003.safetensors": {f"vocoder.{name}": weights[name] for name in names[1::2]},
    }
    shards["model-00003-of-00003.safetensors"]["t2u_model.lm_head.weight"] = torch.zeros(3)
    for shard, tensors in shards.items():
        save_file(tensors, tmp_path / shard)
    places = {name: shard for shard, tensors in shards.items() for name in tensors}
    places["text_encoder.embed_tokens.weight"] = "model-00001-of-00003.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    model.config.save_pretrained(tmp_path)
    assert np.array_equal(tiny(tmp_path)(UNITS), tiny(folder)(UNITS))

    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ValueError, match=r"vocoder\.model = .*: lacks model-00002-of-00003\.safetensors"):
        tiny(tmp_path)


def test_units_that_are_wrong(folder: Path) -> None:
    for durations in (False, True):
        vocoder = tiny(folder, predict_durations=durations)
        assert vocoder.clusters == 60
        assert len(vocoder([])) == 0
        for wrong in (60, -1):
            with pytest.raises(ValueError, match=r"units must be from 0 to 59, not"):
                vocoder([3, wrong])


def test_settings_that_are_wrong(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"vocoder\.language is 12; it must be from 0 to 11"):
        tiny(folder, language=12)
    with pytest.raises(ValueError, match=r"vocoder\.speaker is 15; it must be from 0 to 14"):
        tiny(folder, speaker=15)
    bad: tuple[dict[str, Any], ...] = ({"model": ""}, {"language": -1}, {"speaker": -1}, {"dtype": "float64"})
    for setting in bad:
        with pytest.raises(ValueError, match=rf"^{next(iter(setting))} is "):
            CodeHifiGanSettings(**setting)


def test_weights_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    SeamlessM4Tv2Config(**TINY).save_pretrained(tmp_path)
    first = min(weights)
    for changed, message in (
        ({name: tensor for name, tensor in weights.items() if name != first}, f"{first} is missing"),
        (weights | {"decoder.weight": torch.zeros(2)}, "decoder.weight is unknown"),
        (weights | {first: torch.zeros(2)}, rf"{first} is of shape \(2,\), and its configuration needs"),
        ({"speech_encoder.weight": torch.zeros(2)}, f"{first} is missing"),
    ):
        save_file(changed, tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match=message):
            tiny(tmp_path)
