"""The settings of the published speech components, and their checks. Imports no torch: a plan is checked with them.

A `model` is a folder or the name of a repository of the Hugging Face hub, at `revision` where one is given. Sizes of
batches are settings like the others, and so part of a step's identity: no result depends on them by design, but sums of
another shape round differently, and a frame between two centroids may fall to the other one. A batch that does not fit
into the memory of the GPU is halved, so that nobody has to change them in the midst of a run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from src.checks import require, seed

DTYPES = ("float32", "bfloat16", "float16")
PRECISIONS = (*DTYPES, "tf32")
SILENCES = ("previous", "drop")
BACKENDS = ("transformers", "whisper_timestamped")
LISTS = ("asr", "sqa", "eval_qa", "eval_asr")
"""Lists of the corpus that become units. The examples of synthesis are those of "asr" whose words could be aligned."""
ALIGNED = ("asr", "sqa")
"""Lists whose words are aligned; in "sqa" those of the answers."""
SPOKEN = ("sqa", "eval_qa")
"""Lists that the synthesizer speaks; in "eval_qa" the questions that come without audio."""
SEAMLESS = "facebook/seamless-m4t-v2-large"

XLSR2_1B: dict[str, Any] = {
    "hidden_size": 1280,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "intermediate_size": 5120,
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
}
"""The shape of XLSR2-1B-v2, in the names of transformers' Wav2Vec2Config."""


@dataclass(frozen=True)
class EncoderSettings:
    """The speech encoder whose hidden states become units."""

    model: str
    """A .pt checkpoint of fairseq or fairseq2 (XLSR2-1B-v2), as a path or an https address, or a model of transformers
    (HuBERT, w2v-BERT)."""
    layer: int = 35
    """Counted from 1, as in `hidden_states[35]`: the output of the 35th layer."""
    architecture: Mapping[str, Any] | None = None
    """The shape of a .pt checkpoint, in the names of transformers' Wav2Vec2Config; null: that of XLSR2-1B-v2. A model
    of transformers brings its own."""
    revision: str = "main"
    dtype: str = "float32"
    """The type of weights and activations, or "tf32": float32 with faster, rounded products on a GPU. Units differ from
    those of float32 in a few frames (docs/benchmarks.md)."""
    batch_seconds: float = 240.0
    """Most audio in a batch, padding included; a longer utterance is a batch of its own."""

    def __post_init__(self) -> None:
        require(bool(self.model), "model", self.model, "a .pt file, a folder or the name of a hub repository")
        require(self.layer >= 1, "layer", self.layer, "1 or more")
        require(self.dtype in PRECISIONS, "dtype", self.dtype, f"one of {', '.join(PRECISIONS)}")
        require(self.batch_seconds > 0, "batch_seconds", self.batch_seconds, "above 0")


@dataclass(frozen=True)
class WhisperSettings:
    """The recognizer, which also says when each word is spoken."""

    model: str = "openai/whisper-large-v3"
    revision: str = "main"
    language: str | None = "en"
    """None for a model of English alone, which takes no language."""
    dtype: str = "float32"
    """As of the encoder."""
    batch_size: int = 16

    def __post_init__(self) -> None:
        require(bool(self.model), "model", self.model, "a folder or the name of a hub repository")
        require(self.dtype in PRECISIONS, "dtype", self.dtype, f"one of {', '.join(PRECISIONS)}")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")


@dataclass(frozen=True)
class AlignmentSettings:
    """Which recognitions count as the transcript, and who owns the silence between words."""

    min_similarity: float = 0.7
    """Least share of letters that transcript and recognition have in common; what is less alike is dropped."""
    silence: str = "previous"
    """"previous": silence belongs to the word before it (at the start: to the first); "drop": to none."""

    def __post_init__(self) -> None:
        similar = self.min_similarity
        require(0 < similar <= 1, "min_similarity", similar, "above 0 and at most 1")
        require(self.silence in SILENCES, "silence", self.silence, f"one of {', '.join(SILENCES)}")


@dataclass(frozen=True)
class AlignerSettings:
    """What tells when each word is spoken."""

    whisper: WhisperSettings = field(default_factory=WhisperSettings)
    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)
    backend: str = "transformers"
    """What takes word times out of Whisper: transformers, or whisper_timestamped (a package under the GPL-3 that is to
    be installed by itself)."""

    def __post_init__(self) -> None:
        require(self.backend in BACKENDS, "backend", self.backend, f"one of {', '.join(BACKENDS)}")


@dataclass(frozen=True)
class QuantizerSettings:
    """The centroids whose numbers are the units: published ones, or fitted to the encoder on the ASR utterances."""

    centroids: str | None = None
    """A .npy file [clusters, dimensions], as a path or an https address; null: fitted."""
    clusters: int = 10_000
    """How many there are, or are to be fitted."""
    fit_utterances: int = 4000
    fit_frames: int = 500_000
    """Frames to fit to, equally many of each utterance."""
    seed: int = 0
    """Seed for drawing utterances and frames, and for the fit."""

    def __post_init__(self) -> None:
        require(self.centroids != "", "centroids", self.centroids, "a .npy file, or null to fit them")
        for name, least in (("clusters", 2), ("fit_utterances", 1), ("fit_frames", 1)):
            require(getattr(self, name) >= least, name, getattr(self, name), f"{least} or more")
        seed(self)


@dataclass(frozen=True)
class SpeechT5Settings:
    """The voice that speaks texts."""

    xvectors: str
    """The zip of CMU ARCTIC x-vectors (spkrec-xvect.zip): a path, an https address, or the hub's dataset."""
    speaker: int = 7306
    """The place of the x-vector among the sorted names of the zip."""
    model: str = "microsoft/speecht5_tts"
    revision: str = "main"
    vocoder: str = "microsoft/speecht5_hifigan"
    vocoder_revision: str = "main"
    dtype: str = "float32"
    batch_size: int = 16
    seed: int = 0
    """Seed for the dropout in the decoder's prenet, which SpeechT5 needs when it speaks, too."""

    def __post_init__(self) -> None:
        require(bool(self.xvectors), "xvectors", self.xvectors, "a zip of .npy files")
        require(self.speaker >= 0, "speaker", self.speaker, "0 or more")
        for name in ("model", "vocoder"):
            value = getattr(self, name)
            require(bool(value), name, value, "a folder or the name of a hub repository")
        require(self.dtype in DTYPES, "dtype", self.dtype, f"one of {', '.join(DTYPES)}")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        seed(self)


@dataclass(frozen=True)
class CodeHifiGanSettings:
    """The vocoder of the units, of SeamlessM4T v2."""

    model: str = SEAMLESS
    revision: str = "main"
    language: int = 8
    """8 is English, 10 is Finnish."""
    speaker: int = 10
    """10 is the English voice, 14 the Finnish one."""
    predict_durations: bool = False
    """False: each unit lasts a frame of 20 ms, repeats stand for longer sounds. True: repeats count once, and the
    vocoder's own predictor says how long each unit lasts."""
    dtype: str = "float32"

    def __post_init__(self) -> None:
        require(bool(self.model), "model", self.model, "a folder or the name of a hub repository")
        require(self.language >= 0, "language", self.language, "0 or more")
        require(self.speaker >= 0, "speaker", self.speaker, "0 or more")
        require(self.dtype in DTYPES, "dtype", self.dtype, f"one of {', '.join(DTYPES)}")


@dataclass(frozen=True)
class Shards:
    """Into how many steps, and so jobs, the speech of a list is cut. Each list of the evaluation is one."""

    asr: int = 8
    sqa: int = 8

    def __post_init__(self) -> None:
        for name in ("asr", "sqa"):
            require(1 <= getattr(self, name) <= 999, name, getattr(self, name), "from 1 to 999")


@dataclass(frozen=True, kw_only=True)
class UtterancesConfig:
    """Which rows of a list become units, and how."""

    list: str
    shard: int
    """Counted from 0."""
    shards: int
    alignment: AlignmentSettings | None = None
    """For a list whose words are aligned."""
    backend: str = "transformers"
    keep_audio: int = 0
    """Questions of each evaluation set whose audio is kept."""

    def __post_init__(self) -> None:
        require(self.list in LISTS, "list", self.list, f"one of {', '.join(LISTS)}")
        require(0 <= self.shard < self.shards, "shard", self.shard, f"from 0 to {self.shards - 1}")
        aligned = self.alignment is not None
        right = "given for asr and sqa, and for no other list"
        require(aligned == (self.list in ALIGNED), "alignment", self.alignment, right)
        require(self.backend in BACKENDS, "backend", self.backend, f"one of {', '.join(BACKENDS)}")


@dataclass(frozen=True, kw_only=True)
class PretrainedSpeech:
    """Published speech components, and how speech is cut into units with them."""

    name: str = "pretrained"
    encoder: EncoderSettings
    synthesizer: SpeechT5Settings
    quantizer: QuantizerSettings = field(default_factory=QuantizerSettings)
    aligner: AlignerSettings = field(default_factory=AlignerSettings)
    vocoder: CodeHifiGanSettings = field(default_factory=CodeHifiGanSettings)
    recognizer: WhisperSettings = field(default_factory=WhisperSettings)
    shards: Shards = field(default_factory=Shards)
    keep_audio: int = 4
    """Questions of each evaluation set whose audio is kept with their units, to be listened to."""

    def __post_init__(self) -> None:
        require(self.keep_audio >= 0, "keep_audio", self.keep_audio, "0 or more")
        fitted = self.quantizer.centroids is None
        right = (
            f"a vocoder of the {self.quantizer.clusters} units that are fitted here (speech.quantizer.centroids is "
            "null): this one speaks those of kmeans_10k.npy and of no other"
        )
        require(not (fitted and self.vocoder.model == SEAMLESS), "vocoder.model", self.vocoder.model, right)

    def list_settings(self, name: str) -> list[UtterancesConfig]:
        """The settings of each shard of the list `name`, in their order."""
        shards = getattr(self.shards, name, 1)
        aligned = name in ALIGNED
        return [
            UtterancesConfig(
                list=name,
                shard=shard,
                shards=shards,
                alignment=self.aligner.alignment if aligned else None,
                backend=self.aligner.backend if aligned else "transformers",
                keep_audio=self.keep_audio if name == "eval_qa" else 0,
            )
            for shard in range(shards)
        ]
