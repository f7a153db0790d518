"""The settings of the published speech components, and their checks. Light, as `settings` is: a plan needs no torch.

A `model` is a folder or the name of a repository of the Hugging Face hub, at `revision` where one is given. Sizes of
batches are settings like the others, and so part of a step's identity: no result depends on them by design, but sums of
another shape round differently, and a frame between two centroids may fall to the other one. A batch that does not fit
into the memory of the GPU is halved, so that nobody has to change them in the midst of a run.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from src.speech.settings import require

DTYPES = ("float32", "bfloat16", "float16")
SILENCES = ("previous", "drop")
BACKENDS = ("transformers", "whisper_timestamped")
LISTS = ("asr", "sqa", "eval_qa", "eval_asr")
"""Lists of the corpus that become units. The examples of synthesis are those of "asr" whose words could be aligned."""
ALIGNED = ("asr", "sqa")
"""Those whose words are aligned: of "sqa" the answers."""
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


@dataclass
class EncoderSettings:
    """The speech encoder whose hidden states become units."""

    model: str
    """A .pt checkpoint of fairseq or fairseq2 (XLSR2-1B-v2), as a path or an https address, or a model of transformers
    (HuBERT, w2v-BERT)."""
    layer: int = 35
    """Counted from 1, as in `hidden_states[35]`: the output of the 35th layer."""
    architecture: dict[str, Any] | None = None
    """The shape of a .pt checkpoint, in the names of transformers' Wav2Vec2Config; null: that of XLSR2-1B-v2. A model
    of transformers brings its own."""
    revision: str = "main"
    dtype: str = "float32"
    """Of weights and activations. Units of the half-precision types differ in a few frames."""
    batch_seconds: float = 240.0
    """Most audio in a batch, padding included; a longer utterance is a batch of its own."""

    def __post_init__(self) -> None:
        require(bool(self.model), "encoder.model", self.model, "a .pt file, a folder or the name of a hub repository")
        require(self.layer >= 1, "encoder.layer", self.layer, "1 or more")
        require(self.dtype in DTYPES, "encoder.dtype", self.dtype, f"one of {', '.join(DTYPES)}")
        require(self.batch_seconds > 0, "encoder.batch_seconds", self.batch_seconds, "above 0")


@dataclass
class WhisperSettings:
    """The recognizer, which also says when each word is spoken."""

    model: str = "openai/whisper-large-v3"
    revision: str = "main"
    language: str | None = "en"
    """None for a model of English alone, which takes no language."""
    dtype: str = "float32"
    batch_size: int = 16

    def __post_init__(self) -> None:
        require(bool(self.model), "whisper.model", self.model, "a folder or the name of a hub repository")
        require(self.dtype in DTYPES, "whisper.dtype", self.dtype, f"one of {', '.join(DTYPES)}")
        require(self.batch_size >= 1, "whisper.batch_size", self.batch_size, "1 or more")


@dataclass
class AlignmentSettings:
    """Which recognitions count as the transcript, and who owns the silence between words."""

    min_similarity: float = 0.7
    """Least share of letters that transcript and recognition have in common; what is less alike is dropped."""
    silence: str = "previous"
    """"previous": silence belongs to the word before it (at the start: to the first); "drop": to none."""

    def __post_init__(self) -> None:
        similar = self.min_similarity
        require(0 < similar <= 1, "aligner.alignment.min_similarity", similar, "above 0 and at most 1")
        require(self.silence in SILENCES, "aligner.alignment.silence", self.silence, f"one of {', '.join(SILENCES)}")


@dataclass
class AlignerSettings:
    """What tells when each word is spoken."""

    whisper: WhisperSettings = field(default_factory=WhisperSettings)
    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)
    backend: str = "transformers"
    """What takes word times out of Whisper: transformers, or whisper_timestamped (a package under the GPL-3 that is to
    be installed by itself)."""

    def __post_init__(self) -> None:
        require(self.backend in BACKENDS, "aligner.backend", self.backend, f"one of {', '.join(BACKENDS)}")


@dataclass
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
    """Of the utterances and frames that are drawn, and of the fit."""

    def __post_init__(self) -> None:
        require(self.centroids != "", "quantizer.centroids", self.centroids, "a .npy file, or null to fit them")
        for name, least in (("clusters", 2), ("fit_utterances", 1), ("fit_frames", 1)):
            require(getattr(self, name) >= least, f"quantizer.{name}", getattr(self, name), f"{least} or more")
        require(self.seed >= 0, "quantizer.seed", self.seed, "0 or more")


@dataclass
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
    """Of the dropout in the decoder's prenet, which SpeechT5 needs when it speaks, too."""

    def __post_init__(self) -> None:
        require(bool(self.xvectors), "synthesizer.xvectors", self.xvectors, "a zip of .npy files")
        require(self.speaker >= 0, "synthesizer.speaker", self.speaker, "0 or more")
        for name in ("model", "vocoder"):
            value = getattr(self, name)
            require(bool(value), f"synthesizer.{name}", value, "a folder or the name of a hub repository")
        require(self.dtype in DTYPES, "synthesizer.dtype", self.dtype, f"one of {', '.join(DTYPES)}")
        require(self.batch_size >= 1, "synthesizer.batch_size", self.batch_size, "1 or more")
        require(self.seed >= 0, "synthesizer.seed", self.seed, "0 or more")


@dataclass
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
        require(bool(self.model), "vocoder.model", self.model, "a folder or the name of a hub repository")
        require(self.language >= 0, "vocoder.language", self.language, "0 or more")
        require(self.speaker >= 0, "vocoder.speaker", self.speaker, "0 or more")
        require(self.dtype in DTYPES, "vocoder.dtype", self.dtype, f"one of {', '.join(DTYPES)}")


@dataclass
class Shards:
    """Into how many steps, and so jobs, the speech of a list is cut. Each list of the evaluation is one."""

    asr: int = 8
    sqa: int = 8

    def __post_init__(self) -> None:
        for name in ("asr", "sqa"):
            require(1 <= getattr(self, name) <= 999, f"shards.{name}", getattr(self, name), "from 1 to 999")


@dataclass
class PretrainedSpeech:
    """Published speech components, and how speech is cut into units with them."""

    encoder: EncoderSettings
    synthesizer: SpeechT5Settings
    name: str = "pretrained"
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

    def components(self) -> dict[str, dict[str, Any]]:
        """Role -> config of its step `pretrained`. Roles of equal configs are one step."""
        known = self.quantizer.centroids is not None
        centroids = {"centroids": self.quantizer.centroids, "clusters": self.quantizer.clusters} if known else {}
        return {
            "encoder": {"component": "encoder", **asdict(self.encoder), **centroids},
            "aligner": {"component": "whisper", **asdict(self.aligner.whisper)},
            "synthesizer": {"component": "speecht5", **asdict(self.synthesizer)},
            "vocoder": {"component": "code_hifigan", **asdict(self.vocoder), "clusters": self.quantizer.clusters},
            "recognizer": {"component": "whisper", **asdict(self.recognizer)},
        }

    def kmeans(self) -> dict[str, Any] | None:
        """Config of the step `kmeans` (inputs: corpus, encoder), whose artifact then has the role `quantizer`; None
        where centroids are published, and the encoder's artifact has that role, too."""
        settings = asdict(self.quantizer)
        return settings if settings.pop("centroids") is None else None

    def utterances(self, name: str) -> list[dict[str, Any]]:
        """Config of the step `utterances` of each shard of the list `name`; its artifact has the role `NAME-000` and so
        on in the step `gather`, whose config is {}."""
        count = getattr(self.shards, name, 1)
        config: dict[str, Any] = {"list": name, "shards": count}
        if name in ALIGNED:
            config |= {"alignment": asdict(self.aligner.alignment), "backend": self.aligner.backend}
        if name == "eval_qa":
            config["keep_audio"] = self.keep_audio
        return [{**config, "shard": shard} for shard in range(count)]

    @staticmethod
    def heard(name: str) -> tuple[str, ...]:
        """The roles that a step `utterances` of the list `name` has as inputs."""
        further = (*(("aligner",) if name in ALIGNED else ()), *(("synthesizer",) if name == "sqa" else ()))
        return ("corpus", "encoder", "quantizer", *further)
