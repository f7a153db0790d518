"""The plan as a table: shards of one piece of work on one line."""

from pathlib import Path

from rich.console import Console

from launchers.bundles import bundles
from launchers.resources import Settings
from launchers.slurm import jobs_table
from launchers.view import duration, plan_table
from src.grid.plan import Plan, make_plan
from src.grid.step import Step
from src.grid.store import Store
from tests.grid.toys import toy, toy_row


def sharded(store: Store) -> tuple[Plan, list[Step]]:
    """A source, 64 shards of ASR and 2 of SQA on it, what gathers them, and two steps whose labels only look alike."""
    source = toy("source")
    shards = [toy(f"utterances-asr-{number:03d}", number, {"corpus": source}) for number in range(64)]
    spoken = [toy(f"utterances-sqa-{number:03d}", 1000 + number, {"corpus": source}) for number in range(2)]
    gather = toy("gather", 1, {step.label: step for step in [*shards, *spoken]})
    end = toy("v-2", 1, {"units": gather})
    return make_plan([toy_row("row", toy("v-x", 1, {"units": end}))], store), shards


def lines(shown: object, width: int = 200) -> list[str]:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(shown)
    return console.export_text().splitlines()


def test_a_run_of_shards_is_one_line_with_their_sum(tmp_path: Path) -> None:
    plan, _ = sharded(Store(tmp_path))
    printed = lines(plan_table(plan, 4, {}))
    (shards,) = [line for line in printed if line.startswith("utterances-asr")]
    assert shards.split() == ["utterances-asr-000", "...", "063", "(64", "steps)", "1", *duration(64).split(), "0.1",
                              "MB", "new"]  # fmt: skip
    assert len([line for line in printed if line.startswith("utterances-sqa-000 ... 001 (2 steps)")]) == 1
    assert len([line for line in printed if line.startswith("v-2-")]) == 1
    assert "70 steps" in " ".join(printed)
    assert len(printed) < 20


def test_shards_that_are_computed_stand_apart_from_those_that_are_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    _, shards = sharded(store)
    for step in shards[:10]:
        out = store.work(step) / "out"
        out.mkdir(parents=True)
        store.publish(step, out, {}, 1.0)
    plan, _ = sharded(store)
    told = [line.split() for line in lines(plan_table(plan, 4, {})) if line.startswith("utterances-asr")]
    assert [(line[0], line[2], line[-1]) for line in told] == [
        ("utterances-asr-000", "009", "cached"), ("utterances-asr-010", "063", "new"),
    ]  # fmt: skip
    plan, _ = sharded(store)
    broken = plan_table(plan, 4, {shards[20].name: "x is gone"})
    told = [line.split() for line in lines(broken) if line.startswith("utterances-asr")]
    assert [line[0] for line in told] == [
        "utterances-asr-000", "utterances-asr-010", shards[20].name, "utterances-asr-021",
    ]  # fmt: skip


def test_so_do_their_jobs(tmp_path: Path) -> None:
    plan, _ = sharded(Store(tmp_path))
    made = bundles(plan, plan.entries, 0)
    printed = lines(jobs_table(made, Settings()))
    assert printed[0].startswith("70 jobs and the report")
    assert len([line for line in printed if line.startswith("utterances-")]) == 2
    (gather,) = [line for line in printed if line.startswith("gather-")]
    assert "utterances-asr-000 ... 063 (64 steps), utterances-sqa-000 ... 001 (2 steps)" in gather
