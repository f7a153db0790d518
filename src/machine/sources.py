"""What a configuration takes from elsewhere: each model, dataset and file, with its setting, size and license, and a
look into what lies here: into names and headers, and no further."""

import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from src.checks import require
from src.data import authors, downloads, librispeech, magpie, published, question_sets, settings
from src.evaluate import user_rows
from src.grid.typed import typed
from src.speech import centroids, folders
from src.speech.settings import full_names

INDEX = "model.safetensors.index.json"
MODEL = ("*.safetensors", "*.json", "*.bin", "*.model", "*.txt")


@dataclass(frozen=True)
class Source:
    """One thing to be had."""

    setting: str
    where: str
    """A repository of the hub, a web address, or a path."""
    revision: str | None = None
    kind: Literal["model", "dataset"] = "model"
    """What a repository holds."""
    patterns: tuple[str, ...] = MODEL
    """The files of a repository that are wanted."""
    tensors: str = ""
    """Prefix of the tensors to fetch: only the files of a sharded model that have some are downloaded."""
    gigabytes: float | None = None
    """About; None: not known before the hub is asked."""
    licence: str | None = None
    gated: bool = False
    """Its page wants an account's consent before it lets anything be downloaded."""
    stays: bool = False
    """Read where it lies by later steps, too, and not copied into the store."""
    check: Callable[[Path], None] = lambda place: None
    """Raises ValueError where what lies here is not what is wanted, in the words of the step that reads it."""

    def wrong(self) -> str | None:
        """What is wrong with what lies here, with the setting; None if nothing is."""
        try:
            with full_names():
                self.check(Path(self.where).expanduser())
        except (ValueError, OSError) as error:
            said = str(error).splitlines()[0]
            return said if re.match(r"(data|model|speech)\.", said) else f"{self.setting}: {said}"
        return None


@dataclass(frozen=True)
class Known:
    licence: str
    gigabytes: float | None = None
    gated: bool = False


LLAMA = "Llama 3.2 Community License"
SEAMLESS = "CC-BY-NC 4.0: not for commercial use"
KNOWN = {
    "meta-llama/Llama-3.2-11B-Vision": Known(f"{LLAMA}, with its clause on the European Union", 21.3, True),
    "meta-llama/Llama-3.2-1B": Known(LLAMA, 2.5, True),
    "meta-llama/": Known("a Llama Community License", None, True),
    "Qwen/Qwen2.5-1.5B": Known("Apache-2.0", 3.1),
    "https://dl.fbaipublicfiles.com/seamlessM4T/models/unit_extraction/xlsr2_1b_v2.pt": Known(SEAMLESS, 3.9),
    "https://dl.fbaipublicfiles.com/seamlessM4T/models/unit_extraction/kmeans_10k.npy": Known(SEAMLESS, 0.05),
    "https://dl.fbaipublicfiles.com/seamlessM4T/": Known(SEAMLESS),
    "facebook/seamless-m4t-v2-large": Known(SEAMLESS, 5.0),
    "facebook/hubert-base-ls960": Known("Apache-2.0", 0.4),
    "openai/whisper-large-v3": Known("Apache-2.0", 3.1),
    "openai/whisper-": Known("Apache-2.0"),
    "microsoft/speecht5_tts": Known("MIT", 0.6),
    "microsoft/speecht5_hifigan": Known("MIT", 0.05),
}
"""Beginning of an id or address -> what is known of it without asking; the first that fits counts."""


def known(where: str) -> Known | None:
    """What is known of an id or address of the hub."""
    return next((told for start, told in KNOWN.items() if where.startswith(start)), None)


def sources(cell: Mapping[str, Any]) -> list[Source]:
    """All that a row's configuration names and that is not made by the plan itself."""
    found = [*_models(cell), *_speech(cell["speech"]), *_data(cell["data"])]

    def one(source: Source) -> tuple[Any, ...]:
        """What is fetched once; what lies here is looked at for each of its settings."""
        here = source.setting if Path(source.where).expanduser().exists() else ""
        return source.where, source.revision, source.patterns, here

    return list({one(source): source for source in reversed(found)}.values())[::-1]


def _source(setting: str, where: str, revision: str | None = None, **more: Any) -> Source:
    told = known(where) or Known("")
    facts = {"gigabytes": told.gigabytes, "licence": told.licence or None, "gated": told.gated}
    return Source(setting, where, revision, **facts | more)


def _model(model: Mapping[str, Any]) -> list[Source]:
    if model["name"] != "pretrained":
        return []
    from src.model.text_part import WANTED, check

    return [_source("model.pretrained", model["pretrained"], model["revision"], patterns=tuple(WANTED), check=check)]


def _models(cell: Mapping[str, Any]) -> list[Source]:
    """The base model, and the model that a row is given. A whole one needs no base."""
    given = cell["strategy"].get("given")
    if not given:
        return _model(cell["model"])
    revision = given.get("revision")
    if given.get("adapter"):
        from src.model.published_adapter import WANTED, check

        own = _source("strategy.given.adapter", given["adapter"], revision, patterns=tuple(WANTED), check=check)
        return [*_model(cell["model"]), own]
    from src.model import given as whole
    from src.model.text_part import WANTED

    look = partial(whole.check, units=cell["speech"]["quantizer"]["clusters"])
    return [_source("strategy.given.model", given["model"], revision, patterns=tuple(WANTED), check=look)]


def _speech(speech: Mapping[str, Any]) -> list[Source]:
    if speech["name"] != "pretrained":
        return []
    spoken, vocoder, encoder = speech["synthesizer"], speech["vocoder"], speech["encoder"]["model"]

    def model(kind: folders.Kind, setting: str, where: str, revision: str, **more: Any) -> Source:
        check = partial(kind.check, setting=f"speech.{setting}", source=where)
        return _source(f"speech.{setting}", where, revision, check=check, **more)

    found = [model(folders.ENCODER, "encoder.model", encoder, speech["encoder"]["revision"])]
    if encoder.endswith(".pt"):
        found = [_source("speech.encoder.model", encoder, speech["encoder"]["revision"], check=_checkpoint)]
    if speech["quantizer"]["centroids"]:
        check = partial(_centroids, clusters=speech["quantizer"]["clusters"])
        found.append(_source("speech.quantizer.centroids", speech["quantizer"]["centroids"], check=check))
    for setting, own in (("aligner.whisper", speech["aligner"]["whisper"]), ("recognizer", speech["recognizer"])):
        found.append(model(folders.WHISPER, f"{setting}.model", own["model"], own["revision"]))
    vocoded = ("config.json", INDEX, "model*.safetensors")
    return [
        *found,
        model(folders.SPEECHT5, "synthesizer.model", spoken["model"], spoken["revision"]),
        model(folders.HIFIGAN, "synthesizer.vocoder", spoken["vocoder"], spoken["vocoder_revision"]),
        _source("speech.synthesizer.xvectors", spoken["xvectors"], kind="dataset", patterns=("spkrec-xvect.zip",),
                gigabytes=0.02, check=_xvectors),
        model(folders.CODE_HIFIGAN, "vocoder.model", vocoder["model"], vocoder["revision"], patterns=vocoded,
              tensors="vocoder."),
    ]  # fmt: skip


def _checkpoint(file: Path) -> None:
    with file.open("rb") as content:
        pickled = content.read(2)[:1] == b"\x80"  # as torch.save wrote until version 1.6
    if not pickled and not zipfile.is_zipfile(file):
        raise ValueError(f"encoder.model = {file}: cannot be read as a checkpoint of torch.save")


def _centroids(file: Path, clusters: int) -> None:
    known = len(centroids.map_centroids(file))
    require(clusters == known, "quantizer.clusters", clusters, f"the {known} of {file}")


def _xvectors(file: Path) -> None:
    if not zipfile.is_zipfile(file):
        raise ValueError(f"synthesizer.xvectors is {file}; it must be a zip of .npy files")


def _data(data: Mapping[str, Any]) -> list[Source]:
    if data["name"] != "published":
        return []
    made = typed(settings.PublishedData, data, "data")
    fetched = downloads.downloads(made)
    found = [
        Source(one.setting, one.repository, one.revision, "dataset", one.patterns, gigabytes=one.gigabytes,
               licence=one.license, stays=name == "speech")
        for name, one in fetched.items()
    ]  # fmt: skip
    local: dict[str, Any] = {"speech": made.speech, "text": made.text, "ifeval": made.ifeval}
    local |= {f"questions.{name}": one for name, one in made.questions.items()}
    if made.units is not None:
        local |= {"units.speech": made.units.speech, "units.questions": made.units.questions}
    for name, source in local.items():
        if source.path is not None:
            check = partial(_looked_into, name, made)
            found.append(Source(published.setting(name), source.path, stays=name == "speech", check=check))
    return found


def _looked_into(name: str, data: settings.PublishedData, place: Path) -> None:
    """A local copy of a source of data: the files of each split, columns, whether there is a row."""
    if name == "speech":
        for split in (*data.speech.splits, data.speech.evaluation_split):
            librispeech.find(place, split)
    elif name == "text":
        next(magpie.texts(magpie.find(place), bool(data.text.excluded_categories)), None)
    elif name.startswith("units."):
        authors.check(name.removeprefix("units."), place, bool(data.text.excluded_categories))
    elif name == "ifeval":
        user_rows.read_rows(published.prompts_file(place))
    else:
        name = name.removeprefix("questions.")
        question_sets.check(name, data.questions[name], place)
