"""A driver to be run, interrupted and killed by the tests: `python -m tests.launchers.driver ROOT SPEC.json [GPUS]`.

SPEC is a list of [label, number, {role: label}, config, ranks]; one row ends in each step that no other step reads.
GPUS: how many are handed out; they need not be there.
"""

import json
import signal
import sys
import types
from pathlib import Path

from rich.console import Console

from launchers.grid import Grid
from launchers.local import run_grid, usable
from src.grid.plan import Plan, make_plan
from src.grid.step import Step
from src.grid.store import Store
from tests.grid.toys import Light, Model, Models, Ranks, Toy, toy_row


def write(rows: list, plan: Plan, store: Store, grid: Path) -> str:
    """In the place of the real report: the number of each row."""
    numbers = {row.name: store.manifest(row.evaluate)["summary"] for row in rows if store.lookup(row.evaluate)}
    return f"table {json.dumps(numbers, sort_keys=True)}"


def kind(config: dict, ranks: int) -> type[Toy]:
    """The class of toys that a step is one of."""
    if "gpu" in config:
        return Models if ranks > 1 else Model
    return Ranks if ranks > 1 else Light if "light" in config else Toy


def main(root: Path, spec: Path, gpus: int | None) -> None:
    steps: dict[str, Step] = {}
    for label, number, inputs, config, ranks in json.loads(spec.read_text()):
        options = {"number": number, **config} | ({"processes": ranks} if ranks > 1 else {})
        sources = {role: steps[source] for role, source in inputs.items()}
        steps[label] = kind(config, ranks)(named=label, options=options, sources=sources)
    read = {source.label for step in steps.values() for source in step.inputs.values()}
    rows = [toy_row(label, step) for label, step in steps.items() if label not in read]
    sys.modules["src.report.report"] = types.SimpleNamespace(write=write)  # type: ignore[assignment]
    store = Store(root / "store")
    grid = Grid(make_plan(rows, store), store, root / "grids" / "toy", plan_only=False, recompute=(), cells=[])
    workers = 2 if gpus is None else 8
    run_grid(grid, workers, Console() if sys.stdout.isatty() else Console(width=200), usable(gpus))


if __name__ == "__main__":
    # a test run in the background of a shell hands an ignored SIGINT down
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
