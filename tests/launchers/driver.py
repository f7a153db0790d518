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
from src.grid.bodies import BODIES
from src.grid.plan import Plan, make_plan
from src.grid.step import Step
from src.grid.store import Store
from tests.grid.toys import TOYS, toy_row


def write(rows: list, plan: Plan, store: Store, grid: Path) -> str:
    """In the place of the real report: the number of each row."""
    numbers = {row.name: store.manifest(row.evaluate)["summary"] for row in rows if store.lookup(row.evaluate)}
    return f"table {json.dumps(numbers, sort_keys=True)}"


def main(root: Path, spec: Path, gpus: int | None) -> None:
    steps: dict[str, Step] = {}
    for label, number, inputs, config, ranks in json.loads(spec.read_text()):
        kind = "ranks" if ranks > 1 else "light" if "light" in config else "toy"
        if "gpu" in config:
            kind = "models" if ranks > 1 else "model"
        if "kind" in config:
            kind = config["kind"]
            BODIES[kind] = TOYS["light"]
        sources = {role: steps[source] for role, source in inputs.items()}
        steps[label] = Step(kind, label, {"number": number, **config}, sources, seconds=1.0, ranks=ranks)
    read = {source.label for step in steps.values() for source in step.inputs.values()}
    rows = [toy_row(label, step) for label, step in steps.items() if label not in read]
    sys.modules["src.report.report"] = types.SimpleNamespace(write=write)  # type: ignore[assignment]
    store = Store(root / "store")
    grid = Grid(make_plan(rows, store), store, root / "grids" / "toy", plan_only=False, cells=[])
    workers = 2 if gpus is None else 8
    run_grid(grid, workers, Console() if sys.stdout.isatty() else Console(width=200), usable(gpus))


if __name__ == "__main__":
    # a test run in the background of a shell hands an ignored SIGINT down
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
