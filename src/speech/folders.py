"""What the folder of a published speech component must hold, which is looked at before anything is loaded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from src.checks import require

SAFE = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class Kind:
    """A kind of model of transformers."""

    name: str
    types: tuple[str, ...]
    """What model_type of its config.json may be."""
    needed: tuple[tuple[str, ...], ...] = ()
    """Files that are needed beside the weights, each as the names that it may have."""

    def check(self, folder: Path, setting: str, source: str) -> None:
        """Raise ValueError where `folder`, which `setting` names as `source`, is no such model, or lacks a file."""
        require(folder.is_dir(), setting, source, f"the folder of {self.name}")
        config = folder / "config.json"
        require(config.is_file(), setting, source, f"{self.name}: it has no config.json")
        try:
            found = json.loads(config.read_text(encoding="utf-8"))["model_type"]
        except (ValueError, KeyError, TypeError):
            found = "that its config.json does not tell"
        require(found in self.types, setting, source, f"{self.name}, not a model of type {found}")
        for names in ((SAFE[0], SAFE[2], PICKLED[0], PICKLED[2]), *self.needed):
            there = any((folder / name).is_file() for name in names)
            require(there, setting, source, f"{self.name}: it has no {names[0]}")


ENCODER = Kind(
    "a speech encoder (wav2vec 2.0, HuBERT, WavLM or w2v-BERT)",
    ("wav2vec2", "hubert", "wavlm", "wav2vec2-bert"),
    (("preprocessor_config.json",),),
)
WHISPER = Kind("a Whisper", ("whisper",), (("tokenizer.json", "vocab.json"), ("preprocessor_config.json",)))
SPEECHT5 = Kind("a SpeechT5", ("speecht5",), (("spm_char.model",),))
HIFIGAN = Kind("a HiFi-GAN of SpeechT5", ("hifigan", "speecht5_hifigan"))
CODE_HIFIGAN = Kind("a SeamlessM4T v2", ("seamless_m4t_v2",))


def matching(folder: Path, patterns: Sequence[str]) -> list[str]:
    """The files of a folder whose names match one of the patterns, in the order of their names."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]
