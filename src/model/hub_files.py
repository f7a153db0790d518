"""Files of the Hugging Face hub and of web addresses. What cannot be had is one line that says what to do."""

import hashlib
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

ADDRESS = re.compile(r"https?://")
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def snapshot(source: str, patterns: Sequence[str], revision: str | None = None, kind: str = "model") -> Path:
    """The folder of a repository: `source` itself if it is a folder, else a snapshot of that repository of the hub with
    the files that match `patterns`.

    kind: model or dataset. The token is HF_TOKEN's or that of `hf auth login`; HF_HUB_OFFLINE and HF_HOME hold as
    everywhere. Raises ValueError, one line that says what to do, where the source cannot be had.
    """
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    if REPOSITORY.fullmatch(source) is None:
        raise ValueError(f"{source} is neither a folder nor the id of a hub repository (OWNER/NAME)")
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(patterns), repo_type=kind))
    except errors.GatedRepoError as error:
        raise ValueError(
            f"{source} is gated: accept its license at {page(source, kind)}, then set HF_TOKEN to a token of that "
            "account or run `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{source} has no revision {revision} on the hub") from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"{source} is no folder here, and on the hub it is missing or private: check the name or set HF_TOKEN"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.IncompleteSnapshotError) as error:
        raise ValueError(
            f"{source} is no folder here, not (or not all) in the hub's cache, and the hub cannot be reached: "
            f"download it where there is a network with `{fetching(source, patterns, revision, kind)}`"
        ) from error
    except OSError as error:
        raise ValueError(f"{source} cannot be downloaded: {str(error).splitlines()[0]}") from error


def page(source: str, kind: str) -> str:
    """Where a repository of the hub is shown."""
    return f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{source}"


def fetching(source: str, patterns: Sequence[str], revision: str | None = None, kind: str = "model") -> str:
    """The shell command that fills the hub's cache with what `snapshot` of the same arguments needs."""
    words = ["hf", "download", source]
    if kind == "dataset":
        words += ["--repo-type", kind]
    if revision is not None:
        words += ["--revision", revision]
    return shlex.join([*words, *(word for pattern in patterns for word in ("--include", pattern))])


def commit(folder: Path) -> str | None:
    """The commit of a snapshot in the hub's cache; None of any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def download(url: str, folder: Path) -> Path:
    """The file behind a web address, in `folder`. What an interrupted download left there is completed.

    Raises ValueError, one line that says what to do, where it cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / Path(urlsplit(url).path).name
    part = target.with_name(f"{target.name}.part")
    if target.is_file():
        return target
    begun = part.stat().st_size if part.exists() else 0
    remedy = f"download it where there is a network (`curl -LO {url}`) and give the file's path as the setting"
    try:
        with urlopen(Request(url, headers={"Range": f"bytes={begun}-"} if begun else {}), timeout=60) as response:
            with part.open("ab" if response.status == 206 else "wb") as file:
                shutil.copyfileobj(response, file, 2**20)
            if response.length:
                raise ValueError(f"{url} was cut off at {part.stat().st_size} bytes: start the step again to go on")
    except HTTPError as error:
        if begun and error.code == 416:  # nothing is left to send, or the file is another one now
            part.unlink()
            return download(url, folder)
        raise ValueError(f"{url} cannot be downloaded: {error.code} {error.reason}; {remedy}") from error
    except (URLError, OSError) as error:
        raise ValueError(f"{url} cannot be downloaded: {getattr(error, 'reason', error)}; {remedy}") from error
    part.replace(target)
    return target


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def licence(folder: Path) -> str:
    """What the card in a repository's README.md says of its license."""
    card = folder / "README.md"
    head = card.read_text(encoding="utf-8").split("---", 2) if card.is_file() else []
    found = re.findall(r"^license(?:_name)?:\s*([^\s#]+)", head[1], re.MULTILINE) if len(head) == 3 else []
    return " ".join(found) or "not stated by its folder"
