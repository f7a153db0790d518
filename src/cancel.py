"""Cancel what is still queued or running of a grid: `python -m src.cancel GRID`

What is complete stays, and so do checkpoints: `python -m src.retry GRID` goes on from there.
"""

import sys
from collections.abc import Sequence

from hydra.errors import CompactHydraException

from launchers.base import Scheduler, SchedulerError, scheduler
from launchers.sent import read_sent
from src.grid.arguments import find_grid, grid_parser
from src.grid.errors import ConfigError

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
            cancelled += end_jobs(scheduler(name), [each.job for each in sent if each.scheduler == name])
    except CompactHydraException as error:
        print(error, file=sys.stderr)
        return 2
    said = f"{cancelled} of {len(sent)} jobs cancelled; the others were over"
    print(said if sent else "it has no jobs: it was not submitted to a scheduler")
    return 0


def end_jobs(asked: Scheduler, jobs: Sequence[str]) -> int:
    """Cancel those jobs that are not over; how many. Raises ConfigError if the scheduler cannot be asked."""
    try:
        alive = [job for job, queued in asked.state(jobs, PATIENCE).items() if queued.alive]
        asked.cancel(alive, PATIENCE)
    except SchedulerError as error:
        raise ConfigError(f"{asked.title} cannot be asked: {error}") from None
    return len(alive)


if __name__ == "__main__":
    sys.exit(main())
