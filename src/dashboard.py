"""Make a workspace of wandb for a grid: `python -m src.dashboard [GRID]`

GRID is the name of a folder in outputs/grids, the beginning of one, or a path; the latest grid if it is left out. Its
rows alone are in it, seeds grouped: bars of the abilities with intervals, components beside scores, forgetting by
stage, training curves, spoken answers, the table. It is saved in the project that the runs went to, and replaced when
it is made again. Where the runs are kept offline, none are written, or the server does not answer, it is the file
workspace.json in the grid's folder. In a terminal, `wandb leet outputs/wandb` shows the runs without any server.
"""

import json
import sys
from collections.abc import Sequence

from hydra.errors import CompactHydraException

from src.grid.arguments import find_grid, grid_parser
from src.grid.errors import ConfigError
from src.grid.files import write_whole
from src.grid.plan import Plan
from src.report.tracking import workspace
from src.report.tracking.writing import Destination, library

OWNER = "your-account"
"""Stands in the file for the account, where none is named."""
WITHOUT_SERVER = {"offline": "the runs are kept offline", "disabled": "no runs are written (tracker.mode, WANDB_MODE)"}
"""Why the workspace is a file, by the tracker's mode."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exits with 0; 1 if the server did not answer; 2 if there is no such grid, or no report of it."""
    given = grid_parser("src.dashboard", __doc__ or "").parse_args(arguments)
    try:
        folder = find_grid(given.grid, given.outputs)
        plan = Plan.load(folder / "plan.json")
        if not (folder / "table.json").exists():
            raise ConfigError(f"{folder.name} has no report yet: its rows have to be run first")
        table = json.loads((folder / "table.json").read_text(encoding="utf-8"))
        if not table["rows"]:
            raise ConfigError(f"{folder.name} has no rows in its table")
    except CompactHydraException as error:
        print(error, file=sys.stderr)
        return 2
    there = Destination.of(plan.rows[0].config.get("tracker"), folder)
    file, reason = folder / "workspace.json", WITHOUT_SERVER.get(there.mode, "")
    entity = there.entity or OWNER
    try:
        if not reason:
            entity = there.entity or library().Api().default_entity or OWNER
    except Exception as error:
        reason = f"the server did not answer ({' '.join(str(error).split())[:200]})"
    made = workspace.workspace(plan, table, folder.name, entity, there.project)
    workspace.go_on(made, file)
    try:
        if not reason:
            made.save()
    except Exception as error:
        reason = f"the server did not take it ({' '.join(str(error).split())[:200]})"
    write_whole(file, workspace.text(made))
    if not reason:
        print(made.url)
        return 0
    kept = "" if there.mode == "disabled" else f"; till then: wandb leet {there.folder}"
    print(f"{file}: {reason}. Give the command again when they are in a project{kept}")
    return 1 if there.mode == "online" else 0


if __name__ == "__main__":
    sys.exit(main())
