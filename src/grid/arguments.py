"""What the commands share: how they are documented, and how grids, steps and artifacts are named."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from src.grid.errors import ConfigError


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


def grid_parser(name: str, documentation: str, required: bool = False) -> argparse.ArgumentParser:
    """A parser with GRID and --outputs."""
    parser = command_parser(name, documentation)
    told = "its name, or the beginning of it" + ("" if required else "; default: the latest")
    parser.add_argument("grid", metavar="GRID", nargs=None if required else "?", help=told)
    parser.add_argument("--outputs", metavar="DIR", type=Path, default=Path("outputs"), help="default: outputs")
    return parser


def find_grid(text: str | None, outputs: Path) -> Path:
    """The folder of a grid: by path, by name, by the beginning of its name; None: the latest. Raises ConfigError."""
    if text is None:
        folder = outputs / "latest"
        if not (folder / "plan.json").exists():
            raise ConfigError(f"there is no grid in {outputs}; run one, or name its outputs folder: --outputs DIR")
        return folder.resolve()
    if (Path(text) / "plan.json").exists():
        return Path(text).resolve()
    names = sorted(file.parent.name for file in outputs.glob("grids/*/plan.json"))
    matches = matching(text, names)
    if len(matches) != 1:
        raise ConfigError(f"{text} names {len(matches) or 'no'} grids of {outputs}; there are: {', '.join(names)}")
    return (outputs / "grids" / matches[0]).resolve()
