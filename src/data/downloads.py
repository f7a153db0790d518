"""The published files: what is taken from each dataset on the Hugging Face hub, and where it lies once it is here.

Only files are fetched, to the hub's own cache (HF_HOME), never code. What is in the cache serves without a network, so
that one machine can use there what another one has fetched.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from src.data import question_sets
from src.data.settings import PublishedData, QuestionSet
from src.model import hub_files

REFERENCE = re.compile(r"hf://datasets/(?P<repository>[^@]+)@(?P<revision>[0-9a-f]{40})/(?P<file>.+)")

SPLIT_GIGABYTES = {"train.clean.100": 6.6, "train.clean.360": 24.0, "train.other.500": 31.0}
"""Gigabytes of LibriSpeech's training splits; each other split has about 0.35."""


@dataclass(frozen=True)
class Download:
    """Files of one dataset on the hub."""

    setting: str
    """Where a local copy can be named instead."""
    repository: str
    revision: str
    patterns: tuple[str, ...]
    gigabytes: float
    license: str


def hub_split(split: str) -> str:
    """A split of LibriSpeech as the hub calls it."""
    return split.replace("-", ".")


def downloads(settings: PublishedData) -> dict[str, Download]:
    """What a configuration takes from the hub, by source: speech, text, questions.NAME, ifeval; nothing for a source
    with a local path."""
    found: dict[str, Download] = {}

    def add(name: str, setting: str, repository: str, revision: str, patterns: tuple[str, ...], *about: float | str):
        gigabytes, license = about
        found[name] = Download(f"data.{setting}.path", repository, revision, patterns, float(gigabytes), str(license))

    speech, text, ifeval = settings.speech, settings.text, settings.ifeval
    if speech.path is None:
        splits = [hub_split(split) for split in (*speech.splits, speech.evaluation_split)]
        size = sum(SPLIT_GIGABYTES.get(split, 0.35) for split in splits)
        patterns = tuple(f"all/{split}/*.parquet" for split in splits)
        add("speech", "speech", speech.hub, speech.revision, patterns, size, "CC-BY-4.0")
    if text.path is None:
        add("text", "text", text.hub, text.revision, ("data/train-*.parquet",), 9.9, "Llama 3 Community License")
    for name, one in settings.questions.items():
        if one.path is None:
            found[f"questions.{name}"] = of_questions(name, one)
    if ifeval.path is None:
        add("ifeval", "ifeval", ifeval.hub, ifeval.revision, ("*.jsonl",), 0.0003, "Apache-2.0")
    return found


def of_questions(name: str, one: QuestionSet) -> Download:
    """What a question set takes from the hub."""
    size = {"llama_questions": 0.024}.get(name, 0.15)
    setting, license = f"data.questions.{name}.path", "none named on the hub"
    return Download(setting, str(one.hub), str(one.revision), (one.files,), size, license)


def question_files(name: str, one: QuestionSet) -> Path:
    """Where a question set lies: its local copy, or what is fetched from the hub unless it is there. Raises ValueError
    as `fetch` does."""
    return fetch(of_questions(name, one)) if one.path is None else question_sets.local_path(one)


def fetch(download: Download) -> Path:
    """The folder that holds the files of a download, fetched unless they are there.

    Raises ValueError, one line that says what to do, if they cannot be had.
    """
    try:
        folder = hub_files.snapshot(download.repository, download.patterns, download.revision, "dataset")
    except ValueError as error:
        raise ValueError(f"{error}, or name a copy by {download.setting}") from error
    missing = [pattern for pattern in download.patterns if not any(folder.glob(pattern))]
    if missing:
        source = f"{download.repository} at {download.revision}"
        raise ValueError(f"{source}: no {', '.join(missing)} in {folder}; name a copy by {download.setting}")
    return folder


def reference(download: Download, file: str) -> str:
    """The name of a file of a download that holds on every machine."""
    return f"hf://datasets/{download.repository}@{download.revision}/{file}"


@lru_cache(maxsize=4096)
def local(reference: str) -> Path:
    """Where the file of such a name is, fetched unless it is in the hub's cache. Raises ValueError if it cannot be."""
    import huggingface_hub

    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise ValueError(f"{reference} is no file of a dataset on the hub: hf://datasets/OWNER/NAME@COMMIT/FILE")
    try:
        return Path(
            huggingface_hub.hf_hub_download(
                match["repository"], match["file"], repo_type="dataset", revision=match["revision"]
            )
        )
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{reference} could not be fetched ({type(error).__name__}: {first})") from error
