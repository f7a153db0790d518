"""Checkpoints of fairseq and fairseq2 against transformers' own Wav2Vec2Model, HuBERT and w2v-BERT, files that do not
fit."""

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    HubertConfig,
    HubertModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from src.speech.encoder import SpeechEncoder, huggingface_name, load_encoder, read_checkpoint
from src.speech.kmeans import fit_centroids
from src.speech.nearest import NearestCentroid
from src.speech.protocols import Encoder
from src.speech.published_settings import XLSR2_1B, EncoderSettings

TINY: dict[str, Any] = {
    **XLSR2_1B,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LAYER = 3
SECONDS = (1.0, 0.4, 1.7, 0.4, 0.021, 0.9)


def speech_like(seconds: float, seed: int) -> np.ndarray:
    """Noise that swells and fades, off center."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16_000)) / 16_000
    noise = random.normal(size=len(time)) * (0.1 + 0.1 * np.sin(7 * time + seed))
    return (0.02 + 0.5 * noise + 0.2 * np.sin(2 * np.pi * (150 + 40 * seed) * time)).astype(np.float32)


AUDIOS = [speech_like(seconds, seed) for seed, seconds in enumerate(SECONDS)]

# Written the other way round than in the loader: from the names of transformers.
FAIRSEQ = (
    ("feature_projection.layer_norm", "layer_norm"),
    ("feature_projection.projection", "post_extract_proj"),
    ("encoder.pos_conv_embed.conv.parametrizations.weight.original0", "encoder.pos_conv.0.weight_g"),
    ("encoder.pos_conv_embed.conv.parametrizations.weight.original1", "encoder.pos_conv.0.weight_v"),
    ("encoder.pos_conv_embed.conv.bias", "encoder.pos_conv.0.bias"),
    (".attention.", ".self_attn."),
    (".feed_forward.intermediate_dense", ".fc1"),
    (".feed_forward.output_dense", ".fc2"),
)
FAIRSEQ2 = (
    ("feature_projection.layer_norm", "encoder_frontend.post_extract_layer_norm"),
    ("feature_projection.projection", "encoder_frontend.model_dim_proj"),
    ("encoder.pos_conv_embed.conv.parametrizations.weight.original0", "encoder_frontend.pos_encoder.conv.weight_g"),
    ("encoder.pos_conv_embed.conv.parametrizations.weight.original1", "encoder_frontend.pos_encoder.conv.weight_v"),
    ("encoder.pos_conv_embed.conv.bias", "encoder_frontend.pos_encoder.conv.bias"),
    ("feature_extractor.conv_layers.", "encoder_frontend.feature_extractor.layers."),
    (".attention.out_proj", ".self_attn.output_proj"),
    (".attention.", ".self_attn."),
    (".feed_forward.intermediate_dense", ".ffn.inner_proj"),
    (".feed_forward.output_dense", ".ffn.output_proj"),
    (".final_layer_norm", ".ffn_layer_norm"),
)
PRETRAINING = {
    "fairseq": ("mask_emb", "quantizer.vars", "quantizer.weight_proj.weight", "project_q.weight", "final_proj.bias"),
    "fairseq2": ("masker.temporal_mask_embed", "quantizer.entries", "quantizer.num_updates", "final_target_proj.bias"),
}


def named(weights: Mapping[str, torch.Tensor], style: str) -> dict[str, torch.Tensor]:
    """The weights of a Wav2Vec2Model as fairseq or fairseq2 name them, among those of pretraining."""
    renamed = {}
    for name, tensor in weights.items():
        if name.startswith("encoder.layers.") and ".layer_norm." in name and "final" not in name:
            name = name.replace(".layer_norm.", ".self_attn_layer_norm.")
        for theirs, new in FAIRSEQ if style == "fairseq" else FAIRSEQ2:
            name = name.replace(theirs, new)
        if style == "fairseq" and name.startswith("feature_extractor."):
            name = name.replace(".conv.", ".0.").replace(".layer_norm.", ".2.1.")
        renamed[name] = tensor
    return renamed | {name: torch.zeros(3) for name in PRETRAINING[style]}


@pytest.fixture(scope="module")
def reference() -> Wav2Vec2Model:
    """A random model in which every weight matters: gains and biases too."""
    torch.manual_seed(0)
    model = Wav2Vec2Model(Wav2Vec2Config(**TINY, mask_time_prob=0.0)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def checkpoints(reference: Wav2Vec2Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = {style: folder / f"{style}.pt" for style in ("fairseq", "fairseq2")}
    for style, path in paths.items():
        torch.save({"model": named(reference.state_dict(), style)}, path)
    return paths


def tiny(path: Path, **settings: Any) -> SpeechEncoder:
    return load_encoder(EncoderSettings(model=str(path), architecture=TINY, **{"layer": LAYER} | settings))


@torch.inference_mode()
def hidden_states(model: Wav2Vec2Model, audio: np.ndarray) -> tuple[torch.Tensor, ...]:
    """Of one utterance, by transformers, as the Seamless release prepares audio."""
    samples = torch.from_numpy(audio)[None]
    normalized = torch.nn.functional.layer_norm(samples, samples.shape)
    return model(normalized, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("style", ["fairseq", "fairseq2"])
def test_features_are_the_hidden_states_of_transformers(
    style: str, checkpoints: dict[str, Path], reference: Wav2Vec2Model
) -> None:
    for layer in (1, LAYER, 4):
        encoder = tiny(checkpoints[style], layer=layer)
        for audio in (AUDIOS[0], AUDIOS[2]):
            assert np.array_equal(encoder(audio), hidden_states(reference, audio)[layer][0].numpy()), layer
    assert len(tiny(checkpoints[style]).model.encoder.layers) == LAYER, "layers above are not run"


def test_one_second_has_49_frames(checkpoints: dict[str, Path]) -> None:
    encoder: Encoder = tiny(checkpoints["fairseq"])
    assert encoder(AUDIOS[0]).shape == (49, 32) and encoder.frame_rate == 50
    assert encoder(np.zeros(399, np.float32)).shape == encoder(np.zeros(0, np.float32)).shape == (0, 32)
    assert encoder(np.zeros(400, np.float32)).shape == (1, 32)
    as_int16 = np.round(AUDIOS[0] * 32767).astype(np.int16)
    assert np.allclose(encoder(as_int16), encoder(AUDIOS[0]), atol=1e-2)


def test_batches_change_nothing(checkpoints: dict[str, Path]) -> None:
    encoder = tiny(checkpoints["fairseq2"], batch_seconds=4.0)
    batches = list(encoder.batches(AUDIOS))
    assert [places for places, _ in batches] == [[2, 0], [5, 1, 3, 4]], "longest first, at most 4 s with padding"
    for places, features in batches:
        for i, part in zip(places, features, strict=True):
            alone = encoder(AUDIOS[i])
            assert part.shape == alone.shape
            np.testing.assert_allclose(part.numpy(), alone, atol=1e-5)


def test_pretraining_weights_and_half_precision(checkpoints: dict[str, Path]) -> None:
    half = tiny(checkpoints["fairseq"], dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16
    exact = tiny(checkpoints["fairseq"])(AUDIOS[0])
    assert np.abs(half(AUDIOS[0]) - exact).max() < 0.1 * np.abs(exact).max()


def test_every_name_of_the_real_shape_is_known() -> None:
    with torch.device("meta"):
        model = Wav2Vec2Model(Wav2Vec2Config(**XLSR2_1B, mask_time_prob=0.0))
    weights = model.state_dict()
    for style in ("fairseq", "fairseq2"):
        mapped = [huggingface_name(name) for name in named(weights, style)]
        assert sorted(name for name in mapped if name) == sorted(weights)
    assert sum(parameter.numel() for parameter in model.parameters()) == 962_496_128


def rewrite(path: Path, new: Path, **changes: Any) -> Path:
    """A copy with weights added or, by None, left out."""
    weights = read_checkpoint(path) | changes
    torch.save({"model": {name: value for name, value in weights.items() if value is not None}}, new)
    return new


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder.layers.1.fc1.bias": None}, r"bad\.pt: lacks encoder\.layers\.1\.feed_forward\.interm.*\.bias;"),
        ({"decoder.weight": torch.zeros(2)}, r"bad\.pt: has unknown weights: decoder\.weight;"),
        ({"encoder.layers.4.fc1.bias": torch.zeros(64)}, r"unknown weights: encoder\.layers\.4\.fc1\.bias"),
        ({"layer_norm.bias": torch.zeros(5)}, r"projection\.layer_norm\.bias is of shape \(5,\), .* needs \(16,\)"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit(
    changes: dict[str, Any], message: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        tiny(rewrite(checkpoints["fairseq"], tmp_path / "bad.pt", **changes))
    assert "\n" not in str(raised.value)


def test_layers_above_may_be_missing(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    weights = read_checkpoint(checkpoints["fairseq"])
    cut = {name: None for name in weights if name.startswith(("encoder.layers.3.", "encoder.layer_norm"))}
    path = rewrite(checkpoints["fairseq"], tmp_path / "cut.pt", **cut)
    assert np.array_equal(tiny(path)(AUDIOS[0]), tiny(checkpoints["fairseq"])(AUDIOS[0]))


def test_other_objects_are_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "args.pt"
    torch.save({"model": {"layer_norm.bias": torch.zeros(2)}, "args": argparse.Namespace(layers=48)}, path)
    with pytest.raises(ValueError, match=r"args\.pt: holds argparse\.Namespace beside its weights.*weights_only=False"):
        read_checkpoint(path)


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"encoder\.model = .*missing\.pt: there is no such file"):
        read_checkpoint(tmp_path / "missing.pt")
    (tmp_path / "page.pt").write_text("<html>not found</html>")
    (tmp_path / "hello.pt").write_text("hello world")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04" + bytes(100))
    for name in ("page.pt", "hello.pt", "cut.pt"):
        with pytest.raises(ValueError, match=rf"{name}: cannot be read as a checkpoint") as raised:
            read_checkpoint(tmp_path / name)
        assert "\n" not in str(raised.value)
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(ValueError, match=r"list\.pt: must hold weights by name"):
        read_checkpoint(tmp_path / "list.pt")
    torch.save({"layer_norm.bias": torch.zeros(2)}, tmp_path / "bare.pt")
    assert list(read_checkpoint(tmp_path / "bare.pt")) == ["layer_norm.bias"]


def test_settings_are_light() -> None:
    """A plan reads them without torch."""
    heavy = "{'torch', 'transformers', 'numpy'} & set(sys.modules)"
    code = f"import sys, src.speech.published_settings; sys.exit(str({heavy}) if {heavy} else 0)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_settings_that_are_wrong(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"encoder\.layer is 5; it must be from 1 to 4"):
        tiny(checkpoints["fairseq"], layer=5)
    with pytest.raises(ValueError, match=r"encoder\.architecture\.hidden is no field"):
        load_encoder(EncoderSettings(model=str(checkpoints["fairseq"]), architecture={**TINY, "hidden": 3}, layer=1))
    with pytest.raises(ValueError, match=r"must step by 320 samples \(50 frames a second\), not 160"):
        wrong = {**TINY, "conv_stride": (5, 2, 2, 2, 2, 2, 1)}
        load_encoder(EncoderSettings(model=str(checkpoints["fairseq"]), architecture=wrong, layer=1))
    bad: tuple[dict[str, Any], ...] = ({"model": ""}, {"layer": 0}, {"dtype": "int8"}, {"batch_seconds": 0.0})
    for setting in bad:
        with pytest.raises(ValueError, match=rf"^{next(iter(setting))} is "):
            EncoderSettings(**{"model": "xlsr2_1b_v2.pt", **setting})


@pytest.mark.parametrize("kind", ["hubert_base", "hubert_large", "w2v_bert"])
def test_encoders_of_transformers(kind: str, tmp_path: Path) -> None:
    """Saved to a folder, as on the hub: group norm over time, layer norm, and filter banks."""
    torch.manual_seed(1)
    shape = {name: size for name, size in TINY.items() if name in Wav2Vec2BertConfig().to_dict() and "conv" not in name}
    extractor: Any = Wav2Vec2FeatureExtractor(do_normalize=kind == "hubert_large", return_attention_mask=True)
    if kind == "w2v_bert":
        model: Any = Wav2Vec2BertModel(Wav2Vec2BertConfig(**shape, feature_projection_input_dim=160))
        extractor = SeamlessM4TFeatureExtractor()
    elif kind == "hubert_large":
        model = HubertModel(HubertConfig(**TINY, feat_proj_layer_norm=True))
    else:
        base = {**TINY, "do_stable_layer_norm": False, "feat_extract_norm": "group", "conv_bias": False}
        model = HubertModel(HubertConfig(**base, feat_proj_layer_norm=False))
    model.eval().save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    encoder = load_encoder(EncoderSettings(model=str(tmp_path), layer=LAYER, batch_seconds=8.0))

    for places, features in encoder.batches(AUDIOS):
        for i, part in zip(places, features, strict=True):
            if i == 4:
                assert part.shape == (0, 32), "shorter than a frame"
                continue
            inputs = extractor(AUDIOS[i], sampling_rate=16_000, return_tensors="pt")
            with torch.inference_mode():
                states = model(**inputs, output_hidden_states=True).hidden_states[LAYER][0]
            assert len(part) == len(AUDIOS[i]) // 320 - (len(AUDIOS[i]) % 320 < 80)
            np.testing.assert_allclose(part.numpy(), states[: len(part)].numpy(), atol=2e-5)
            np.testing.assert_allclose(part.numpy(), encoder(AUDIOS[i]), atol=2e-5)


@pytest.fixture(scope="module")
def plain_encoder(checkpoints: dict[str, Path]) -> SpeechEncoder:
    return tiny(checkpoints["fairseq"])


def test_few_units_change_in_half_precision(checkpoints: dict[str, Path], plain_encoder: SpeechEncoder) -> None:
    """Eight bits change more of them than eleven do, and neither many."""
    audios = [speech_like(2.0, seed) for seed in range(6)]
    exact = np.concatenate([plain_encoder(audio) for audio in audios])
    unit = NearestCentroid(fit_centroids(exact, 20))
    expected = np.array(unit(torch.from_numpy(exact)).tolist())
    share = {}
    for dtype in ("float16", "bfloat16"):
        encoder = tiny(checkpoints["fairseq"], dtype=dtype)
        rounded = np.concatenate([encoder(audio) for audio in audios])
        share[dtype] = float((np.array(unit(torch.from_numpy(rounded)).tolist()) != expected).mean())
    assert share["float16"] < share["bfloat16"] < 0.1 and share["float16"] < 0.02


def test_tf32_is_allowed_while_the_encoder_runs_and_no_longer(
    checkpoints: dict[str, Path], plain_encoder: SpeechEncoder
) -> None:
    """A CPU rounds nothing: the features are those of float32."""
    encoder = tiny(checkpoints["fairseq"], dtype="tf32")
    assert encoder.model.dtype == torch.float32
    seen = []
    encoder.model.register_forward_hook(lambda *_: seen.append(torch.backends.cuda.matmul.fp32_precision))
    before = torch.backends.cuda.matmul.fp32_precision
    assert np.array_equal(encoder(AUDIOS[0]), plain_encoder(AUDIOS[0]))
    assert seen == ["tf32"] and before != "tf32" and torch.backends.cuda.matmul.fp32_precision == before
    with pytest.raises(ValueError, match="dtype is 'half'; it must be one of float32, bfloat16, float16, tf32"):
        EncoderSettings("x.pt", dtype="half")
