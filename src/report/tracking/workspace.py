"""A workspace of wandb for a grid: what its page shows first, with the grid's rows alone.

It is built by the package wandb-workspaces, and is one JSON text, whether it is saved in a project or kept as a file.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import tasks
from src.grid.plan import Plan
from src.grid.step import closure
from src.report import abilities
from src.report.columns import heading, shown
from src.report.tracking.grids import FIGURES
from src.report.tracking.trainings import TRAINED

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

ROW = "label"
"""What rows are grouped by: the configuration's key that seeds share."""
COMPONENTS = ("replay", "merge", "alpha", "method")
MEASURES = ("loss", "learning_rate", "gradient_norm", "tokens_per_second")


def workspace(plan: Plan, table: Mapping[str, Any], grid: str, entity: str, project: str) -> "Workspace":
    """The workspace of a grid whose table (table.json) is made."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    keys = [column["key"] for column in table["columns"]]
    known = [name for name in tasks.ABILITIES if abilities.keys_of(name, keys)]
    seeds = max(len(row["seeds"]) for row in table["rows"])

    def bars(key: str, title: str, low_high: bool) -> wr.BarPlot:
        wide = [f"{key}/low", key, f"{key}/high"] if low_high else [key]
        return wr.BarPlot(
            title=title, metrics=[*wide], groupby=wr.Config(ROW), groupby_aggfunc="mean",
            groupby_rangefunc=None if low_high else "stddev", max_bars_to_show=100, max_runs_to_show=1000,
        )  # fmt: skip

    def lines(key: str, x: str, title: str) -> wr.LinePlot:
        return wr.LinePlot(title=title, x=x, y=[key], groupby=wr.Config(ROW), groupby_aggfunc="mean",
                           groupby_rangefunc="minmax", max_runs_to_show=100)  # fmt: skip

    one = seeds == 1
    spread = "low, value and high of the 95 % interval" if one else f"mean and deviation over {seeds} seeds"
    titles = {name: abilities.title(name, abilities.keys_of(name, keys)) for name in known}
    sections = [
        ws.Section(f"Abilities: {spread}", [bars(f"mean/{name}", titles[name], one) for name in known], is_open=True),
        ws.Section("Components and scores", [_coordinates(wr, known, titles)], is_open=True),
        ws.Section("Forgetting by stage", [
            lines(f"stage/{before}{name}", "stage/number", f"{said}{tasks.ABILITIES[name].title} after each stage")
            for name in abilities.TEXT if name in known
            for before, said in (("", ""), ("forgetting/", "Forgetting of "))
        ], is_open=True),
        ws.Section("Training", [lines(name, "Step", name.replace("_", " ")) for name in MEASURES], is_open=True),
        ws.Section("Spoken answers", [wr.MediaBrowser(media_keys=["spoken answers"], num_columns=3)], is_open=True),
        ws.Section("Table and figures", [
            wr.WeavePanelSummaryTable(table_name="table"), wr.MediaBrowser(media_keys=list(FIGURES), num_columns=1),
        ]),
        ws.Section(f"Every score: {spread}", [
            bars(column["key"], heading(column), one and _has_interval(table["rows"], column["key"]))
            for which in ("main", "skills") for column in shown(table, which)
        ]),
    ]  # fmt: skip
    steps = closure(step for row in plan.rows for step in row.steps)
    trained = [step.name for step in steps if step.kind in TRAINED]
    of_grid = expr.Metric("Group") == grid
    columns = ["summary:state", *(f"config:{name}.value" for name in COMPONENTS)]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=grid,
        sections=sections,
        runset_settings=ws.RunsetSettings(
            filters=expr.Or(of_grid, expr.Config("artifact").isin(trained)) if trained else [of_grid],
            groupby=[expr.Config(ROW)],
            order=[expr.Ordering(expr.Metric("CreatedTimestamp"))],
            pinned_columns=[*columns, *(f"summary:mean/{name}" for name in known)],
        ),
    )


def text(made: "Workspace") -> str:
    """The workspace as JSON: where it belongs, and `spec`, as wandb keeps it."""
    view = made._to_model()
    spec = json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True))
    told = {"entity": view.entity, "project": view.project, "title": view.display_name, "name": view.name}
    return json.dumps({**told, "id": view.id, "spec": spec}, indent=1, ensure_ascii=False) + "\n"


def go_on(made: "Workspace", file: Path) -> None:
    """Let it be the workspace that was saved from this grid before, as the file says, so that it is replaced."""
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if (before["entity"], before["project"]) == (made.entity, made.project):
        made._internal_name, made._internal_id = before["name"], before["id"]


def _coordinates(wr: Any, known: Sequence[str], titles: Mapping[str, str]) -> Any:
    column = wr.ParallelCoordinatesPlotColumn
    scores = [column(wr.SummaryMetric(f"mean/{name}"), display_name=titles[name]) for name in known]
    lost = [
        column(wr.SummaryMetric(f"forgetting/{name}"), display_name=f"Forgetting of {tasks.ABILITIES[name].title}")
        for name in abilities.TEXT
        if name in known
    ]
    layout = wr.Layout(w=24, h=10)
    return wr.ParallelCoordinatesPlot(
        columns=[*(column(wr.Config(name), display_name=name) for name in COMPONENTS), *scores, *lost], layout=layout
    )


def _has_interval(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    return any(score["interval"] for row in rows if (score := row["scores"].get(key)))
