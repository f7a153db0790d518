"""The plan: sharing, order, priorities, estimates, and its frozen form."""

import json
from pathlib import Path

import pytest

from src.grid.errors import PlanError
from src.grid.execute import execute, main
from src.grid.plan import Plan, make_plan
from src.grid.store import Store
from tests.grid.toys import Model, Models, Ranks, Toy, toy, toy_row


def small() -> Plan:
    """a -> b -> (d, e); a -> c. Rows: d; e with c as its curve."""
    return make_plan(rows(), Store(Path("nowhere")))


def rows() -> list:
    a = toy("a")
    b, c = toy("b", 2, {"a": a}), toy("c", 3, {"a": a})
    d, e = toy("d", 4, {"b": b}), toy("e", 5, {"b": toy("b", 2, {"a": toy("a")})})
    return [toy_row("one", d), toy_row("two", e, {"x": c})]


def by_label(plan: Plan) -> dict:
    return {entry.step.label: entry for entry in plan.entries.values()}


def test_equal_steps_are_planned_once_and_inputs_come_first() -> None:
    plan = small()
    labels = [entry.step.label for entry in plan.entries.values()]
    assert sorted(labels) == ["a", "b", "c", "d", "e"]
    for entry in plan.entries.values():
        assert all(labels.index(s.label) < labels.index(entry.step.label) for s in entry.step.inputs.values())
    assert {label: entry.rows for label, entry in by_label(plan).items()} == {
        "a": ("one", "two"), "b": ("one", "two"), "c": ("two",), "d": ("one",), "e": ("two",),
    }  # fmt: skip


def test_totals_with_and_without_sharing() -> None:
    plan = small()
    assert (plan.shared().steps, plan.shared().seconds) == (5, 5.0)
    assert (plan.unshared().steps, plan.unshared().seconds) == (7, 7.0)
    assert plan.to_compute() == plan.shared()


def test_priority_is_the_longest_path_ahead() -> None:
    priorities = {label: entry.priority for label, entry in by_label(small()).items()}
    assert priorities == {"a": 3.0, "b": 2.0, "c": 1.0, "d": 1.0, "e": 1.0}


def test_makespan_of_one_two_and_many_workers() -> None:
    plan = small()
    assert [plan.makespan(workers) for workers in (1, 2, 9)] == [5.0, 3.0, 3.0]
    wide = Ranks(named="wide", options={"processes": 2})
    plan = make_plan([toy_row("one", wide, wide=2.0), toy_row("two", toy("a"))], Store(Path("nowhere")))
    assert [plan.makespan(workers) for workers in (1, 2, 3)] == [3.0, 3.0, 2.0]


def test_what_the_store_has_is_cached_and_its_times_are_used(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = toy("a", 1, seed=0)
    execute(first, store)
    other = toy("a", 1, seed=1)
    unlike = toy("a", 2, seed=1)
    plan = make_plan([toy_row("one", first), toy_row("two", other), toy_row("three", unlike)], store)
    assert [entry.cached for entry in plan.entries.values()] == [True, False, False]
    seconds = [entry.seconds for entry in plan.entries.values()]
    assert seconds[0] == seconds[1] == store.manifest(first)["seconds"] < 1.0
    assert seconds[2] == 1.0
    assert plan.to_compute().steps == 2


def test_planning_writes_nothing(tmp_path: Path) -> None:
    make_plan(rows(), Store(tmp_path / "store"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("gpus", "seconds"), [(0, 2.0), (1, 4.0), (2, 3.0), (3, 2.0)])
def test_steps_with_a_model_share_the_gpus(gpus: int, seconds: float) -> None:
    """Three of them and two others, a second each, before one that needs all; five workers. Without GPUs none waits."""
    models = [Model(named=f"m{i}", options={"number": i}) for i in range(3)]
    others = [toy(f"t{i}", i) for i in range(2)]
    end = toy("end", 1, {step.label: step for step in [*models, *others]})
    plan = make_plan([toy_row("row", end)], Store(Path("nowhere")))
    assert plan.makespan(5, gpus=gpus) == seconds


def test_ranks_take_a_gpu_each_and_are_not_overtaken() -> None:
    """Two ranks wait for both GPUs while a long step has one; a short step does not take the other before them."""
    long = Model(named="a", options={"number": 1})
    ranks = Models(named="b", options={"number": 2, "processes": 2})
    short = Model(named="c", options={"number": 3})
    rows = [toy_row(step.label, step, a=3.0, b=2.0) for step in (long, ranks, short)]
    plan = make_plan(rows, Store(Path("nowhere")))
    assert plan.makespan(9, gpus=2) == 6.0
    assert plan.makespan(9) == 3.0


@pytest.mark.parametrize(("lonely", "seconds"), [(True, 7.0), (False, 3.0)])
def test_steps_that_need_a_machine_alone_come_one_after_another(lonely: bool, seconds: float) -> None:
    base = toy("base")
    large = [Toy(named=f"m{i}", options={"alone": lonely}, sources={"base": base}) for i in range(3)]
    other = toy("t", 9, {"base": base})
    estimate = dict.fromkeys(("m0", "m1", "m2", "t"), 2.0)
    rows = [toy_row(step.label, step, **estimate) for step in (*large, other)]
    plan = make_plan(rows, Store(Path("nowhere")))
    assert plan.makespan(9) == seconds
    assert plan.makespan(1) == 9.0


def test_other_estimates_count_where_nothing_was_measured(tmp_path: Path) -> None:
    store = Store(tmp_path)
    a, b = rows()[0].evaluate.inputs["sources.b"].inputs["sources.a"], rows()[0].evaluate.inputs["sources.b"]
    execute(a, store)
    plan = make_plan(rows(), store)
    timed = plan.timed({a.name: 100.0, b.name: 10.0})
    assert by_label(timed)["a"].seconds == store.manifest(a)["seconds"]
    assert {label: entry.seconds for label, entry in by_label(timed).items() if label != "a"} == {
        "b": 10.0, "c": 1.0, "d": 1.0, "e": 1.0,
    }  # fmt: skip
    assert {label: entry.priority for label, entry in by_label(timed).items()} == {
        "a": 11.0, "b": 11.0, "c": 1.0, "d": 1.0, "e": 1.0,
    }  # fmt: skip
    assert timed.makespan(9) == 11.0 and timed.rows == plan.rows


def test_frozen_plan_is_read_back_as_it_was(tmp_path: Path) -> None:
    plan = small()
    plan.save(tmp_path / "plan.json")
    back = Plan.load(tmp_path / "plan.json")
    assert back == plan
    assert [entry.step.name for entry in back.entries.values()] == list(plan.entries)
    assert back["a-" + by_label(plan)["a"].step.fingerprint[:8]].settings == {"named": "a", "options": {"number": 1}}


def test_a_step_can_be_run_alone_by_name_from_a_frozen_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = tmp_path / "grids" / "g"
    grid.mkdir(parents=True)
    plan = small()
    file = grid / "plan.json"
    plan.save(file)
    steps = {label: entry.step for label, entry in by_label(plan).items()}
    store = Store(tmp_path / "store")

    assert main([str(file), steps["b"].name]) == 1, "its input is not there yet"
    assert f"needs {steps['a'].name}" in (grid / "failures" / f"{steps['b'].name}.txt").read_text()
    assert main([str(file), steps["a"].name]) == 0
    assert main([str(file), steps["b"].name]) == 0
    assert store.manifest(steps["b"])["summary"] == {"number": 3}
    assert not list((grid / "failures").iterdir())

    capsys.readouterr()
    assert main([str(file), "nonsense"]) == 2
    said = capsys.readouterr().err
    assert "nonsense" in said and steps["a"].name in said


@pytest.mark.parametrize("text", ["", "{", "[]", '{"steps": [], "rows": [{}]}', '{"steps": [{}], "rows": []}'])
def test_what_is_not_a_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(PlanError, match=r"plan\.json"):
        Plan.load(tmp_path / "plan.json")


def test_a_plan_that_was_edited_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    small().save(file)
    data = json.loads(file.read_text())
    data["steps"][0]["settings"]["options"]["number"] = 99
    file.write_text(json.dumps(data))
    with pytest.raises(PlanError, match="launch the grid again"):
        Plan.load(file)


def test_kinds_to_recompute_count_as_missing_with_all_that_rests_on_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    base = toy("base")
    model = Model(named="model", sources={"base": base})
    end, other = toy("end", 1, {"model": model}), toy("other", 1, {"base": base})
    for step in (base, model, end, other):
        execute(step, store)
    rows = [toy_row("one", end), toy_row("two", other)]
    assert not make_plan(rows, store).missing()
    again = make_plan(rows, store, ["model"])
    assert {entry.step.label for entry in again.missing()} == {"model", "end"}
    with pytest.raises(PlanError, match=r"recompute=train: no row needs such a step; the kinds are model, toy"):
        make_plan(rows, store, ["train"])


def test_what_rests_on_a_missing_step_is_not_called_cached(tmp_path: Path) -> None:
    store = Store(tmp_path)
    base = toy("base")
    end = toy("end", 1, {"base": base})
    for step in (base, end):
        execute(step, store)
    store.move_aside(base)
    assert {entry.step.label for entry in make_plan([toy_row("one", end)], store).missing()} == {"base", "end"}
