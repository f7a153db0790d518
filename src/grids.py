"""List the grids of an outputs folder, the latest first: `python -m src.grids`

Shown are name, rows, profile, state, date of launch, size and command. States are those of src.store; the size is that
of a grid's own folder and of all artifacts that it uses, which other grids may use, too. A grid keeps in its folder its
command with the overrides of each row (`overrides.yaml`) and its frozen plan with their whole settings (`plan.json`).

    python -m src.report GRID       draw the report of a grid anew
    python -m src.compare A B       compare two grids, or two rows
    python -m src.store             what the store holds, and what no grid uses any more

Exit code: 0, or 2 if there is no store.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import CompactHydraException
from rich.console import Console
from rich.table import Table
from rich.text import Text

from src.grid.arguments import command_parser
from src.grid.usage import GridUse, Usage, size, survey
from src.store import UNKNOWN, command_text, size_text, state_text


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = command_parser("src.grids", __doc__ or "")
    parser.add_argument("--outputs", metavar="DIR", type=Path, default=Path("outputs"), help="default: outputs")
    given = parser.parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=200)
    try:
        usage = survey(given.outputs)
    except CompactHydraException as error:
        print(error, file=sys.stderr)
        return 2
    console.print(render(usage) if usage.grids else Text(f"{given.outputs} holds no grid"))
    return 0


def render(usage: Usage) -> Table:
    """A line for each grid."""
    table = Table(box=None, pad_edge=False)
    for header in ("grid", "rows", "profile", "state", "launched", "size", "command"):
        table.add_column(header, no_wrap=header != "command", overflow="fold")
    for grid in usage.grids:
        launched = grid.about.get("date", UNKNOWN)[:16].replace("T", " ")
        used = size(piece for piece in usage.pieces if piece.step in grid.steps)
        own = sum(file.lstat().st_size for file in grid.folder.rglob("*") if not file.is_dir())
        cells = [grid.name, str(grid.rows), profile(grid), state_text(grid), launched, size_text(used + own)]
        table.add_row(*map(Text, cells), Text(command_text(grid)))
    return table


def profile(grid: GridUse) -> str:
    """The profiles of its rows, as they are named on the command line."""
    if grid.state == "unreadable":
        return UNKNOWN
    rows = json.loads((grid.folder / "plan.json").read_text(encoding="utf-8"))["rows"]
    return ", ".join(dict.fromkeys(str(row["config"].get("profile", UNKNOWN)) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
