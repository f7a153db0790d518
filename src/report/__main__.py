"""Draw the report of a grid anew, from what its store holds: `python -m src.report [GRID]`

GRID is the name of a folder in outputs/grids, the beginning of one, or a path; the latest grid if it is left out.
Nothing is computed: rows whose steps are missing are told as such. Exit code: 0, or 2 if there is no such grid.
"""

import sys
from collections.abc import Sequence

from hydra.errors import CompactHydraException

from src.grid.arguments import find_grid, grid_parser
from src.grid.plan import Plan
from src.grid.store import Store
from src.report.report import write


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    given = grid_parser("src.report", __doc__ or "").parse_args(arguments)
    try:
        folder = find_grid(given.grid, given.outputs)
        plan = Plan.load(folder / "plan.json")
    except CompactHydraException as error:
        print(error, file=sys.stderr)
        return 2
    print(write(plan.rows, plan, Store(folder.parents[1] / "store"), folder))
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
