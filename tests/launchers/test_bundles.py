"""Bundles: which steps share a job, and what each job waits for."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launchers.bundles import Bundle, bundles
from src.grid.plan import Plan, make_plan
from src.grid.step import Step, closure
from src.grid.store import Store
from tests.grid.toys import Toy, posing, toy_row


def step(label: str, *inputs: Step, seconds: float = 1.0, kind: str = "toy", ranks: int = 1) -> Step:
    return posing(kind, label, {each.label: each for each in inputs}, seconds=seconds, processes=ranks)


def plan_of(*ends: Step) -> Plan:
    seconds = {each.label: each.options["seconds"] for each in closure(ends) if isinstance(each, Toy)}
    return make_plan([toy_row(end.label, end, **seconds) for end in ends], Store(Path("nowhere")))


def made(plan: Plan, limit: float, missing: Iterable[str] | None = None) -> list[list[str]]:
    """The labels in each bundle."""
    wanted = plan.entries if missing is None else missing
    return [[entry.step.label for entry in bundle.entries] for bundle in bundles(plan, wanted, limit)]


def ancestors(plan: Plan, name: str, missing: Iterable[str]) -> set[str]:
    """The missing steps that a missing step needs, over missing steps alone."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for source in plan[waiting.pop()].inputs.values():
            if source.name in missing and source.name not in found:
                found.add(source.name)
                waiting.append(source.name)
    return found


def families(bundle: Bundle) -> list[set[str]]:
    """The connected parts of its steps."""
    parts = [{name} for name in bundle.names]
    for entry in bundle.entries:
        for source in entry.step.inputs.values():
            if source.name in bundle.names:
                one, other = (next(p for p in parts if n in p) for n in (entry.step.name, source.name))
                if one is not other:
                    parts.remove(other)
                    one |= other
    return parts


@st.composite
def graphs(draw: st.DrawFn) -> list[Step]:
    """Up to 12 steps, each with up to three inputs among those before it."""
    steps: list[Step] = []
    for number in range(draw(st.integers(1, 12))):
        count = draw(st.integers(0, min(3, number)))
        inputs = draw(st.permutations(steps))[:count]
        kind, ranks = draw(st.sampled_from([("toy", 1), ("toy", 1), ("base", 1), ("train", 1), ("train", 4)]))
        seconds = draw(st.sampled_from([0.5, 1.0, 2.0, 5.0, 20.0]))
        steps.append(step(f"s{number}", *inputs, seconds=seconds, kind=kind, ranks=ranks))
    return steps


@settings(max_examples=60, deadline=None, derandomize=True)
@given(graphs(), st.sampled_from([0.0, 1.0, 4.0, 30.0]), st.data())
def test_any_plan(steps: list[Step], limit: float, data: st.DataObject) -> None:
    plan = plan_of(*steps)
    cached = data.draw(st.sets(st.sampled_from(list(plan.entries)), max_size=4))
    missing = [name for name in plan.entries if name not in cached]
    found = bundles(plan, missing, limit)

    assert sorted(name for bundle in found for name in bundle.names) == sorted(missing), "each exactly once"
    home = {name: number for number, bundle in enumerate(found) for name in bundle.names}
    for number, bundle in enumerate(found):
        assert list(bundle.names) == [name for name in plan.entries if name in bundle.names], "inputs first"
        outside: set[str] = set()
        for entry in bundle.entries:
            needs = {s.name for s in entry.step.inputs.values() if s.name in missing}
            assert all(home[name] <= number for name in needs), "a bundle comes after what it needs"
            outside |= {name for name in needs if home[name] != number}
        assert all(len(found[home[name]].names) == 1 for name in bundle.after), "who is waited for is alone"
        assert bundle.after <= outside
        implied = set().union(*(ancestors(plan, name, missing) for name in bundle.after))
        assert outside <= bundle.after | implied, "everything is waited for"
        assert not bundle.after & implied, "and nothing twice"
        if len(bundle.names) > 1:
            large = [entry for entry in bundle.entries if entry.seconds > limit]
            assert limit and len(large) <= 1 and not any(entry.step.kind == "base" for entry in large)
            assert all(entry.step.ranks == 1 and entry.step.kind != "train" for entry in bundle.entries)
            assert len(families(bundle)) == 1 or bundle.seconds <= limit
        assert bundle.seconds == sum(plan.entries[name].seconds for name in bundle.names)


def evaluated() -> Mapping[str, Step]:
    """A chain of two stages; each is evaluated, and the last is merged in two ways."""
    asr = step("asr", seconds=50, kind="train")
    sqa = step("sqa", asr, seconds=50, kind="train")
    merges = [step(f"merge-{way}", asr, sqa, kind="merge") for way in ("a", "b")]
    models = [asr, sqa, *merges]
    return {each.label: each for each in [*models, *(step(f"evaluate-{m.label}", m, kind="discount") for m in models)]}


def test_a_merge_goes_with_its_evaluation_and_what_waits_for_the_same_goes_together() -> None:
    steps = evaluated()
    plan = plan_of(*(steps[label] for label in steps if label.startswith("evaluate")))
    together = [
        ["asr"], ["evaluate-asr"], ["sqa"],
        ["evaluate-sqa", "merge-a", "evaluate-merge-a", "merge-b", "evaluate-merge-b"],
    ]  # fmt: skip
    assert made(plan, 10) == together
    assert [bundle.after for bundle in bundles(plan, plan.entries, 10)] == [
        frozenset(), frozenset({steps["asr"].name}), frozenset({steps["asr"].name}), frozenset({steps["sqa"].name}),
    ]  # fmt: skip


def test_families_share_a_job_as_long_as_they_stay_under_the_limit() -> None:
    steps = evaluated()
    plan = plan_of(*(steps[label] for label in steps if label.startswith("evaluate")))
    assert made(plan, 3)[3:] == [["evaluate-sqa", "merge-a", "evaluate-merge-a"], ["merge-b", "evaluate-merge-b"]]
    assert made(plan, 0.5) == [[label] for label in (e.step.label for e in plan.entries.values())]


def test_one_step_of_a_family_may_be_large() -> None:
    base = step("base", seconds=60, kind="base")
    merges = [step(f"merge{number}", base, kind="merge") for number in (1, 2)]
    answers = [step(f"answers{number}", merge, seconds=60) for number, merge in enumerate(merges, 1)]
    scores = [step(f"scores{number}", answer) for number, answer in enumerate(answers, 1)]
    families = [["merge1", "answers1", "scores1"], ["merge2", "answers2", "scores2"]]
    assert made(plan_of(*scores), 10) == [["base"], *families]
    again = step("again", step("slow", scores[0], seconds=60))
    assert made(plan_of(again), 10) == [["base"], ["merge1"], ["answers1"], ["scores1", "slow", "again"]]


@pytest.mark.parametrize("seconds", [1.0, 0.0])
def test_no_limit_packs_nothing(seconds: float) -> None:
    base = step("base", seconds=60)
    ends = [step(f"end{number}", base, seconds=seconds) for number in range(3)]
    assert made(plan_of(*ends), 0) == [["base"], ["end0"], ["end1"], ["end2"]]


def test_what_is_in_the_store_or_on_its_way_is_neither_in_a_bundle_nor_waited_for() -> None:
    steps = evaluated()
    plan = plan_of(*(steps[label] for label in steps if label.startswith("evaluate")))
    missing = [steps[label].name for label in ("merge-a", "evaluate-merge-a")]
    (bundle,) = bundles(plan, missing, 10)
    assert bundle.names == tuple(missing) and bundle.after == frozenset()
    assert bundle.kinds == ("merge", "discount")


def test_training_and_several_ranks_stay_alone() -> None:
    ends = [step("a", kind="train"), step("b", ranks=2), step("c"), step("d")]
    assert made(plan_of(*ends), 100) == [["a"], ["b"], ["c", "d"]]
