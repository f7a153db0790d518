"""Copies a published speech component into an artifact, so that no later step needs a network.

The artifact holds settings.json {component: encoder | whisper | speecht5 | code_hifigan, the fields of its settings in
`src.speech.published_settings`; of an encoder also centroids and clusters where they are published, of a vocoder the
clusters of the units that it is to speak} and

    encoder       model/ (transformers, up to the layer), centroids.safetensors where they are published
    whisper       model/
    speecht5      model/, vocoder/ (its HiFi-GAN), xvector.safetensors (the one voice)
    code_hifigan  model/ (the vocoder alone)

Weights come as safetensors. Where there are none, pickled ones are read as tensors and nothing else. `src.speech.load`
opens an artifact.
"""

import json
import pickle
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.numpy import save_file

from src.checks import require
from src.model import hub_files
from src.speech import code_hifigan, folders, load
from src.speech.folders import PICKLED, SAFE, Kind, matching
from src.speech.load import CENTROIDS, HIFIGAN, MODEL, SETTINGS
from src.speech.published_settings import CodeHifiGanSettings, EncoderSettings, SpeechT5Settings, WhisperSettings
from src.speech.settings import full_names
from src.speech.weights import read_model

if TYPE_CHECKING:
    from src.grid.context import Context

CARD = "README.md"
CONFIGURATION = ("config.json", "generation_config.json", "preprocessor_config.json")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
             "merges.txt", "normalizer.json", "spm_char.model")  # fmt: skip
XVECTORS = "spkrec-xvect.zip"
SEAMLESS = "https://dl.fbaipublicfiles.com/seamlessM4T/"
SEAMLESS_LICENCE = "non-commercial use alone: CC-BY-NC 4.0 or the Seamless License, as the release says of each file"


class Sources:
    """Gets files from where they are published, and keeps account of them."""

    def __init__(self, work: Path) -> None:
        """work: where what comes from a web address is kept."""
        self.work = work
        self.used: list[dict[str, Any]] = []

    def dataset(self, source: str, file: str, setting: str) -> Path:
        """A file of a dataset of the hub."""
        folder = _snapshot(setting, source, [file, CARD], None, "dataset")
        self.taken(source, folder, [file])
        return folder / file

    def model(self, kind: Kind, source: str, revision: str | None, setting: str) -> tuple[Path, list[str]]:
        """The folder of a model of transformers, of the hub or local, and its files: weights (safetensors, where there
        are), configuration and tokenizer. Raises ValueError where it is no model of this kind, or lacks a file."""
        further = [*CONFIGURATION, *TOKENIZER]
        folder = _snapshot(setting, source, [*SAFE, *further, CARD], revision)
        weights = SAFE if matching(folder, SAFE) else PICKLED
        if weights is PICKLED:
            _snapshot(setting, source, [*PICKLED, *further, CARD], revision)
        kind.check(folder, setting, source)
        return folder, self.taken(source, folder, [*weights, *further])

    def taken(self, source: str, folder: Path, patterns: Sequence[str]) -> list[str]:
        """Note down the files of a folder that match `patterns`."""
        files = matching(folder, patterns)
        self._note(source, hub_files.commit(folder), hub_files.licence(folder), {name: folder / name for name in files})
        return files

    def file(self, reference: str, setting: str) -> Path:
        """A file by its path or its web address."""
        try:
            remote = hub_files.ADDRESS.match(reference)
            path = hub_files.download(reference, self.work) if remote else Path(reference).expanduser()
        except ValueError as error:
            raise ValueError(f"{setting}: {error}") from error
        if path.is_file():
            licence = SEAMLESS_LICENCE if reference.startswith(SEAMLESS) else "not stated by the file"
            self._note(reference, None, licence, {path.name: path})
        return path

    def _note(self, source: str, commit: str | None, licence: str, files: Mapping[str, Path]) -> None:
        described = {
            name: {"bytes": path.stat().st_size, "sha256": hub_files.sha256(path)}
            for name, path in sorted(files.items())
        }
        self.used.append({"source": source, "commit": commit, "licence": licence, "files": described})


def _snapshot(setting: str, *arguments: Any) -> Path:
    try:
        return hub_files.snapshot(*arguments)
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from error


def _copy(folder: Path, names: Sequence[str], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(folder / name, out / name)


def encoder(
    settings: EncoderSettings, sources: Sources, out: Path, centroids: str | None = None, clusters: int | None = None
) -> None:
    """The encoder up to its layer, and its centroids where they are published: so many clusters."""
    from src.speech.centroids import load_centroids
    from src.speech.encoder import load_encoder, save_encoder

    if settings.model.endswith(".pt"):
        place = sources.file(settings.model, "encoder.model")
    else:
        place, _ = sources.model(folders.ENCODER, settings.model, settings.revision, "encoder.model")
    save_encoder(replace(settings, model=str(place)), out / MODEL)
    made = load_encoder(replace(settings, model=str(out / MODEL)))
    if centroids is not None:
        array = load_centroids(sources.file(centroids, "quantizer.centroids"))
        right = f"the {len(array)} of {centroids}"
        require(clusters == len(array), "quantizer.clusters", clusters, right)
        right = f"of the {made.dimensions} dimensions of this encoder, not of {array.shape[1]}"
        require(array.shape[1] == made.dimensions, "quantizer.centroids", centroids, right)
        save_file({"centroids": array}, out / CENTROIDS)


def whisper(settings: WhisperSettings, sources: Sources, out: Path) -> None:
    """A whole Whisper, that hears the language."""
    import torch
    from transformers import WhisperForConditionalGeneration
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    folder, files = sources.model(folders.WHISPER, settings.model, settings.revision, "whisper.model")
    read = read_model(WhisperForConditionalGeneration, folder, "whisper.model", settings.model, dtype="auto")
    pickled = [name for name in files if name in matching(folder, PICKLED)]
    _copy(folder, [name for name in files if name not in pickled], out / MODEL)
    if pickled:
        read.save_pretrained(out / MODEL)
    del read
    try:
        opened = load.whisper(out, torch.device("cpu")).model
    except Exception as error:  # of whatever library reads its tokenizer and its preprocessor
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(f"whisper.model = {settings.model}: cannot be opened: {first}") from error
    if settings.language is not None:
        heard = sorted(token.strip("<|>") for token in getattr(opened.generation_config, "lang_to_id", None) or ())
        asked = settings.language.lower()
        right = f"one of {', '.join(heard)}" if heard else "null: this model hears English alone"
        require(TO_LANGUAGE_CODE.get(asked, asked) in heard, "whisper.language", settings.language, right)


def speecht5(settings: SpeechT5Settings, sources: Sources, out: Path) -> None:
    """SpeechT5, its HiFi-GAN, and one x-vector."""
    from transformers import SpeechT5ForTextToSpeech, SpeechT5HifiGan

    from src.speech.speecht5 import read_xvector

    folder, files = sources.model(folders.SPEECHT5, settings.model, settings.revision, "synthesizer.model")
    model = read_model(SpeechT5ForTextToSpeech, folder, "synthesizer.model", settings.model, dtype="auto")
    model.save_pretrained(out / MODEL)
    _copy(folder, [name for name in files if name in (*TOKENIZER, "preprocessor_config.json")], out / MODEL)
    named = "synthesizer.vocoder"
    folder, _ = sources.model(folders.HIFIGAN, settings.vocoder, settings.vocoder_revision, named)
    read_model(SpeechT5HifiGan, folder, named, settings.vocoder, dtype="auto").save_pretrained(out / HIFIGAN)
    reference = settings.xvectors
    if Path(reference).expanduser().is_file() or not hub_files.REPOSITORY.fullmatch(reference):
        path = sources.file(reference, "synthesizer.xvectors")
    else:
        path = sources.dataset(reference, XVECTORS, "synthesizer.xvectors")
    save_file({"xvector": read_xvector(path, settings.speaker)}, out / load.XVECTOR)
    load.synthesizer(out)


def vocoder(settings: CodeHifiGanSettings, sources: Sources, out: Path, clusters: int) -> None:
    """The unit vocoder out of a whole SeamlessM4T v2, which must speak so many units."""
    from safetensors.torch import save_file as save_tensors

    try:
        folder = code_hifigan.fetch(settings.model, settings.revision)
    except ValueError as error:
        raise ValueError(f"vocoder.model: {error}") from error
    folders.CODE_HIFIGAN.check(folder, "vocoder.model", settings.model)
    needed = ["config.json", *code_hifigan.weight_files(folder)]
    files = sources.taken(settings.model, folder, [*needed, code_hifigan.INDEX])
    for name in needed:
        require(name in files, "vocoder.model", settings.model, f"a SeamlessM4T v2: it has no {name}")
    _copy(folder, ["config.json"], out / MODEL)
    save_tensors(code_hifigan.read_weights(folder), out / MODEL / "model.safetensors", {"format": "pt"})
    known = load.vocoder(out).clusters
    right = f"a vocoder of the {clusters} units of speech.quantizer, not of {known} others"
    require(known == clusters, "vocoder.model", settings.model, right)


Settings = EncoderSettings | WhisperSettings | SpeechT5Settings | CodeHifiGanSettings

COMPONENTS: dict[str, Callable[..., None]] = {
    "encoder": encoder,
    "whisper": whisper,
    "speecht5": speecht5,
    "code_hifigan": vocoder,
}


@full_names()
def fetch(component: str, settings: Settings, out: Path, context: "Context", **further: Any) -> dict[str, Any]:
    """Copy a component, a key of COMPONENTS, into `out`. The summary names each source with its commit on the hub, its
    license, and size and SHA-256 of the files that were read.

    further: what its function in COMPONENTS takes beside the settings. Raises ValueError, one line that names the
    setting, for what cannot be had or does not fit.
    """
    told = {"component": component, **asdict(settings), **further}
    sources = Sources(context.work / "downloads")
    # Before the rest: what is written is opened by it.
    (out / SETTINGS).write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    try:
        COMPONENTS[component](settings, sources, out, **further)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"{component}: its pickled weights hold {found[1] if found else 'other objects'} as well, and nothing but "
            "tensors is unpickled; take a copy in safetensors"
        ) from error
    except ValueError as error:  # what is opened last lies in the artifact
        raise ValueError(str(error).replace(str(out / MODEL), settings.model)) from error
    licences = dict.fromkeys(used["licence"] for used in sources.used)
    return {"component": component, "licence": "; ".join(licences), "sources": sources.used}
