"""What an outputs folder holds, and what no grid uses any more: `python -m src.store [clean [GRID]] [--yes]`

    python -m src.store               each grid, the size of the store, what is unused
    python -m src.store clean         remove the unused, after asking
    python -m src.store clean GRID    remove the folder of a grid, and what it alone uses

States of a grid: complete, running, failed, stopped, queued or stopped (src.status tells which), and unreadable. Unused
are artifacts that no grid's plan names, left-over scratch of their steps, and artifacts that were moved aside because
they were damaged or replaced. Grids may be planned and run meanwhile: nothing is removed that a process computes, or
that was made, changed or looked up within the last hour, so that a grid which is being launched keeps what it counts as
cached.

Without a terminal, clean asks nobody and removes nothing, unless --yes is given. Exit code: 0; 1 if a file could not be
removed or the answer was no; 2 if GRID or the store cannot be found, or it is not known what is unused.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import CompactHydraException
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from src.grid.arguments import command_parser, matching
from src.grid.errors import ConfigError
from src.grid.usage import ASIDE, GridUse, Piece, Usage, remove, remove_grid, size, survey, unknown_use

UNKNOWN = "unknown"
"""What a plan of an older version does not tell."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = command_parser("src.store", __doc__ or "")
    parser.add_argument("action", metavar="clean", nargs="?", choices=["clean"], help="remove what no grid uses")
    parser.add_argument("grid", metavar="GRID", nargs="?", help="remove this grid: its name, or the beginning of it")
    parser.add_argument("--yes", action="store_true", help="remove without asking")
    parser.add_argument("--outputs", metavar="DIR", type=Path, default=Path("outputs"), help="default: outputs")
    given = parser.parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=200)
    try:
        if given.action:
            return clean(given, console)
        console.print(render(survey(given.outputs), given.outputs))
    except CompactHydraException as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename} cannot be removed: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def clean(given: argparse.Namespace, console: Console) -> int:
    """Show what would be removed, ask, and remove it; the exit code.

    Raises ConfigError if it is not known what is unused, and OSError if a file cannot be removed.
    """
    usage = survey(given.outputs)
    grid = named_grid(given.grid, usage) if given.grid else None
    chosen = usage.unused
    if grid:
        usage = survey(given.outputs, without=grid.folder)
        chosen = [piece for piece in usage.unused if piece.step in grid.steps]
        console.print(Text(f"grid {grid.name}: {counted(grid.rows, 'row')}, {state_text(grid)}, {command_text(grid)}"))
        if grid.submitted and grid.state != "complete":
            console.print(Text(f"end its jobs first, if some are queued: python -m src.cancel {grid.name}", "yellow"))
    if fault := unknown_use(usage):
        raise ConfigError(fault)
    if chosen:
        console.print(pieces_table(chosen))
    if usage.waiting:
        console.print(waiting_text(usage), highlight=False)
    if not chosen and not grid:
        console.print("Nothing is unused.", highlight=False)
        return 0
    what = [f"the folder of {grid.name}"] if grid else []
    what += [f"{counted(len(chosen), 'folder')} of the store ({size_text(usage.freed(chosen))})"] if chosen else []
    if not given.yes and not agreed(f"Remove {' and '.join(what)}? [y/N] "):
        print("Nothing was removed.")
        return 1
    if grid:
        remove_grid(grid)
    removed = remove(given.outputs, chosen)
    kept = len(chosen) - len(removed)
    more = f"; {counted(kept, 'folder')} stay, because a grid has come to use them" if kept else ""
    done = ([f"the folder of {grid.name}"] if grid else []) + [f"{counted(len(removed), 'folder')} of the store"]
    print(f"Removed {' and '.join(done)}{more}.")
    return 0


def named_grid(text: str, usage: Usage) -> GridUse:
    """The grid of that name, or of the only name that begins so. Raises ConfigError; also if the grid is running."""
    grids = {grid.name: grid for grid in usage.grids}
    names = matching(text, grids)
    if len(names) != 1:
        raise ConfigError(f"{text} names {len(names) or 'no'} grids; there are: {', '.join(sorted(grids))}")
    grid = grids[names[0]]
    if grid.state == "running":
        raise ConfigError(f"{grid.name} is running: end it first (Ctrl-C, or python -m src.cancel {grid.name})")
    return grid


def agreed(question: str) -> bool:
    """Whether the user answers yes. Raises ConfigError without a terminal."""
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask at, so nothing was removed: give --yes to remove without asking")
    try:
        return input(question).strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        print()
        return False


def render(usage: Usage, outputs: Path) -> RenderableType:
    """Grids, store and unused, as tables."""
    artifacts = [piece for piece in usage.pieces if piece.kind not in ASIDE]
    parts: list[RenderableType] = [grids_table(usage), Text("")] if usage.grids else [Text("no grids"), Text("")]
    total = f"store {outputs / 'store'}: {counted(len(artifacts), 'artifact')}, {size_text(size(usage.pieces))}"
    parts += [Text(total, "bold"), kinds_table(usage)]
    damaged = [piece for piece in artifacts if piece.fault]
    parts += [Text(f"damaged: {piece.step}: {piece.fault}", "yellow") for piece in damaged]
    parts.append(Text(""))
    if usage.unused:
        freed = size_text(usage.freed(usage.unused))
        parts += [Text(f"used by no grid: {counted(len(usage.unused), 'folder')}, {freed}", "bold")]
        parts += [pieces_table(usage.unused), Text("`clean` removes them, after asking.")]
    else:
        parts.append(Text("Nothing is unused."))
    if usage.waiting:
        parts.append(Text(waiting_text(usage)))
    if fault := unknown_use(usage):
        parts.append(Text(fault, "yellow"))
    return Group(*parts)


def grids_table(usage: Usage) -> Table:
    """A line for each grid."""
    table = Table(box=None, pad_edge=False)
    for header in ("grid", "rows", "steps", "state", "launched", "command"):
        table.add_column(header, no_wrap=header != "command", overflow="fold")
    for grid in usage.grids:
        launched = grid.about.get("date", UNKNOWN)[:16].replace("T", " ")
        cells = [grid.name, str(grid.rows), f"{grid.done}/{grid.planned}", state_text(grid), launched]
        table.add_row(*map(Text, cells), Text(command_text(grid)))
    return table


def kinds_table(usage: Usage) -> Table:
    """What the artifacts of each kind of step take, the largest first, and what else is in the store."""
    kinds: dict[str, list[Piece]] = {}
    for piece in usage.pieces:
        kinds.setdefault(piece.kind, []).append(piece)
    table = Table(box=None, pad_edge=False, show_header=False)
    for kind, pieces in sorted(kinds.items(), key=lambda pair: (pair[0] in ASIDE, -size(pair[1]), pair[0])):
        table.add_row(Text(kind), Text(str(len(pieces)), justify="right"), Text(size_text(size(pieces))))
    return table


def pieces_table(pieces: Sequence[Piece]) -> Table:
    """A line for each folder of the store."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for piece in pieces:
        shown = f"{piece.kind}/{piece.step}" if piece.kind in ASIDE else piece.step
        table.add_row(Text(f"  {shown}"), Text(size_text(size([piece])), justify="right"))
    return table


def waiting_text(usage: Usage) -> str:
    """How much is left alone for now."""
    many = counted(len(usage.waiting), "folder")
    return f"kept for now: {many}, used by no grid, but made, changed or looked up within the last hour"


def state_text(grid: GridUse) -> str:
    """The state; a grid that was handed to a scheduler may also be in its queue."""
    return "queued or stopped" if grid.submitted and grid.state == "stopped" else grid.state


def command_text(grid: GridUse) -> str:
    """The command that launched the grid."""
    return grid.about.get("command", UNKNOWN)


def counted(number: int, noun: str) -> str:
    """`1 folder`, `2 folders`"""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def size_text(count: int) -> str:
    """Bytes with a decimal unit: `1.2 GB`."""
    amount, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.0f} bytes" if units[0] == "bytes" else f"{amount:.1f} {units[0]}"


if __name__ == "__main__":
    sys.exit(main())
