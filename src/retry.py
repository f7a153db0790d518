"""Submit again what a grid lacks: `python -m src.retry GRID [hydra.launcher.KEY=VALUE ...]`

What failed, was cancelled or was blocked is submitted once more, with the source as it is now; nothing else is run.
Rows in which a step left a traceback are composed anew, so that a mended setting counts, and what has changed in them
is printed; every other row keeps the settings that it was submitted with, and with --frozen all do. The launcher's
settings are those of the last submission, changed by what is given: hydra.launcher.resources.train.minutes=480.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hydra.errors import CompactHydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from yaml import YAMLError

from launchers.base import Scheduler, scheduler
from launchers.resources import Settings
from launchers.sent import read_sent, settings_file
from launchers.states import follow
from launchers.submission import submit
from src.grid.arguments import find_grid, grid_parser
from src.grid.errors import ConfigError
from src.grid.execute import failure_file
from src.grid.plan import Plan, make_plan
from src.grid.row import Row
from src.grid.step import closure
from src.grid.store import Store
from src.grid.typed import typed
from src.recipe import compose
from src.why import changed

PREFIX = "hydra.launcher."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exits with 0, or 2 if the grid cannot be submitted again."""
    parser = grid_parser("src.retry", __doc__ or "", required=True)
    parser.add_argument("settings", metavar="hydra.launcher.KEY=VALUE", nargs="*")
    parser.add_argument("--frozen", action="store_true", help="compose no row anew")
    given = parser.parse_intermixed_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=200)
    try:
        folder = find_grid(given.grid, given.outputs)
        used, settings = last_submission(folder, given.settings)
        plan, store = Plan.load(folder / "plan.json"), Store(folder.parents[1] / "store")
        rows = [row if given.frozen else mended(row, store, folder, console) for row in plan.rows]
        submit(replace(make_plan(rows, store), about=plan.about), store, folder, used, settings, console)
        if settings.wait:
            return follow(folder, console)
    except CompactHydraException as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def last_submission(folder: Path, given: Sequence[str]) -> tuple[Scheduler, Settings]:
    """The scheduler and the launcher's settings of the last submission, with what is given. Raises ConfigError."""
    sent = read_sent(folder)
    if not sent:
        raise ConfigError(f"{folder.name} was not submitted to a scheduler: run its command again, it goes on "
                          "where it was")  # fmt: skip
    for one in given:
        if not one.startswith(PREFIX) or "=" not in one:
            raise ConfigError(f"{one} is no setting of the launcher, written as {PREFIX}KEY=VALUE; "
                              "to change another one, give the grid's own command again")  # fmt: skip
    kept = json.loads(settings_file(folder, sent[-1].submission).read_text(encoding="utf-8"))
    used = scheduler(sent[-1].scheduler)
    try:
        changes = OmegaConf.from_dotlist([one.removeprefix(PREFIX) for one in given])
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{' '.join(given)}: {' '.join(str(error).split())}") from None
    changed_settings = OmegaConf.to_container(OmegaConf.merge(kept, changes))
    return used, typed(used.settings, changed_settings, PREFIX.rstrip("."))


def mended(row: Row, store: Store, folder: Path, console: Console) -> Row:
    """The row as its settings are now, if one of its steps left a traceback; else the row as it is."""
    steps = list(closure(row.steps))
    if not any(failure_file(folder, step.name).exists() and store.lookup(step) is None for step in steps):
        return row
    again = compose(row.overrides)
    for line in changed(row.config, again.config):
        console.print(f"{row.label}: {line}", markup=False, highlight=False)
    return again


if __name__ == "__main__":
    sys.exit(main())
