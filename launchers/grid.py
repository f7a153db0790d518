"""What every launcher does before and after it executes: cells -> rows -> plan -> grid folder, and the report."""

import hashlib
import importlib
import os
import re
import sys
import traceback
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from launchers.needs import missing_verdict, needs_table
from launchers.view import counted
from src.checks import check_setting
from src.config import compose, local_paths
from src.grid.errors import ConfigError
from src.grid.execute import failure_file, record_failure
from src.grid.files import there, write_whole
from src.grid.plan import Plan, launched, make_plan
from src.grid.row import Row
from src.grid.step import canonical
from src.grid.store import Store
from src.grid.typed import typed
from src.machine.loads import loads
from src.machine.refusals import refusal
from src.machine.requirements import answers, requirements
from src.machine.settings import Gpu
from src.recipe import row
from src.report.compare import check_compare

NAMED = 3
"""Source files that a line on other code names."""


class GridLauncher(Launcher):
    """Hydra's side of every launcher: it gets all cells in one call, and makes one grid of them."""

    gpu: Gpu
    """`hydra.launcher.gpu`, set by check()."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before launch()."""
        self.config, self.context = config, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Check the launcher's own settings, plan all cells, and show the plan or run it.

        Raises ConfigError where training or evaluation would not fit the GPU that is named.
        """
        self.check()
        console = Console() if sys.stdout.isatty() else Console(width=200)
        grid = prepare(self.context, self.config, job_overrides, initial_job_idx)
        gpu = asdict(self.gpu)
        needed, asked, others = requirements(grid.plan, grid.store, gpu), answers(grid.plan, gpu), loads(grid.plan, gpu)
        refused = refusal(needed, asked, others)
        seconds = {each.step.name: each.seconds for each in needed if each.seconds is not None}
        grid = replace(grid, plan=grid.plan.timed(seconds))
        if grid.plan_only:
            self.show(grid, console)
            if needed or asked or others:
                console.print()
                console.print(needs_table(needed, asked, others))
        if refused:
            raise ConfigError(refused)
        fault = self.fault(grid)
        if fault and grid.plan_only:
            text = f"\nIt would not be begun: {fault}"
            console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
        elif fault:
            raise ConfigError(fault)
        for line in made_by_other_code(grid.plan, grid.store):
            console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
        if not grid.plan_only:
            for step in grid.plan.resting_on(grid.recompute):
                grid.store.move_aside(step)
            if told := missing_verdict(needed, asked, others):
                console.print(told, highlight=False)
            self.run(grid, console)
        return [
            JobReturn(overrides=o, cfg=c, status=JobStatus.COMPLETED, _return_value=None)
            for o, c in zip(job_overrides, grid.cells, strict=True)
        ]

    @abstractmethod
    def check(self) -> None:
        """Raise ConfigError for a wrong setting of the launcher."""

    @abstractmethod
    def fault(self, grid: "Grid") -> str | None:
        """Why what is missing cannot be computed here, in one line with what to do; None if it can."""

    @abstractmethod
    def show(self, grid: "Grid", console: Console) -> None:
        """Print what would be run."""

    @abstractmethod
    def run(self, grid: "Grid", console: Console) -> None:
        """Run the plan, or hand it on."""


def named_gpu(given: object) -> Gpu:
    """`hydra.launcher.gpu`, checked; null, or null in a field, leaves it to the cells' `gpu`. Raises ConfigError."""
    plain = OmegaConf.to_container(given) if OmegaConf.is_config(given) else given
    return typed(Gpu, plain or {}, "hydra.launcher.gpu")


@dataclass(frozen=True)
class Grid:
    """All the cells of one command."""

    plan: Plan
    store: Store
    folder: Path
    plan_only: bool
    recompute: tuple[str, ...]
    """Kinds of steps to compute anew, with all that rests on them."""
    cells: list[DictConfig]
    """The composed configurations with Hydra's own section, in the order of the overrides."""


def prepare(context: HydraContext, config: DictConfig, overrides: Sequence[Sequence[str]], first: int) -> Grid:
    """Compose and check every cell, and plan them. Writes nothing. Raises ConfigError for the first cell at fault."""
    rows: list[Row] = []
    cells: list[DictConfig] = []
    for number, cell_overrides in enumerate(overrides, start=first):
        cell = compose(partial(context.config_loader.load_sweep_config, config), cell_overrides)
        with open_dict(cell):
            cell.hydra.job.id = str(number)
            cell.hydra.job.num = number
        HydraConfig.instance().set_config(cell)  # for ${hydra:...} in the configuration
        cells.append(cell)
        made = replace(row(cell), overrides=tuple(cell_overrides))
        for setting, path in local_paths({key: made.config[key] for key in ("data", "speech", "model")}):
            check_setting(path.exists(), setting, str(path), "a file or folder that exists")
        if made not in rows:
            rows.append(made)
    check_compare(rows)
    outputs = {str(cell.get("outputs", "outputs")) for cell in cells}
    names = {cell.get("name") for cell in cells}
    if len(outputs) > 1 or len(names) > 1:
        raise ConfigError(f"name and outputs must be the same in all cells of a grid, not {outputs | names}")
    root = Path(outputs.pop())
    above = there(root)
    right = "a folder that can be written, or a path where one can be made"
    check_setting(above.is_dir() and os.access(above, os.W_OK), "outputs", str(root), right)
    store = Store(root / "store")
    folder = root / "grids" / _folder_name(names.pop() or grid_name(rows))
    plan_only = any(cell.get("plan_only", False) for cell in cells)
    kinds = recompute(rows)
    plan = make_plan(rows, store, kinds)
    plan = plan if plan_only else replace(plan, about=launched())
    return Grid(plan, store, folder, plan_only, kinds, cells)


def recompute(rows: Sequence[Row]) -> tuple[str, ...]:
    """The kinds of steps that are to be computed anew. Raises ConfigError if the rows do not agree."""
    wished = {tuple(row.config["recompute"]) for row in rows}
    if len(wished) > 1:
        raise ConfigError("recompute must be the same in all cells of a grid")
    return wished.pop()


def made_by_other_code(plan: Plan, store: Store) -> list[str]:
    """A line for each kind of steps that the plan takes from the store as other code made them, with the files that
    differ."""
    found: dict[str, list[list[str]]] = {}
    for entry in plan.entries.values():
        if entry.cached and (changed := store.other_code(entry.step)):
            found.setdefault(entry.step.kind, []).append(changed)
    lines = []
    for kind, files in found.items():
        named = sorted({file for each in files for file in each})
        shown, more = named[:NAMED], len(named) - NAMED
        told = ", ".join(shown) + (f" and {counted(more, 'other file')}" if more > 0 else "")
        one = len(files) == 1
        artifacts = f"1 artifact {kind} was" if one else f"{len(files)} artifacts {kind} were"
        lines.append(f"{artifacts} made by other code ({told}): recompute={kind} makes {'it' if one else 'them'} anew")
    return lines


def _folder_name(name: object) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}", str(name)):
        raise ConfigError(f"name={name}: the name of a grid has up to 128 letters, digits and . _ + -")
    return str(name)


def grid_name(rows: Sequence[Row]) -> str:
    """Readable, and the same whenever the same rows are asked for: `replay-1a2b3c4d`, `13-rows-1a2b3c4d`."""
    identity = canonical([[r.name, r.label, [step.fingerprint for step in r.steps]] for r in rows])
    readable = rows[0].name if len(rows) == 1 else f"{len(rows)}-rows"
    return f"{re.sub('[^A-Za-z0-9_]+', '-', readable).strip('-')}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def freeze(plan: Plan, store: Store, folder: Path, names: Iterable[str]) -> None:
    """Save the plan in the grid's folder with the overrides of its rows, and forget how the steps `names` failed."""
    folder.mkdir(parents=True, exist_ok=True)
    store.root.mkdir(parents=True, exist_ok=True)
    for name in names:
        failure_file(folder, name).unlink(missing_ok=True)
    plan.save(folder / "plan.json")
    rows = [{"row": row.label, "seed": row.seed, "overrides": list(row.overrides)} for row in plan.rows]
    write_whole(folder / "overrides.yaml", yaml.safe_dump({**plan.about, "rows": rows}, sort_keys=False, width=1000))


def point_latest(folder: Path) -> None:
    """Let `outputs/latest` point to the grid."""
    latest = folder.parents[1] / "latest"
    temporary = latest.with_name(f".latest-{os.getpid()}")
    temporary.symlink_to(os.path.relpath(folder, latest.parent))
    temporary.replace(latest)


def write_report(plan: Plan, store: Store, folder: Path) -> tuple[bool, str]:
    """Whether the report could be written, and the table, or else what went wrong."""
    file = failure_file(folder, "report")
    file.unlink(missing_ok=True)
    try:
        report = importlib.import_module("src.report.report")
        return True, report.write(plan.rows, plan, store, folder)
    except Exception as error:
        record_failure(file, traceback.format_exc())
        return False, f"The report could not be written: {type(error).__name__}: {error}\n  {file}"
