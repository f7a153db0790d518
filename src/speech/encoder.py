"""Speech encoders: audio to the hidden states of one layer of a pretrained transformer, 50 frames a second.

    encoder = load_encoder(EncoderSettings(model="xlsr2_1b_v2.pt", layer=35))
    features = encoder(audio)

The paper's units come from XLSR2-1B-v2, which the Seamless release publishes as a fairseq checkpoint alone. Its weights
go into transformers' Wav2Vec2Model, which computes the same. HuBERT, w2v-BERT and other encoders of transformers are
loaded as they are. Layers above the one that is asked for are neither kept nor run.

The Seamless weights are for non-commercial use: CC-BY-NC 4.0 or the Seamless license, as the release says of each file.
"""

import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, Wav2Vec2Config, Wav2Vec2Model

from src.speech.audio import SAMPLE_RATE, to_float32
from src.speech.batches import by_length, default_device, within_memory
from src.speech.precision import products, weights
from src.speech.published_settings import XLSR2_1B, EncoderSettings
from src.speech.weights import read_model

_CONVOLUTION = r"(?:feature_extractor\.conv_layers|encoder_frontend\.feature_extractor\.layers)\.(\d+)"
_LAYER = r"(encoder\.layers\.\d+)"
_MODULES = {
    _CONVOLUTION + r"\.(?:0|conv)": r"feature_extractor.conv_layers.\1.conv",
    _CONVOLUTION + r"\.(?:2\.1|layer_norm)": r"feature_extractor.conv_layers.\1.layer_norm",
    r"layer_norm|encoder_frontend\.post_extract_layer_norm": "feature_projection.layer_norm",
    r"post_extract_proj|encoder_frontend\.model_dim_proj": "feature_projection.projection",
    r"encoder\.pos_conv\.0|encoder_frontend\.pos_encoder\.conv": "encoder.pos_conv_embed.conv",
    _LAYER + r"\.self_attn\.([qkv]_proj)": r"\1.attention.\2",
    _LAYER + r"\.self_attn\.(?:out|output)_proj": r"\1.attention.out_proj",
    _LAYER + r"\.self_attn_layer_norm": r"\1.layer_norm",
    _LAYER + r"\.(?:fc1|ffn\.inner_proj)": r"\1.feed_forward.intermediate_dense",
    _LAYER + r"\.(?:fc2|ffn\.output_proj)": r"\1.feed_forward.output_dense",
    _LAYER + r"\.(?:final_layer_norm|ffn_layer_norm)": r"\1.final_layer_norm",
    r"encoder\.layer_norm": "encoder.layer_norm",
}
"""Modules of wav2vec 2.0 in fairseq and in fairseq2 (whose names begin alike), and in transformers."""
_PARAMETERS = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
_PRETRAINING = {"mask_emb", "masker", "quantizer", "project_q", "final_proj", "final_target_proj"}
"""What fairseq and fairseq2 keep for pretraining alone: the first parts of names."""


def huggingface_name(name: str) -> str | None:
    """The name in transformers' Wav2Vec2Model of a weight of fairseq or fairseq2; None for one that it lacks."""
    module, _, parameter = name.rpartition(".")
    for pattern, ours in _MODULES.items():
        if match := re.fullmatch(pattern, module):
            return f"{match.expand(ours)}.{_PARAMETERS.get(parameter, parameter)}"
    return None


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights of a .pt file, from its entry "model" if it has one. Nothing but tensors and plain containers is
    unpickled. Raises ValueError for a file that is not there, holds other objects, or has no weights."""
    if not path.is_file():
        raise ValueError(f"encoder.model = {path}: there is no such file")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if not found:
            raise ValueError(f"encoder.model = {path}: cannot be read as a checkpoint of torch.save") from error
        raise ValueError(
            f"encoder.model = {path}: holds {found[1]} beside its weights, and weights alone are unpickled; if you "
            "trust the file, keep its weights: torch.save(torch.load(old, weights_only=False)['model'], new)"
        ) from error
    except Exception as error:  # whatever its unpickler makes of the bytes of another file
        why = type(error).__name__
        raise ValueError(f"encoder.model = {path}: cannot be read as a checkpoint of torch.save ({why})") from error
    weights = loaded.get("model", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"encoder.model = {path}: must hold weights by name, or such under 'model'")
    return weights


def load_wav2vec2(path: Path, layer: int, architecture: Mapping[str, Any]) -> Wav2Vec2Model:
    """A fairseq or fairseq2 checkpoint as a Wav2Vec2Model that ends with `layer`.

    architecture: names and values of Wav2Vec2Config. Raises ValueError for weights that are missing, unknown or of
    another shape than the architecture's.
    """
    if unknown := sorted(set(architecture) - set(Wav2Vec2Config().to_dict())):
        raise ValueError(f"encoder.architecture.{unknown[0]} is no field of transformers' Wav2Vec2Config")
    config = Wav2Vec2Config(**architecture, mask_time_prob=0.0, mask_feature_prob=0.0)
    layers = shorten(config, layer)
    with torch.device("meta"):
        model = end_with_residual(Wav2Vec2Model(config))
    expected = model.state_dict()
    renamed: dict[str, Tensor] = {}
    strangers: list[str] = []
    for name, tensor in read_checkpoint(path).items():
        ours = huggingface_name(name)
        if ours is not None and ours in expected:
            renamed[ours] = tensor
        elif ours is None or not _left_out(ours, layer, layers, config):
            strangers += [] if name.split(".")[0] in _PRETRAINING else [name]
    _refuse(path, "lacks", sorted(set(expected) - set(renamed)))
    _refuse(path, "has unknown weights:", strangers)
    for name, tensor in renamed.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, and the architecture needs {tuple(expected[name].shape)}"
            raise ValueError(f"encoder.model = {path}: {name} is of shape {shapes}")
    model.load_state_dict(renamed, assign=True)
    return model


def _left_out(name: str, layer: int, layers: int, config: Wav2Vec2Config) -> bool:
    """Whether a weight belongs to what comes after `layer`."""
    if found := re.match(r"encoder\.layers\.(\d+)\.", name):
        return layer <= int(found[1]) < layers
    return name.startswith("encoder.layer_norm.") and bool(config.do_stable_layer_norm)


def _refuse(path: Path, what: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(
            f"encoder.model = {path}: {what} {', '.join(names[:3])}{more}; is speech.encoder.architecture that of the "
            "checkpoint?"
        )


def shorten(config: Any, layer: int) -> int:
    """Let `config` end with `layer`; the number of layers that it had. Raises ValueError for a layer it lacks."""
    layers = int(config.num_hidden_layers)
    if layer > layers:
        raise ValueError(f"encoder.layer is {layer}; it must be from 1 to {layers}, the layers of the model")
    config.num_hidden_layers = layer
    return layers


def end_with_residual(model: Any) -> Any:
    """Take out the norm that encoders with the norm before each layer have after the last: hidden states have none."""
    if getattr(model.config, "do_stable_layer_norm", False):
        model.encoder.layer_norm = nn.Identity()
    return model


def layer_normalized(audio: npt.NDArray[np.float32]) -> Tensor:
    """Audio [samples] with mean 0 and variance 1, as fairseq and the Seamless release do it (epsilon 1e-5)."""
    samples = torch.from_numpy(audio)
    return nn.functional.layer_norm(samples, samples.shape)


class SpeechEncoder:
    """A transformer whose last layer gives the features."""

    def __init__(
        self,
        model: Any,
        prepare: Callable[[npt.NDArray[np.float32]], Tensor],
        frames: Callable[[int], int],
        batch_seconds: float,
        dtype: str = "float32",
    ) -> None:
        """`prepare`: audio [samples] to the model's input [time, ...]; `frames`: features of so many samples; `dtype`:
        the setting, which the model's weights have already."""
        self.model = model.eval()
        self.prepare = prepare
        self.frames = frames
        self.dtype = dtype
        self.dimensions = int(model.config.hidden_size)
        self.frame_rate = 50.0
        # Group norm runs over time, where padding would count.
        pads = getattr(model.config, "feat_extract_norm", "layer") == "layer"
        self.batch_seconds = batch_seconds if pads else 0.0

    def __call__(self, audio: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Features [frames, dimensions] of audio [samples]; 49 frames of 1.0 s, none of less than 25 ms."""
        return self._features([to_float32(audio)])[0].float().cpu().numpy()

    def batches(self, audios: Sequence[npt.NDArray[Any]]) -> Iterator[tuple[list[int], list[Tensor]]]:
        """Places in `audios` and their features [frames, dimensions] on the model's device, a batch at a time."""
        lengths = [len(audio) for audio in audios]
        batches = by_length(lengths, self.batch_seconds * SAMPLE_RATE)

        def features_of(places: list[int]) -> list[Tensor]:
            return self._features([to_float32(audios[i]) for i in places])

        yield from within_memory(batches, features_of, lambda places: len(places) * max(lengths[i] for i in places))

    @torch.inference_mode()
    def _features(self, audios: Sequence[npt.NDArray[np.float32]]) -> list[Tensor]:
        counts = [self.frames(len(audio)) for audio in audios]
        heard = [i for i, count in enumerate(counts) if count > 0]
        device, dtype = self.model.device, self.model.dtype
        features = [torch.zeros(0, self.dimensions, device=device, dtype=dtype) for _ in audios]
        if heard:
            inputs = [self.prepare(audios[i]) for i in heard]
            lengths = torch.tensor([len(part) for part in inputs])
            mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
            with products(self.dtype):
                states = self.model(
                    pad_sequence(inputs, batch_first=True).to(device, dtype),
                    attention_mask=None if bool(mask.all()) else mask.to(device),
                ).last_hidden_state
            for i, state in zip(heard, states, strict=True):
                features[i] = state[: counts[i]]
        return features


def load_encoder(settings: EncoderSettings, device: torch.device | None = None) -> SpeechEncoder:
    """The encoder of `settings`, on `device` (by default the GPU where there is one).

    Raises ValueError for a checkpoint that does not fit, a layer that does not exist, or a model that does not give 50
    frames a second.
    """
    model: Any
    prepare: Callable[[npt.NDArray[np.float32]], Tensor] = layer_normalized
    dtype = weights(settings.dtype)
    if settings.model.endswith(".pt"):
        model = load_wav2vec2(Path(settings.model), settings.layer, settings.architecture or XLSR2_1B)
    else:
        model = end_with_residual(_read(settings, dtype))
        if not _is_wav2vec2(settings):
            extractor = AutoFeatureExtractor.from_pretrained(settings.model, revision=settings.revision)
            prepare = _extracted(extractor, model)
    model.to(device or default_device(), dtype)
    if model.main_input_name == "input_features":
        kernels, strides = (400, 2), (160, 2)  # w2v-BERT: two filter banks of 25 ms, 10 ms apart, are one frame
    else:
        kernels, strides = model.config.conv_kernel, model.config.conv_stride
    if (step := int(np.prod(strides))) * 50 != SAMPLE_RATE:
        raise ValueError(f"encoder.model = {settings.model}: must step by 320 samples (50 frames a second), not {step}")

    def frames(samples: int) -> int:
        for kernel, stride in zip(kernels, strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    return SpeechEncoder(model, prepare, frames, settings.batch_seconds, settings.dtype)


def _read(settings: EncoderSettings, dtype: Any) -> Any:
    """A model of transformers up to the layer, without what is for training alone or comes after the layers."""
    config: Any = AutoConfig.from_pretrained(settings.model, revision=settings.revision)
    shorten(config, settings.layer)
    config.add_adapter = False
    config.mask_time_prob = config.mask_feature_prob = 0.0
    options: dict[str, Any] = {"revision": settings.revision, "config": config, "dtype": dtype}
    return read_model(AutoModel, settings.model, "encoder.model", settings.model, **options)


def _is_wav2vec2(settings: EncoderSettings) -> bool:
    """Whether the model is a .pt checkpoint that `save_encoder` has written: one without a feature extractor."""
    folder = Path(settings.model)
    return folder.is_dir() and not (folder / "preprocessor_config.json").exists()


def save_encoder(settings: EncoderSettings, out: Path) -> None:
    """Write the encoder of `settings` (a .pt file or a folder) as a folder of transformers, up to its layer and in the
    type of its weights. Raises ValueError as `load_encoder` does."""
    if settings.model.endswith(".pt"):
        model: Any = load_wav2vec2(Path(settings.model), settings.layer, settings.architecture or XLSR2_1B)
    else:
        model = _read(settings, "auto")
        AutoFeatureExtractor.from_pretrained(settings.model).save_pretrained(out)
    if getattr(model.config, "do_stable_layer_norm", False):
        # It is taken out again when the encoder is loaded, but a checkpoint without it would not be whole.
        norm = nn.LayerNorm(model.config.hidden_size, eps=model.config.layer_norm_eps)
        model.encoder.layer_norm = norm.to(model.dtype)
    model.save_pretrained(out)


def _extracted(extractor: Any, model: Any) -> Callable[[npt.NDArray[np.float32]], Tensor]:
    """The input that the feature extractor of a transformers model makes of audio, without its padding."""

    def prepare(audio: npt.NDArray[np.float32]) -> Tensor:
        made = extractor(audio, sampling_rate=SAMPLE_RATE, return_attention_mask=True, return_tensors="pt")
        return made[model.main_input_name][0][made["attention_mask"][0].bool()]

    return prepare
