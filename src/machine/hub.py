"""Whether what a plan downloads is here already, or can be had: local paths, the hub's cache, the hub, web addresses.

A token is looked for, and never shown.
"""

import json
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from src.grid.plan import Plan
from src.grid.step import Step
from src.grid.typed import plain
from src.machine.finding import Finding, no, note, ok, unknown
from src.machine.sources import INDEX, Source
from src.model.hub_files import ADDRESS, REPOSITORY, fetching, page

TIMEOUT = 5.0
"""Seconds that an answer may take."""
WEIGHTS = ("*.safetensors", "*.bin")
FETCHING = ("backbone", "given", "pretrained", "datasets")
"""Kinds of steps that download."""


def downloads(wanted: Sequence[Source], plan: Plan) -> tuple[list[Finding], float]:
    """What of it is here or can be had, and the gigabytes that are still to be downloaded, as far as they are known."""
    found: list[Finding] = []
    gigabytes = 0.0
    if any(_is_repository(source.where) for source in wanted):
        found.append(_token(wanted))
    for source in wanted:
        told, size = _look(source, plan)
        found.append(told)
        gigabytes += size
    return found, gigabytes


def _look(source: Source, plan: Plan) -> tuple[Finding, float]:
    """What is to be said of one source, and the gigabytes to be downloaded."""
    stored = _stored(source, plan)
    if stored:
        return ok(f"{source.setting}: {source.where} is in the store ({stored})"), 0.0
    remedy = f"set {source.setting} to what is there" + ("" if source.setting.startswith("data.") else
                                                         ", a repository of the hub, or its default")  # fmt: skip
    if Path(source.where).expanduser().exists():
        wrong = source.wrong()
        return (no(wrong, remedy) if wrong else ok(f"{source.setting}: {source.where} is there")), 0.0
    if ADDRESS.match(source.where):
        return _address(source)
    if _is_repository(source.where):
        return _repository(source)
    return no(f"{source.setting}: there is no {source.where}", remedy), 0.0


def _is_repository(where: str) -> bool:
    return REPOSITORY.fullmatch(where) is not None and not Path(where).expanduser().exists()


def _stored(source: Source, plan: Plan) -> str | None:
    """The artifact that has it already, where no later step reads the source itself."""
    if source.stays:
        return None
    steps = [
        entry
        for entry in plan.entries.values()
        if entry.step.kind in FETCHING and _names(plain(entry.step, leaf=Step), source.where)
    ]
    return steps[0].step.name if steps and all(entry.cached for entry in steps) else None


def _names(settings: Any, where: str) -> bool:
    """Whether `where` is one of the values, at any depth."""
    if isinstance(settings, dict | list):
        inner = settings.values() if isinstance(settings, dict) else settings
        return any(_names(value, where) for value in inner)
    return bool(settings == where)


def _described(source: Source, gigabytes: float | None, licence: str | None) -> str:
    size = "of unknown size" if gigabytes is None else f"{gigabytes:.1f} GB"
    if gigabytes is not None and gigabytes < 0.1:
        size = f"{1000 * gigabytes:.2g} MB"
    return f"{size}; {licence or 'its license is not known here: see its page'}"


def _token(wanted: Iterable[Source]) -> Finding:
    from huggingface_hub import get_token

    if get_token():
        return ok("a token of the Hugging Face hub is configured")
    gated = [source for source in wanted if source.gated and _is_repository(source.where) and not _cached(source)]
    if not gated:
        return note("no token of the Hugging Face hub is configured; nothing here needs one")
    remedy = f"accept the license at {page(gated[0].where, gated[0].kind)}, then set HF_TOKEN or run `hf auth login`"
    return no(f"no token of the Hugging Face hub, and {gated[0].where} is gated", remedy)


def _cached(source: Source) -> Path | None:
    """The snapshot in the hub's cache, if it has what is wanted."""
    from huggingface_hub import errors, snapshot_download

    try:
        folder = Path(
            snapshot_download(
                source.where, repo_type=source.kind, revision=source.revision, allow_patterns=list(source.patterns),
                local_files_only=True,
            )
        )  # fmt: skip
    except (errors.LocalEntryNotFoundError, OSError, ValueError):
        return None
    if source.kind == "dataset":
        return folder if all(any(folder.glob(pattern)) for pattern in source.patterns) else None
    if (folder / INDEX).is_file():
        files = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        parts = {file for name, file in files.items() if name.startswith(source.tensors)}
        return folder if all((folder / file).is_file() for file in parts) else None
    return folder if any(any(folder.glob(pattern)) for pattern in WEIGHTS) else None


@cache
def reachable() -> str | None:
    """None if the hub answers, else why it does not."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception as error:  # of whatever library the hub's own uses
        return f"{constants.ENDPOINT} does not answer ({type(error).__name__})"
    return None


def _repository(source: Source) -> tuple[Finding, float]:
    from huggingface_hub import HfApi, errors

    cached = _cached(source)
    if cached:
        return ok(f"{source.setting}: {source.where} is in the hub's cache"), 0.0
    away = reachable()
    name = f"{source.setting}: {source.where}"
    told = _described(source, source.gigabytes, source.licence)
    if away:
        command = fetching(source.where, source.patterns, source.revision, source.kind)
        remedy = f"where there is a network, `{command}`, and copy the cache (HF_HOME) here; or set " \
                 f"{source.setting} to a local copy"  # fmt: skip
        return no(f"{name} is not in the hub's cache, and {away} ({told})", remedy), source.gigabytes or 0.0
    api, shown = HfApi(), page(source.where, source.kind)
    try:
        api.auth_check(source.where, repo_type=source.kind)
        info = api.repo_info(
            source.where, repo_type=source.kind, revision=source.revision, timeout=TIMEOUT, files_metadata=True
        )
    except errors.GatedRepoError:
        remedy = f"accept the license at {shown} with the account of your token (HF_TOKEN, or `hf auth login`)"
        return no(f"{name} is gated, and not open to you ({told})", remedy), source.gigabytes or 0.0
    except errors.RevisionNotFoundError:
        return no(f"{name} has no revision {source.revision}", f"look at {shown}/commits/main"), 0.0
    except errors.RepositoryNotFoundError:
        return no(f"{name} is not on the hub, or private", "check its name, or set HF_TOKEN"), 0.0
    except Exception as error:  # a hub that answers something else, or stops to answer
        first = (str(error).splitlines() or [""])[0]
        return unknown(f"{name}: {type(error).__name__}: {first} ({told})", "try again"), source.gigabytes or 0.0
    listed: Any = getattr(info, "siblings", None) or []
    files = [one for one in listed if any(fnmatch(one.rfilename, p) for p in source.patterns)]
    size = sum(one.size or 0 for one in files) / 1e9 or source.gigabytes
    if source.tensors:  # which of the files have them is not known yet
        size = source.gigabytes
    card = getattr(info, "card_data", None)
    licence = source.licence or (card.get("license_name") or card.get("license") if card else None)
    return ok(f"{name} can be downloaded ({_described(source, size, licence)})"), size or 0.0


def _address(source: Source) -> tuple[Finding, float]:
    name = f"{source.setting}: {source.where}"
    told = _described(source, source.gigabytes, source.licence)
    try:
        with urlopen(Request(source.where, method="HEAD"), timeout=TIMEOUT) as answer:
            size = int(answer.headers.get("Content-Length") or 0) / 1e9 or source.gigabytes
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        remedy = f"where there is a network, `curl -LO {source.where}`, and set {source.setting} to the file"
        return no(f"{name} cannot be reached: {reason} ({told})", remedy), source.gigabytes or 0.0
    return ok(f"{name} can be downloaded ({_described(source, size, source.licence)})"), size or 0.0


def cache_folder() -> Path:
    """Where the hub's files are kept."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
