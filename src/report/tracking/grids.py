"""The run of the grid itself: the whole table, the figures, and the files of the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.grid.plan import Plan
from src.grid.row import Row
from src.grid.store import Store
from src.report.cells import spread
from src.report.columns import heading
from src.report.curves import model_of
from src.report.lines import Line
from src.report.tracking.components import NAMES, components
from src.report.tracking.run import Content, Run, identity

if TYPE_CHECKING:
    import wandb

FIGURES = ("figure3", "tradeoff", "ifeval")
FILES = ("index.html", "table.json", "table.csv", "table.md", "table.tex", "plan.json")
"""Files of the report that are kept with the run, where they exist; scores.csv and figures are added."""


def run(lines: Sequence[Line], table: Mapping[str, Any], plan: Plan, store: Store, grid: Path) -> Run:
    """The run of a grid whose table has been made."""
    rows = [row for line in lines for row in line.rows]
    states = [line.state for line in lines]
    summary = {f"rows/{state}": states.count(state) for state in dict.fromkeys(states)} | {"rows": len(lines)}
    first = components(rows[0])
    config = {
        "profile": first["profile"],
        "model": first["model"],
        "seeds": sorted({row.seed for row in rows}),
        "strategies": list(dict.fromkeys(row.name for row in rows)),
        **table["data"],
    }
    header, cells = whole(lines, table)

    def fill(opened: "wandb.Run", before: Content) -> None:
        import wandb

        drawn = {name: wandb.Image(str(file)) for name in FIGURES if (file := grid / f"{name}.png").exists()}
        opened.log({"table": wandb.Table(columns=[*header], data=cells), **drawn})
        opened.summary.update(summary)
        opened.log_artifact(_report(rows, store, grid))

    content = {"table": identity(table), "summary": summary}
    return Run(identity(["grid", grid.name]), grid.name, "grid", config, content, fill, ("grid",), origin=plan.about)


def whole(lines: Sequence[Line], table: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """The columns and rows of the whole table: components, state, and each score with its spread and interval, all as
    shares."""
    named = [name for name in NAMES if name != "seed"]
    keys = {column["key"]: heading(column) for column in table["columns"]}
    titles = list(keys.values())
    told = {key: name if titles.count(name) == 1 else key for key, name in keys.items()}
    header = ["label", *named, "seeds", "state"]
    header += [name + part for name in told.values() for part in ("", " ±", " low", " high")]
    cells = []
    for line, row in zip(lines, table["rows"], strict=True):
        made = components(line.rows[0])
        values: list[Any] = [row["label"], *(made[name] for name in named), " ".join(map(str, row["seeds"]))]
        values.append(row["state"])
        for key in told:
            score = row["scores"].get(key)
            values += [score["mean"], spread(score), *(score["interval"] or (None, None))] if score else [None] * 4
        cells.append(values)
    return header, cells


def _report(rows: Sequence[Row], store: Store, grid: Path) -> "wandb.Artifact":
    """The report as an artifact; of the scores and models it rests on, the manifests in the store are referred to."""
    import wandb

    artifact = wandb.Artifact(f"report-{grid.name}", type="report", metadata={"store": str(store.root)})
    named = [*FILES, "scores.csv", *(f"{name}.{form}" for name in FIGURES for form in ("svg", "png", "pdf"))]
    for name in named:
        if (grid / name).exists():
            artifact.add_file(str(grid / name), name=name)
    steps = {step.name: step for row in rows for step in (row.evaluate, model_of(row.evaluate))}
    for name, step in steps.items():
        if folder := store.lookup(step):
            artifact.add_reference((folder.absolute() / "manifest.json").as_uri(), name=f"store/{name}/manifest.json")
    return artifact
