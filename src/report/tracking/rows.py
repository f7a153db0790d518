"""The run of a row: its scores, what it forgot, what it cost, or why it has none."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import tasks
from src.data import jsonl
from src.grid.execute import failure_file, failure_reason
from src.grid.plan import Plan
from src.grid.row import Row
from src.grid.step import Step, closure
from src.grid.store import Store
from src.report import abilities
from src.report.curves import model_of
from src.report.examples import clip_of, shorten
from src.report.lines import Line, read_scores, scores_of
from src.report.retention import Measured
from src.report.stages import title
from src.report.tracking.components import components, nested
from src.report.tracking.run import Content, Run, identity

if TYPE_CHECKING:
    import wandb

SPREAD = ("n", "standard_error")
"""What is kept of a score beside its value, in the summary alone; and its interval as low and high."""

Forgotten = Mapping[str, Sequence[tuple[str, Measured]]]
"""What each line forgot after each stage, by its label: of src.report.retention."""


def runs(
    lines: Sequence[Line], forgotten: Forgotten, plan: Plan, store: Store, grid: Path,
    wanted: Collection[Row] | None = None,
) -> Iterator[Run]:  # fmt: skip
    """The runs of a grid's rows, in the order of its table. wanted: those of these rows alone."""
    costs = Costs(store)
    listed = [(line, row) for line in lines for row in line.rows]
    ids = run_ids(grid.name, [row for _, row in listed])
    for (line, row), id in zip(listed, ids, strict=True):
        if wanted is None or any(row is one for one in wanted):
            yield _run(line, row, id, forgotten.get(line.label, ()), plan, costs, grid)


def run_ids(grid: str, rows: Sequence[Row]) -> list[str]:
    """Of this grid, row and seed, and of the model that is scored: a benchmark or a rule of scoring that is added later
    does not change it. Of rows that have one model the first has the plain id."""
    made: list[str] = []
    for row in rows:
        told = [grid, row.name, row.seed, model_of(row.evaluate).fingerprint]
        id = identity(told)
        made.append(identity([*told, row.evaluate.fingerprint]) if id in made else id)
    return made


def state_of(row: Row, store: Store, grid: Path) -> tuple[str, Step | None]:
    """complete; partial (a benchmark is missing); failed (its model, responses or scores); blocked (a step that those
    rest on failed); not run. And the step that failed, if one did."""
    broken = next((step for step in closure(row.steps) if _failed(step, store, grid)), None)
    if store.lookup(row.evaluate):
        return ("complete" if all(store.lookup(step) for step in row.steps) else "partial"), broken
    if broken is None:
        return "not run", None
    own = (row.evaluate, row.evaluate.inputs["responses"], model_of(row.evaluate))
    return ("failed" if broken in own else "blocked"), broken


def _failed(step: Step, store: Store, grid: Path) -> bool:
    return failure_file(grid, step.name).exists() and store.lookup(step) is None


def _run(
    line: Line, row: Row, id: str, forgotten: Sequence[tuple[str, Measured]], plan: Plan, costs: "Costs", grid: Path
) -> Run:
    store = costs.store
    state, broken = state_of(row, store, grid)
    measured = scores_of(row, store)
    scores = {key: score["value"] for key, score in measured.items()} | _means(measured, "mean/")
    if forgotten:
        scores |= _forgotten(forgotten[-1][1], row.seed, "")
    summary = {"state": state, **_costs(row, costs), **_spreads(measured)}
    if broken:
        summary |= {"failed_step": broken.name, "reason": failure_reason(failure_file(grid, broken.name))}
    folder = store.lookup(row.evaluate)
    commit = store.manifest(row.evaluate)["git"] if folder else plan.about.get("commit")
    config = {**components(row), "label": line.label, "grid": grid.name}
    if line.settings:
        config["settings"] = nested(line.settings)
    config["artifacts"] = {"scores": row.evaluate.name, "model": model_of(row.evaluate).name}
    stages = list(_stages(row, forgotten, store))
    content = {
        "scores": scores,
        "stages": stages,
        "summary": summary,
        "answers": row.evaluate.name if folder else None,
    }

    def fill(run: "wandb.Run", before: Content) -> None:
        run.define_metric("stage/*", step_metric="stage/number")
        for point in stages:
            if point not in before.get("stages", ()):
                run.log(point)
        known = before.get("scores", {})
        fresh = {key: value for key, value in scores.items() if key not in known or known[key] != value}
        if folder and before.get("answers") != content["answers"]:
            fresh |= _answers(folder, store.lookup(row.evaluate.inputs["responses"]))
        if fresh:
            run.log(fresh)
        for key in (before.get("summary", {}).keys() - summary.keys()) & set(run.summary.keys()):
            del run.summary[key]
        run.summary.update(summary)

    origin = {"command": plan.about.get("command"), "commit": commit}
    name = f"{line.label}, seed {row.seed}"
    return Run(id, name, "row", config, content, fill, (state,), state in ("failed", "blocked"), origin)


class Costs:
    """What steps took, each looked up once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[str, float] = {}

    def of(self, steps: Iterable[Step]) -> float:
        """Seconds that these steps took together, as far as they are done."""
        return round(sum(self._seconds(step) for step in steps), 3)

    def _seconds(self, step: Step) -> float:
        if step.name not in self._known:
            self._known[step.name] = self.store.manifest(step)["seconds"] if self.store.lookup(step) else 0.0
        return self._known[step.name]


def _costs(row: Row, costs: Costs) -> dict[str, float]:
    steps = list(closure(row.steps))
    trainings = [step for step in steps if step.kind == "train"]
    return {"cost/seconds": costs.of(steps), "cost/training_seconds": costs.of(trainings)}


def _spreads(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What is known of each score beside its value; intervals of the abilities, too."""
    made: dict[str, Any] = {}
    intervals = {key: score.get("interval") for key, score in scores.items()}
    for key, score in scores.items():
        made |= {f"{key}/{name}": score[name] for name in SPREAD if score.get(name) is not None}
    for name in tasks.ABILITIES:
        if keys := abilities.keys_of(name, scores):
            intervals[f"mean/{name}"] = abilities.interval_of_mean([scores[key] for key in keys])
    for key, interval in intervals.items():
        if interval:
            made |= dict(zip((f"{key}/low", f"{key}/high"), interval, strict=True))
    return made


def _means(scores: Mapping[str, Mapping[str, Any]], before: str) -> dict[str, float]:
    """The abilities of a model, each the mean over its question sets."""
    found = {name: abilities.of_seed(scores, abilities.keys_of(name, scores)) for name in tasks.ABILITIES}
    return {before + name: mean.value for name, mean in found.items() if mean}


def _forgotten(measured: Measured, seed: int, before: str) -> dict[str, float]:
    """forgetting/t2t and the like, of one seed."""
    return {
        f"{before}{measure}/{ability}": one["value"]
        for ability, measures in measured.items()
        for measure, entry in measures.items()
        for one in entry["seeds"]
        if one["seed"] == seed
    }


def _stages(row: Row, forgotten: Sequence[tuple[str, Measured]], store: Store) -> Iterator[dict[str, Any]]:
    """A point for each stage of the training after which the model was scored."""
    after = dict(forgotten)
    for number, (stage, step) in enumerate(row.curve.items(), start=1):
        if folder := store.lookup(step):
            told = _means(read_scores(folder), "stage/") | _forgotten(after.get(stage, {}), row.seed, "stage/")
            yield {"stage/number": number, "stage/name": title(stage), **told}


def _answers(folder: Path, spoken: Path | None) -> dict[str, Any]:
    """The spoken answers that were kept, to be heard, with what was asked, answered and heard."""
    import wandb

    kept = []
    for response in jsonl.read(folder / "responses.jsonl"):
        clip = clip_of(spoken, response["id"]) if response["task"] == "sqa" else None
        if clip:
            verdict = "correct" if response["correct_s2s"] else "incorrect"
            caption = f"{response['question']} | {response['text_answer']} | heard: {response['heard']} ({verdict})"
            kept.append(wandb.Audio(str(clip), caption=shorten(caption)))
    return {"spoken answers": kept} if kept else {}
