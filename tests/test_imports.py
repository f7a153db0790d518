"""The imports of src/ and launchers/: they point down, no two modules import each other, and no module is long."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.conftest import ROOT

LAYERS: list[set[str]] = [
    {"src.cancel", "src.compare", "src.dashboard", "src.doctor", "src.export", "src.grids", "src.logs", "src.retry"}
    | {"src.run", "src.score", "src.status", "src.store", "src.why"},
    {"launchers"},
    {"src.report"},
    {"src.recipe", "src.tasks"},
    {"src.config"},
    {"src.machine"},
    {"src.steps"},
    {"src.data", "src.speech", "src.model", "src.train", "src.merge", "src.evaluate", "src.stages"},
    {"src.checks", "src.globs", "src.one_line", "src.settings_files"},
    {"src.grid"},
]
"""From the commands down to the engine. A part may import parts of its own layer and of those below it."""
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
LONGEST = 350
"""Lines that a module may have."""


def part_of(module: str) -> str:
    """src.speech.kmeans -> src.speech, launchers.grid -> launchers."""
    parts = module.split(".")
    return parts[0] if parts[0] == "launchers" else ".".join(parts[:2])


def imported(tree: ast.Module, modules: Mapping[str, object]) -> Iterator[str]:
    """The modules of this project that a module imports: inside functions and for types, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, "relative imports are not followed"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found = inner if inner in modules else node.module
                if found in modules:
                    yield found


@cache
def graph() -> dict[str, set[str]]:
    """Module -> the modules that it imports."""
    files = sorted(file for folder in ("src", "launchers") for file in (ROOT / folder).rglob("*.py"))
    parts = {file: file.relative_to(ROOT).with_suffix("").parts for file in files}
    trees = {
        ".".join(path[:-1] if path[-1] == "__init__" else path): ast.parse(file.read_text(encoding="utf-8"))
        for file, path in parts.items()
    }
    return {module: set(imported(tree, trees)) - {module} for module, tree in trees.items()}


def test_the_graph_is_seen() -> None:
    assert {"src.recipe", "src.config"} <= graph()["launchers.grid"]
    assert "src.train.stage" in graph()["src.steps.train"], "imported inside a function"


def test_every_part_has_its_layer() -> None:
    assert {part_of(module) for module in graph() if module != "src"} == set(LEVEL)


def test_imports_point_down() -> None:
    up = [
        f"{module} imports {other}"
        for module, others in graph().items()
        for other in sorted(others)
        if module != "src" and LEVEL[part_of(other)] < LEVEL[part_of(module)]
    ]
    assert not up


def test_no_modules_import_each_other() -> None:
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_engine_imports_nothing_else_of_the_project() -> None:
    parts = {part_of(other) for module, others in graph().items() if part_of(module) == "src.grid" for other in others}
    assert parts == {"src.grid"}


def test_no_module_is_long() -> None:
    files = [file for folder in ("src", "launchers") for file in (ROOT / folder).rglob("*.py")]
    lines = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert {file: count for file, count in lines.items() if count > LONGEST} == {}
