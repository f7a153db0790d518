"""What the commands share: how they are documented, and how grids, steps and artifacts are named."""

import argparse
import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def command_parser(name: str, documentation: str) -> argparse.ArgumentParser:
    """The parser of `python -m NAME`. documentation: the module's docstring."""
    description, _, rest = documentation.partition("\n")
    return argparse.ArgumentParser(
        prog=f"python -m {name}", description=description, epilog=rest, formatter_class=argparse.RawTextHelpFormatter
    )


def matching(text: str, names: Iterable[str]) -> list[str]:
    """The name that `text` is, or else all that begin with it."""
    names = list(names)
    return [name for name in names if name == text] or [name for name in names if name.startswith(text)]


def unknown(name: str, settings: Mapping[str, Any]) -> str:
    """One line on a setting that does not exist: which ones have a similar name, or else what stands in its place."""
    known = [other for other in _names(settings, "") if not name.startswith(f"{other}.")]
    if close := difflib.get_close_matches(name, known, n=3, cutoff=0.7):
        return f"{name} is no setting; did you mean {' or '.join(close)}?"
    section: Any = settings
    path: list[str] = []
    for part in name.split("."):
        if not isinstance(section.get(part), Mapping):
            break
        section = section[part]
        path.append(part)
    return f"{name} is no setting; {'.'.join(path) or 'a cell'} has {', '.join(map(str, section))}"


def _names(settings: Mapping[str, Any], section: str) -> Iterator[str]:
    for key, value in settings.items():
        name = f"{section}.{key}" if section else str(key)
        yield name
        if isinstance(value, Mapping):
            yield from _names(value, name)


def grid_parser(name: str, documentation: str, required: bool = False) -> argparse.ArgumentParser:
    """A parser with GRID and --outputs."""
    parser = command_parser(name, documentation)
    told = "its name, or the beginning of it" + ("" if required else "; default: the latest")
    parser.add_argument("grid", metavar="GRID", nargs=None if required else "?", help=told)
    parser.add_argument("--outputs", metavar="DIR", type=Path, default=Path("outputs"), help="default: outputs")
    return parser
