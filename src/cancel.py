"""Cancel what is still queued or running of a grid: `python -m src.cancel GRID`

What is complete stays, and so do checkpoints: `python -m src.retry GRID` goes on from there.
"""

import sys
from collections.abc import Sequence

from hydra.errors import CompactHydraException

from launchers.base import SchedulerError, scheduler
from launchers.sent import read_sent
from launchers.states import find_grid
from src.grid.arguments import grid_parser

PATIENCE = 60.0
"""Seconds for which a scheduler that is away is asked again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exits with 0, or 2 if the grid cannot be found or its scheduler cannot be asked."""
    given = grid_parser("src.cancel", __doc__ or "", required=True).parse_args(arguments)
    try:
        folder = find_grid(given.grid, given.outputs)
        sent = read_sent(folder)
        cancelled = 0
        for name in sorted({each.scheduler for each in sent}):
            asked = scheduler(name)
            known = asked.state([each.job for each in sent if each.scheduler == name], PATIENCE)
            alive = [job for job, queued in known.items() if queued.alive]
            asked.cancel(alive, PATIENCE)
            cancelled += len(alive)
    except (CompactHydraException, SchedulerError) as error:
        print(error, file=sys.stderr)
        return 2
    said = f"{cancelled} of {len(sent)} jobs cancelled; the others were over"
    print(said if sent else "it has no jobs: it was not submitted to a scheduler")
    return 0


if __name__ == "__main__":
    sys.exit(main())
