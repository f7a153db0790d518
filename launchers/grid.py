"""What every launcher does before and after it executes: cells -> rows -> plan -> grid folder, and the report."""

import hashlib
import importlib
import os
import re
import shutil
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from src.grid.cell import Row, row
from src.grid.errors import ConfigError
from src.grid.execute import failure_file
from src.grid.plan import Plan, make_plan
from src.grid.step import canonical
from src.grid.store import Store


@dataclass(frozen=True)
class Grid:
    """All the cells of one command."""

    rows: list[Row]
    plan: Plan
    store: Store
    folder: Path
    plan_only: bool
    cells: list[DictConfig]
    """The composed configurations with Hydra's own section, in the order of the overrides."""


def prepare(context: HydraContext, config: DictConfig, overrides: Sequence[Sequence[str]], first: int) -> Grid:
    """Compose and check every cell, and plan them. Writes nothing. Raises ConfigError for the first cell at fault."""
    rows: list[Row] = []
    cells: list[DictConfig] = []
    for number, cell_overrides in enumerate(overrides, start=first):
        cell = context.config_loader.load_sweep_config(config, list(cell_overrides))
        with open_dict(cell):
            cell.hydra.job.id = str(number)
            cell.hydra.job.num = number
        HydraConfig.instance().set_config(cell)  # for ${hydra:...} in the configuration
        cells.append(cell)
        made = row(cell)
        if made not in rows:
            rows.append(made)
    outputs = {str(cell.get("outputs", "outputs")) for cell in cells}
    names = {cell.get("name") for cell in cells}
    if len(outputs) > 1 or len(names) > 1:
        raise ConfigError(f"name and outputs must be the same in all cells of a grid, not {outputs | names}")
    root = Path(outputs.pop())
    store = Store(root / "store")
    folder = root / "grids" / _folder_name(names.pop() or grid_name(rows))
    return Grid(rows, make_plan(rows, store), store, folder, any(cell.get("plan_only", False) for cell in cells), cells)


def _folder_name(name: object) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", str(name)):
        raise ConfigError(f"name={name}: only letters, digits and . _ + - may stand in the name of a grid")
    return str(name)


def grid_name(rows: Sequence[Row]) -> str:
    """Readable, and the same whenever the same rows are asked for: `replay-1a2b3c4d`, `13-rows-1a2b3c4d`."""
    identity = canonical([[r.name, r.label, [step.fingerprint for step in r.steps]] for r in rows])
    readable = rows[0].name if len(rows) == 1 else f"{len(rows)}-rows"
    return f"{re.sub('[^A-Za-z0-9_]+', '-', readable).strip('-')}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def freeze(grid: Grid) -> None:
    """Save the plan in the grid's folder, forget earlier failures, and let `outputs/latest` point there."""
    grid.folder.mkdir(parents=True, exist_ok=True)
    grid.store.root.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(failure_file(grid.folder, "").parent, ignore_errors=True)
    grid.plan.save(grid.folder / "plan.json")
    latest = grid.folder.parents[1] / "latest"
    temporary = latest.with_name(f".latest-{os.getpid()}")
    temporary.symlink_to(os.path.relpath(grid.folder, latest.parent))
    temporary.replace(latest)


def write_report(grid: Grid) -> tuple[bool, str]:
    """Whether the report could be written, and the table, or else what went wrong."""
    file = failure_file(grid.folder, "report")
    file.unlink(missing_ok=True)
    try:
        report = importlib.import_module("src.report.report")
        return True, report.write(grid.rows, grid.plan, grid.store, grid.folder)
    except Exception as error:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(traceback.format_exc(), encoding="utf-8")
        return False, f"The report could not be written: {type(error).__name__}: {error}\n  {file}"
