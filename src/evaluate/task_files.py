"""Where lm-evaluation-harness finds a task, read without importing it: a plan holds the task itself, not its address.

A task of one's own is a YAML file below `evaluate.lm_eval.include_path`, in the format of `lm_eval --include_path`.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import yaml

LOADERS = ("arrow", "csv", "json", "parquet", "text")
"""Values of `dataset_path` that read files of this machine."""
IGNORED = {"__pycache__", ".ipynb_checkpoints"}
NAMES = re.compile(r"""^\s*(?:-\s+)?["']?(?:task|group|tag)["']?\s*:(.*)$|^\s*-\s+([^:\n]*)$""", re.MULTILINE)
"""Lines of a task file that name a task, a group or a tag, or an item of a list, which may be one."""
MARKS = str.maketrans(dict.fromkeys("\"',[]{}", " "))


@dataclass(frozen=True)
class TaskFiles:
    """Everything of this machine that decides what a task asks."""

    files: Mapping[str, str]
    """Path below include_path -> text, of the task's YAML, of what it includes, and of the Python beside them."""
    data: Mapping[str, str]
    """Path as the YAML writes it -> SHA-256, of the files that the questions are read from."""
    shipped: bool
    """Whether a task that lm-evaluation-harness ships is part of it."""


class Definition(NamedTuple):
    """A YAML file with what it includes."""

    config: dict[str, Any]
    files: list[Path]
    """The file itself first."""


def find(name: str, include_path: str | None) -> TaskFiles:
    """The files of a task, a group or a tag; none of them for one that lm-evaluation-harness ships.

    Raises ValueError, one line, if there is no such task, or a file of it cannot be read.
    """
    root = Path(include_path) if include_path else None
    own = dict(_index(root)) if root else {}
    if name not in own:
        if name in _shipped():
            return TaskFiles({}, {}, shipped=True)
        near = get_close_matches(name, [*own, *_shipped()], n=3, cutoff=0.7)
        hint = f"; similar names: {', '.join(near)}" if near else ""
        below = f" or below include_path={include_path}" if include_path else ", and include_path names no folder"
        raise ValueError(f"evaluate.lm_eval.tasks: there is no task {name} in lm-evaluation-harness{below}{hint}")
    assert root is not None
    files: dict[str, str] = {}
    data: dict[str, str] = {}
    shipped = False
    waiting, seen = [name], set[str]()
    while waiting:
        member = waiting.pop()
        if member in seen:
            continue
        seen.add(member)
        if member not in own:
            shipped = True
            continue
        for definition in own[member]:
            if "group" in definition.config:
                waiting += _members(definition.config)
            files |= dict(_texts(definition.files, root))
            data |= _data(definition)
    return TaskFiles(dict(sorted(files.items())), dict(sorted(data.items())), shipped)


def changed(data: Mapping[str, str]) -> list[str]:
    """Paths of `TaskFiles.data` whose files are not any more what they were."""
    return [path for path, digest in data.items() if not Path(path).is_file() or _sha256(Path(path)) != digest]


def _index(root: Path) -> Iterator[tuple[str, list[Definition]]]:
    """What each name below `root` stands for: a task, a group, or all the tasks of a tag."""
    named: dict[str, Definition] = {}
    tags: dict[str, list[Definition]] = {}
    for file in sorted(root.rglob("*.yaml"), key=lambda file: file.as_posix()):
        if IGNORED & set(file.parts):
            continue
        definition = _read(file, root)
        name = definition.config.get("group") or definition.config.get("task")
        if not isinstance(name, str):
            continue
        named.setdefault(name, definition)
        if "group" not in definition.config:
            for tag in _listed(definition.config.get("tag")):
                tags.setdefault(tag, []).append(definition)
    yield from tags.items()
    yield from ((name, [definition]) for name, definition in named.items())


class _Loader(yaml.SafeLoader):
    """Takes `!function module.name` as a text."""


_Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def _read(file: Path, root: Path, including: tuple[Path, ...] = ()) -> Definition:
    """A YAML file over what it includes. Raises ValueError for one that is none, or that includes what is not there."""
    try:
        own = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(own, dict):
        return Definition({}, [file])
    config: dict[str, Any] = {}
    files = [file]
    for name in _listed(own.pop("include", None)):
        included = file.parent / name
        if not included.is_file() or not included.resolve().is_relative_to(root.resolve()):
            raise ValueError(f"{file} includes {name}, which must be a file below include_path={root}")
        if included.resolve() in including:
            raise ValueError(f"{file} includes {name}, which includes it")
        more = _read(included, root, (*including, file.resolve()))
        config |= {key: value for key, value in more.config.items() if key != "task_list"}
        files += more.files
    return Definition(config | own, files)


def _members(group: Mapping[str, Any]) -> Iterator[str]:
    """The names of the tasks and groups that a group consists of, those of groups within it included."""
    for member in _listed(group.get("task")):
        if isinstance(member, str):
            yield member
        elif isinstance(member.get("task"), list):
            yield from _members(member)
        else:
            yield member.get("group") or member["task"]


def _texts(files: Iterable[Path], root: Path) -> Iterator[tuple[str, str]]:
    for file in files:
        for each in [file, *(code for code in file.parent.rglob("*.py") if not IGNORED & set(code.parts))]:
            yield each.resolve().relative_to(root.resolve()).as_posix(), each.read_text(encoding="utf-8")


def _data(definition: Definition) -> dict[str, str]:
    """SHA-256 of the files that a task reads its questions from, none where they are downloaded."""
    source, options = definition.config.get("dataset_path"), definition.config.get("dataset_kwargs") or {}
    folder = options.get("data_dir", "")
    names: list[str] = []
    if source in LOADERS:
        names = [str(Path(folder) / name) for name in _flat(options.get("data_files")) if "://" not in name]
        names = names or [folder] * bool(folder)
    elif source and Path(source).exists():
        names = [source]
    digests = {}
    for name in names:
        found = [Path(path) for path in sorted(glob(name, recursive=True))]
        if not found:
            where = f"(relative paths start at {Path.cwd()})"
            raise ValueError(f"{definition.files[0]}: there is no data file {name} {where}")
        for path in found:
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    digests[str(file)] = _sha256(file)
    return digests


def _flat(value: Any) -> list[str]:
    """The texts in a text, a list or a mapping of them."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value or []
    return [text for each in inner for text in _flat(each)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def _shipped() -> frozenset[str]:
    """The names in the task files of lm-evaluation-harness, and a few words more. It reads its 14,000 files as YAML
    itself, which takes longer than the rest of a plan; here their lines are searched."""
    package = find_spec("lm_eval")
    assert package is not None and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0]) / "tasks"
    files = (file for file in folder.rglob("*") if file.suffix in ("", ".yaml") and file.is_file())
    named = (line for file in files for lines in NAMES.findall(file.read_text("utf-8", "replace")) for line in lines)
    return frozenset(word for line in named for word in line.translate(MARKS).split())
