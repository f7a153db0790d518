"""Overrides whose value has a glob in a list, or one for files in subfolders: `strategy=glob(*),extra/mine`.

Hydra's grammar knows `strategy=glob(*)` alone, and looks into no subfolder. `expand` writes such an override as a list
of names before Hydra reads it. In a pattern `*` stands for any characters but a slash and `**` for any folders:
`glob(**)` is every file of the group, and `glob(extra/*)` every file of one folder. As in Hydra, the names are sorted,
and `glob([a*,b*],exclude=*_x)` takes lists.
"""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Quote, QuotedString, Transformer
from hydra.errors import HydraException

from src.grid.errors import ConfigError

OVERRIDE = re.compile(r"\+{0,2}(?P<group>[\w/.$-]+)(@[\w.$-]*)?=(?P<value>.*)", re.DOTALL)
CALL = re.compile(r"[a-z]+\s*\(.*\)", re.DOTALL)
PLAIN = re.compile(r"(?!(?i:true|false|null|nan|inf)$)[A-Za-z_][\w/.-]*")
"""A name that Hydra reads as text without quotes."""
TOKEN = re.compile(r"""\\.|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|.""", re.DOTALL)
"""An escaped character, a quoted text, or any other character."""


def expand(arguments: Sequence[str], *conf: Path) -> list[str]:
    """The arguments of a command line, with every glob written as the names that it matches, each name once.

    conf: folders of the config groups; those of `--config-dir` and `hydra.searchpath` count too. What has no glob stays
    as it is, character by character. Raises ConfigError for a glob that matches nothing, a range that is empty, and an
    interval, which has no values.
    """
    folders = [*conf, *_further(arguments)]
    return [argument if argument.startswith("-") else _expanded(argument, folders) for argument in arguments]


def matches(name: str, pattern: str) -> bool:
    """Whether the pattern stands for the name, which may have slashes: `*` within a folder, `**` for any folders."""

    def match(names: Sequence[str], patterns: Sequence[str]) -> bool:
        if not names or not patterns:
            return not names and not patterns
        if patterns[0] == "**":
            return len(patterns) == 1 or match(names, patterns[1:]) or match(names[1:], patterns)
        return fnmatchcase(names[0], patterns[0]) and match(names[1:], patterns[1:])

    return match(name.split("/"), pattern.split("/"))


def elements(value: str) -> list[str]:
    """The value of an override, split at the commas outside of brackets and quotes."""
    found, depth = [""], 0
    for token in TOKEN.findall(value):
        depth += (token in "([{") - (token in ")]}")
        if token == "," and depth == 0:
            found.append("")
        else:
            found[-1] += token
    return [element.strip() for element in found]


def _expanded(argument: str, folders: Sequence[Path]) -> str:
    parsed = OVERRIDE.fullmatch(argument)
    if parsed is None:
        return argument
    listed = elements(parsed["value"])
    values = [_values(each, parsed["group"], folders, argument) if CALL.fullmatch(each) else None for each in listed]
    if all(each is None for each in values) or (len(listed) == 1 and not listed[0].startswith("glob")):
        return argument  # Hydra reads a lone range(0,3) itself
    names = [name for one, each in zip(listed, values, strict=True) for name in ([one] if each is None else each)]
    return argument[: parsed.start("value")] + ",".join(dict.fromkeys(names))


def _values(call: str, group: str, folders: Sequence[Path], argument: str) -> list[str] | None:
    """What a call such as glob(*) or range(0,3) stands for; None for a call that is no sweep.

    Raises ConfigError if it stands for nothing.
    """
    try:
        override = OverridesParser.create().parse_override(f"key={call}")
    except HydraException:
        return None  # Hydra itself says what is wrong
    pattern = override.value()
    if isinstance(pattern, Glob):
        options = _options(group, folders)
        found = [name for name in options if _chosen(name, pattern)]
        groups = sorted({path.name for folder in folders for path in folder.glob("*/") if path.name != "hydra"})
        none = f"{group} is no group of settings; there are {', '.join(groups)}"
        has = f"{group} has {', '.join(options)}" if options else none
        fault = f"{call} matches nothing; {has}"
        found = [name if PLAIN.fullmatch(name) else QuotedString(name, Quote.single).with_quotes() for name in found]
    elif override.is_discrete_sweep():
        try:
            found, fault = list(override.sweep_string_iterator()), f"{call} is empty; write range(FIRST,BEYOND)"
        except (HydraException, ValueError) as error:
            raise ConfigError(f"{argument}: {call}: {error}") from None
    elif override.is_interval_sweep():
        found, fault = [], f"{call} has no values; list them, or write range(FIRST,BEYOND,STEP)"
    else:
        return None
    if not found:
        raise ConfigError(f"{argument}: {fault}")
    return found


def _chosen(name: str, glob: Glob) -> bool:
    included = any(matches(name, _text(pattern)) for pattern in glob.include)
    return included and not any(matches(name, _text(pattern)) for pattern in glob.exclude)


def _text(pattern: Any) -> str:
    """A pattern as text: within a list Hydra leaves the quotes on, and reads null and numbers as values."""
    if isinstance(pattern, QuotedString):
        return pattern.text
    return pattern if isinstance(pattern, str) else str(Transformer.str(pattern))


def _options(group: str, folders: Sequence[Path]) -> list[str]:
    """Names of the files of a config group but hidden ones, those in its subfolders with the folder before them,
    sorted."""
    homes = [folder / group for folder in folders]
    files = ((file, home) for home in homes for file in home.rglob("*.yaml") if not file.name.startswith("."))
    return sorted({file.relative_to(home).with_suffix("").as_posix() for file, home in files})


def _further(arguments: Sequence[str]) -> Iterator[Path]:
    """Folders that the command line adds to the configuration."""
    for this, following in pairwise([*arguments, ""]):
        option, _, value = this.partition("=")
        if option in ("--config-dir", "-cd"):
            yield Path(value or following)
        elif option == "hydra.searchpath":
            for one in elements(value.strip().removeprefix("[").removesuffix("]")):
                yield Path(one.strip("'\"").removeprefix("file://"))
