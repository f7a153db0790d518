"""Why are two artifacts, or two cells, not the same? `python -m src.why A B`

A and B are each the name of an artifact folder in the store (a unique beginning of it will do), the path of one, or a
cell, written as its overrides in quotes:

    python -m src.why train-sqa-replay-3fa9 train-sqa-none
    python -m src.why 'strategy=replay' 'strategy=replay seed=1'

Printed are the settings that differ, step by step, from the two down through their inputs to where the difference
comes from. Exits with 0, or with 2 if A or B is not found.
"""

import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import CompactHydraException

from src.grid.arguments import command_parser, matching
from src.grid.errors import ConfigError
from src.grid.step import Step, canonical
from src.grid.store import all_settings, read_manifest
from src.recipe import compose

ABSENT = "(not set)"


@dataclass(frozen=True)
class Node:
    """What determines one result: of a planned step, or of an artifact by its manifest."""

    name: str
    fingerprint: str
    kind: str
    version: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, "Node"]


def from_step(step: Step) -> Node:
    """The node of a planned step."""
    inputs = {role: from_step(source) for role, source in step.inputs.items()}
    return Node(step.name, step.fingerprint, step.kind, step.version, all_settings(step), inputs)


def from_artifact(folder: Path) -> Node:
    """The node of an artifact; its inputs are looked for beside it. ConfigError if there is no readable manifest."""
    try:
        manifest = read_manifest(folder)
        inputs = {}
        for role, source in manifest["inputs"].items():
            if (folder.parent / source["name"]).is_dir():
                inputs[role] = from_artifact(folder.parent / source["name"])
            else:
                inputs[role] = Node(source["name"], source["fingerprint"], "", 0, {}, {})
        settings = manifest["settings"] | manifest["defaults"]
        return Node(folder.name, manifest["fingerprint"], manifest["kind"], manifest["version"], settings, inputs)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder} has no readable manifest.json ({type(error).__name__}: {error})") from error


def changed(a: Any, b: Any, key: str = "") -> list[str]:
    """One line `name: a | b` for each setting that differs, by its dotted name."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = [*a, *(each for each in b if each not in a)]
        pairs = [(str(each), a.get(each, ABSENT), b.get(each, ABSENT)) for each in keys]
    elif _is_long(a) and _is_long(b) and len(a) == len(b):
        pairs = [(str(index), *each) for index, each in enumerate(zip(a, b, strict=True))]
    else:
        return [] if canonical(a) == canonical(b) else [f"{key}: {_show(a)} | {_show(b)}"]
    return [line for name, x, y in pairs for line in changed(x, y, f"{key}.{name}" if key else name)]


def _is_long(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(each, Mapping | list | tuple) for each in value)


def differences(a: Node, b: Node) -> list[str]:
    """Lines that say where two nodes differ, and through which inputs; empty if they are the same."""
    return list(_walk(a, b, (), set()))


def _walk(a: Node, b: Node, path: tuple[str, ...], seen: set[tuple[str, str]]) -> Iterator[str]:
    pair = (a.fingerprint, b.fingerprint)
    if a.fingerprint == b.fingerprint or pair in seen:
        return
    seen.add(pair)
    title = f"{a.name} | {b.name}" + (f"   (input {' > '.join(path)})" if path else "")
    unknown = [node.name for node in (a, b) if not node.kind]
    if unknown:
        yield title
        yield f"    cannot be compared: {' and '.join(unknown)} is not in the store"
        return
    if a.kind != b.kind:
        yield title
        yield f"    kind of step: {a.kind} | {b.kind}"
        yield from _through(a, b, path, seen)
        return
    lines = changed(a.settings, b.settings)
    if a.version != b.version:
        lines.insert(0, f"version of {a.kind}: {a.version} | {b.version}")
    lines += [f"input {role}: only in {a.name}" for role in a.inputs if role not in b.inputs]
    lines += [f"input {role}: only in {b.name}" for role in b.inputs if role not in a.inputs]
    if lines:
        yield title
        yield from (f"    {line}" for line in lines)
    for role in a.inputs:
        if role in b.inputs:
            yield from _walk(a.inputs[role], b.inputs[role], (*path, role), seen)


def _through(a: Node, b: Node, path: tuple[str, ...], seen: set[tuple[str, str]]) -> Iterator[str]:
    """Nodes of two kinds, such as a merge and the training it began from: compare the input of the other's kind."""
    for upper, lower, flipped in ((a, b, False), (b, a, True)):
        same = [(role, node) for role, node in upper.inputs.items() if node.kind == lower.kind]
        if same:
            role, node = same[-1]
            pair = (lower, node) if flipped else (node, lower)
            yield from _walk(*pair, (*path, role), seen)
            return


def _show(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def find(text: str, store: Path) -> tuple[Node, Mapping[str, Any] | None]:
    """What A or B means: its node, and its configuration if it is a cell. ConfigError if nothing is found."""
    if (Path(text) / "manifest.json").is_file():
        return from_artifact(Path(text).resolve()), None
    if "=" in text or not text:
        row = compose(shlex.split(text))
        return from_step(row.evaluate), row.config
    names = sorted(file.parent.name for file in store.glob("*/manifest.json"))
    matches = matching(text, names)
    if len(matches) == 1:
        return from_artifact(store / matches[0]), None
    if matches:
        raise ConfigError(f"{text} is the beginning of several artifacts: {', '.join(matches)}")
    raise ConfigError(f"{text} is neither an artifact in {store} nor a cell (written as 'key=value key=value')")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = command_parser("src.why", __doc__ or "")
    parser.add_argument("a", metavar="A")
    parser.add_argument("b", metavar="B")
    parser.add_argument("--store", type=Path, default=Path("outputs/store"), help="default: outputs/store")
    given = parser.parse_args(arguments)
    try:
        (a, a_config), (b, b_config) = find(given.a, given.store), find(given.b, given.store)
    except CompactHydraException as error:
        print(error, file=sys.stderr)
        return 2
    if a_config is not None and b_config is not None:
        lines = changed(a_config, b_config)
        print("Settings of the cells" if lines else "The cells have the same settings.")
        print("".join(f"    {line}\n" for line in lines), end="")
    found = differences(a, b)
    print("\n".join(found) if found else f"The same: {a.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
