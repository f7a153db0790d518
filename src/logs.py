"""Show the output of a step: `python -m src.logs GRID STEP`

STEP is its name or the beginning of one (`train-sqa`), or `report`. Shown are what the step printed, over all its
attempts and ranks, and then what the job around it says.
"""

import sys
from collections.abc import Sequence

from hydra.errors import CompactHydraException

from launchers.base import scheduler
from launchers.resources import REPORT
from launchers.sent import read_sent
from src.grid.arguments import find_grid, grid_parser, matching
from src.grid.errors import ConfigError
from src.grid.execute import log_file
from src.grid.plan import Plan


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exits with 0, or 2 if there is nothing to show."""
    parser = grid_parser("src.logs", __doc__ or "", required=True)
    parser.add_argument("step", metavar="STEP")
    given = parser.parse_args(arguments)
    try:
        folder = find_grid(given.grid, given.outputs)
        names = [*Plan.load(folder / "plan.json").entries, REPORT]
        matches = matching(given.step, names)
        if len(matches) != 1:
            there = ", ".join(matches or names)
            raise ConfigError(f"{given.step} names {len(matches) or 'no'} steps; there are: {there}")
    except CompactHydraException as error:
        print(error, file=sys.stderr)
        return 2
    (name,) = matches
    files = [log_file(folder, name)]
    sent = [each for each in read_sent(folder) if name in each.steps]
    files += [file for each in sent for file in scheduler(each.scheduler).output(folder, each.job)]
    found = [file for file in files if file.exists()]
    if not found:
        print(f"{name} has left no output yet ({files[0]})", file=sys.stderr)
        return 2
    for file in found:
        print(f"==> {file} <==")
        print(file.read_text(encoding="utf-8", errors="replace"), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
