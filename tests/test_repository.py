"""The repository itself: versions are pinned, the Makefile installs once, and the README names what exists."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN = ("src", "launchers", "tests", "benchmarks", "hydra_plugins")
"""Packages of this project."""
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def pins(extras: tuple[str, ...] = ()) -> list[Requirement]:
    """The direct dependencies, with those of the extras named."""
    lines = PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    requirements = [Requirement(line) for line in lines]
    return [requirement for requirement in requirements if requirement.name != PROJECT["name"]]


def constraints() -> dict[str, str]:
    """Package -> version of constraints.txt, checked to have nothing but exact versions."""
    versions: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==" and "*" not in specifier.version and requirement.url is None, line
        name = canonicalize_name(requirement.name)
        assert name not in versions, f"{name} is there twice"
        versions[name] = specifier.version
    return versions


def repository_files() -> list[Path]:
    """What git tracks, or would with the next `git add`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def make(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`make`, without what an outer make passes on."""
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        ["make", *arguments], cwd=folder, capture_output=True, text=True, env={**clean, **environment}
    )


# Versions


@pytest.mark.parametrize("requirement", pins(("test", "dev")), ids=lambda requirement: requirement.name)
def test_direct_dependencies_are_pinned_as_in_the_constraints(requirement: Requirement) -> None:
    assert str(requirement.specifier) == f"=={constraints()[canonicalize_name(requirement.name)]}"


def test_the_makefile_installs_the_torch_of_pyproject() -> None:
    (torch,) = (str(requirement) for requirement in pins() if requirement.name == "torch")
    assert re.search(r"^TORCH \?= (.*)$", MAKEFILE, re.MULTILINE)[1] == torch  # type: ignore[index]


def needed_packages() -> dict[str, str]:
    """Package -> who asks for it, for all that the installed dependencies need here."""
    asked: dict[str, str] = {}
    waiting = [(requirement, "pyproject.toml") for requirement in pins(("test", "dev"))]
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement, asker = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in done:
            continue
        done.add((name, frozenset(requirement.extras)))
        asked.setdefault(name, asker)
        for line in importlib.metadata.distribution(name).requires or []:
            inner = Requirement(line)
            extras = ["", *requirement.extras]
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append((inner, name))
    return asked


def test_the_constraints_pin_everything_that_the_dependencies_need() -> None:
    of_torch = ("nvidia-", "cuda-", "triton")  # a CUDA build of torch pins these itself
    free = {
        name: asker
        for name, asker in needed_packages().items()
        if name not in constraints() and not name.startswith(of_torch)
    }
    assert not free, f"not in constraints.txt (package: who needs it): {free}"


def imported_packages(folder: str) -> dict[str, Path]:
    """Top-level name of each foreign import below the folder -> a file that imports it."""
    found: dict[str, Path] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in (name.partition(".")[0] for name in names):
                if name not in sys.stdlib_module_names and name not in OWN:
                    found.setdefault(name, path.relative_to(ROOT))
    return found


@pytest.mark.parametrize(("folder", "extras"), [("src", ("gpu",)), ("launchers", ()), ("tests", ("test",))])
def test_every_import_is_a_direct_dependency(folder: str, extras: tuple[str, ...]) -> None:
    declared = {canonicalize_name(requirement.name) for requirement in pins(extras)}
    distributions = importlib.metadata.packages_distributions()
    undeclared = {
        name: str(path)
        for name, path in imported_packages(folder).items()
        if not declared & {canonicalize_name(distribution) for distribution in distributions.get(name, [name])}
    }
    assert not undeclared, f"imported, but not in pyproject.toml: {undeclared}"


# Makefile


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with only what the installation reads."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_an_installation_is_not_repeated_until_a_version_changes(checkout: Path) -> None:
    assert "pip" in make("--dry-run", "setup", folder=checkout).stdout

    stamp = checkout / ".venv/.installed"
    stamp.parent.mkdir()
    stamp.touch()
    for target in ("setup", "run", "test", "lint"):
        assert "install" not in make("--dry-run", target, folder=checkout).stdout

    later = stamp.stat().st_mtime + 1
    os.utime(checkout / "constraints.txt", (later, later))
    assert "pip" in make("--dry-run", "run", folder=checkout).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["PYTHON=no-such-python"], "Palimpsest needs Python 3.11 or newer, and no-such-python is missing."),
        (["PYTHON=./old"], "Palimpsest needs Python 3.11 or newer, and ./old is Python 3.9.2."),
        (["PYTHON=./this", "CXX=no-such-compiler"], "No C++ compiler: no-such-compiler is not on the PATH"),
    ],
)
def test_what_is_missing_is_one_clear_line(checkout: Path, arguments: list[str], message: str) -> None:
    commands = {
        "old": 'if [ "$1" = --version ]; then echo Python 3.9.2; else exit 1; fi',
        "this": f"exec '{sys.executable}' \"$@\"",
    }
    for name, command in commands.items():
        (checkout / name).write_text(f"#!/bin/sh\n{command}\n")
        (checkout / name).chmod(0o755)
    result = make("setup", *arguments, folder=checkout)
    said, of_make = result.stderr.splitlines()
    assert result.returncode and said.startswith(message) and of_make.startswith("make: ***")
    assert not (checkout / ".venv").exists()


def test_clean_keeps_results(checkout: Path) -> None:
    kept = checkout / "outputs/store/__pycache__/result"
    kept.parent.mkdir(parents=True)
    kept.touch()
    for folder in (".venv", ".mypy_cache", "src/__pycache__"):
        (checkout / folder).mkdir(parents=True)
    assert make("clean", folder=checkout).returncode == 0
    assert kept.exists()
    assert not any((checkout / folder).exists() for folder in (".venv", ".mypy_cache", "src/__pycache__"))


def test_continuous_integration_is_a_program_that_runs_make_test() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    assert script.read_text(encoding="utf-8").rstrip().endswith("make test")


# Files


def test_no_file_names_a_path_of_one_machine() -> None:
    absolute = re.compile(r"(?<![\w.~$})>\-/])/(?:home|root|work|Users)/\w+")
    found = []
    for path in repository_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in absolute.finditer(text)]
    assert not found


def test_results_and_the_environment_are_ignored_by_git() -> None:
    ignored = ("outputs/store/x/manifest.json", ".venv/bin/python", "src/__pycache__/run.pyc", ".mypy_cache/x")
    for name in ignored:
        result = subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT, capture_output=True)
        if result.returncode == 128:
            pytest.skip("not a git checkout")
        assert result.returncode == 0, f"git would add {name}"


# README


def readme_commands() -> Iterator[str]:
    """Each command of the README, without the comment behind it: indented lines and code within a line."""
    blocks = re.findall(r"^    (\S.*)$", README, re.MULTILINE)
    for text in blocks + re.findall(r"(?<!`)`([^`\n]+)`(?!`)", README):
        if text.startswith(("make ", "python ")):
            yield text.partition("  #")[0].strip()


COMMANDS = sorted(set(readme_commands()))
EXAMPLE = re.search(r"`conf/strategy/(\S+)\.yaml`.*?```yaml\n(.*?)```", README, re.DOTALL)


def test_the_readme_has_commands() -> None:
    assert {"make run", "make test", "python -m src.run strategy=replay"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_readme_name_what_exists(command: str) -> None:
    assert EXAMPLE
    words = command.replace("'", "").split()
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", MAKEFILE, re.MULTILINE), f"no target {words[1]}"
        return
    assert words[:2] == ["python", "-m"]
    named = ROOT / words[2].replace(".", "/")
    assert named.with_suffix(".py").is_file() or (named / "__main__.py").is_file()
    for group, value in (word.split("=", 1) for word in words[3:] if "=" in word):
        folder = {"strategy": ROOT / "conf/strategy", "sweeps": ROOT / "sweeps"}.get(group)
        for name in value.split(",") if folder and "*" not in value else []:
            assert name == EXAMPLE[1] or (folder / f"{name}.yaml").is_file(), f"no {group} {name}"  # type: ignore[operator]


def test_links_of_the_readme_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("https://") or (ROOT / link.partition("#")[0]).exists(), link


def test_the_strategy_of_the_readme_composes(tmp_path: Path) -> None:
    assert EXAMPLE
    strategy = tmp_path / f"strategy/{EXAMPLE[1]}.yaml"
    strategy.parent.mkdir(parents=True)
    strategy.write_text(EXAMPLE[2], encoding="utf-8")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cell = compose("config", [f"strategy={EXAMPLE[1]}", f"hydra.searchpath=[file://{tmp_path}]"])
    assert EXAMPLE[1].endswith(cell.strategy.name)
    assert (cell.merge.method, cell.replay.enabled, cell.discount.alpha) == ("ties", True, 15)
