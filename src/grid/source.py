"""The source files that can reach a step: its module, and what that imports of this project, however deep.

The engine, src/grid, is left out: it runs steps and does not decide their results.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

from src.grid.step import Step

ROOT = Path(__file__).resolve().parents[2]
PACKAGE, ENGINE = "src", "src.grid"


def reaching(step: Step) -> dict[str, str]:
    """File -> the first 16 hex digits of its SHA-256, of every file that can reach the step."""
    found = _closure(type(step).__module__)
    for module in step.plugins:
        found = found | _closure(module)
    return {file: _read(file)[0] for file in sorted(found)}


@cache
def _closure(module: str) -> frozenset[str]:
    """Files of a module and of what it imports, below the root."""
    seen: set[str] = set()
    waiting = [file] if (file := _file(module)) else []
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += _read(file)[1]
    return frozenset(seen)


@cache
def _read(file: str) -> tuple[str, tuple[str, ...]]:
    """Checksum of a file, and the files that it imports."""
    content = (ROOT / file).read_bytes()
    found: dict[str, None] = {}
    for node in ast.walk(ast.parse(content)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] == PACKAGE and not f"{name}.".startswith(f"{ENGINE}.") and (imported := _file(name)):
                found[imported] = None
    return hashlib.sha256(content).hexdigest()[:16], tuple(found)


def _file(module: str) -> str | None:
    """The file of a module of this project, as a path below the root; None for another, or a name in a module."""
    path = Path(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if (ROOT / file).is_file():
            return file.as_posix()
    return None
