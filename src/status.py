"""Where every step of a grid stands: `python -m src.status [GRID] [--watch | --json]`

GRID is the name of a folder in outputs/grids, the beginning of one, or a path; the latest grid if it is left out.
States: cached, done, running, queued (with the scheduler's reason), waiting (for another step), failed, blocked (by a
step that failed), cancelled, not run. --watch stays until nothing is going on any more, and exits with 1 if a step is
missing then.
"""

import json
import sys
from collections.abc import Sequence

from hydra.errors import CompactHydraException
from rich.console import Console

from launchers.states import follow, overview, render
from src.grid.arguments import find_grid, grid_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = grid_parser("src.status", __doc__ or "")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--watch", action="store_true", help="stay, and show what changes")
    shown.add_argument("--json", action="store_true", help="for a program")
    given = parser.parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=200)
    try:
        folder = find_grid(given.grid, given.outputs)
        if given.watch:
            return follow(folder, console)
        seen = overview(folder)
    except CompactHydraException as error:
        print(error, file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps(seen.as_json(), indent=1, ensure_ascii=False))
    else:
        console.print(render(seen))
    return 0


if __name__ == "__main__":
    sys.exit(main())
