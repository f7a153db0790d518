"""What makes two steps the same."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.grid.errors import PlanError
from src.grid.step import Step, canonical, closure, read
from tests.grid.toys import Ranks, Toy, toy

ROOT = Path(__file__).resolve().parents[2]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
configs = st.dictionaries(st.text(min_size=1), json_values, max_size=5)


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(each) for each in value] if isinstance(value, list) else value


@given(configs)
def test_order_of_keys_does_not_matter(config: dict[str, Any]) -> None:
    assert Toy(named="a", options=config).fingerprint == Toy(named="a", options=reversed_keys(config)).fingerprint


@given(configs)
def test_a_round_trip_through_json_does_not_matter(config: dict[str, Any]) -> None:
    back = json.loads(json.dumps(config))
    assert Toy(named="a", options=config).fingerprint == Toy(named="a", options=back).fingerprint


@given(configs, configs)
def test_fingerprints_are_equal_exactly_if_configs_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = Toy(named="a", options=one).fingerprint == Toy(named="a", options=other).fingerprint
    assert same == (canonical(one) == canonical(other))


@given(configs, json_values)
def test_inputs_matter(config: dict[str, Any], value: Any) -> None:
    one, other = toy("in", value=value), toy("in", value=[value])
    alone = Toy(named="a", options=config)
    reading = [Toy(named="a", options=config, sources={"x": source}) for source in (one, other)]
    assert len({alone, *reading}) == 3
    assert reading[0] != Toy(named="a", options=config, sources={"y": one})


@dataclass(frozen=True)
class Inner:
    number: int
    neutral: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Before(Toy):
    """A kind, and below the same kind with settings that are new and neutral."""

    inner: Inner

    @property
    def kind(self) -> str:
        return "kind"


@dataclass(frozen=True)
class InnerAfter(Inner):
    further: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class After(Before):
    inner: InnerAfter
    later: float | None = None
    source: Step | None = None
    several: Mapping[str, Step] = field(default_factory=dict)


def test_a_new_setting_with_a_neutral_default_changes_no_fingerprint() -> None:
    before = Before(named="a", inner=Inner(1))
    assert After(named="a", inner=InnerAfter(1)).fingerprint == before.fingerprint
    changed = [
        After(named="a", inner=InnerAfter(1), later=0.0),
        After(named="a", inner=InnerAfter(1, further=(1,))),
        After(named="a", inner=InnerAfter(1), source=before),
        After(named="a", inner=InnerAfter(1), several={"x": before}),
        Before(named="a", inner=Inner(2)),
        Before(named="a", inner=Inner(1, neutral=2.0)),
    ]
    assert len({before, *changed}) == 7


def test_the_kind_is_part_of_the_identity() -> None:
    assert Ranks(named="a").fingerprint != Toy(named="a").fingerprint


def test_raising_the_version_changes_the_step_and_what_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def both() -> list[str]:
        first = toy("a")
        return [first.fingerprint, toy("b", inputs={"a": first}).fingerprint]

    before = both()
    monkeypatch.setattr(Toy, "version", 2)
    assert not set(before) & set(both())


def test_a_record_makes_the_same_step_again() -> None:
    source = toy("in", 2)
    step = After(named="a", inner=InnerAfter(1, 3.0, (1, 2)), source=source, several={"z": source, "b": source})
    record = json.loads(json.dumps(step.record()))
    back = read(record, {source.name: source})
    assert back == step and isinstance(back, After)
    assert back.inner == step.inner and list(back.several) == ["z", "b"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 9}, "version 9 of toy, and this code has version 1"),
        ({"class": "tests.grid.toys:Gone"}, "this code has no step toy"),
        ({"class": "no.module:Gone"}, "this code has no step toy"),
        ({"class": "json:JSONDecoder"}, "is no kind of step"),
    ],
)
def test_a_record_of_other_code_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        read({**toy("a").record(), **change}, {})


def test_fingerprint_is_the_same_in_another_process() -> None:
    step = toy("a", 3, {"b": toy("b", text="é")})
    code = "from tests.grid.toys import toy; print(toy('a', 3, {'b': toy('b', text='é')}).fingerprint)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == step.fingerprint
    assert step.name == f"a-{step.fingerprint[:8]}"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, Path("x")])
def test_values_that_are_not_json_are_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        _ = toy("a", value=value).fingerprint


def test_closure_is_distinct_and_inputs_come_first() -> None:
    a = toy("a")
    b, c = toy("b", inputs={"a": a}), toy("c", 2, {"a": toy("a")})
    d = toy("d", inputs={"b": b, "c": c})
    names = [step.label for step in closure([d, b])]
    assert names == ["a", "b", "c", "d"]


def test_planning_imports_nothing_heavy() -> None:
    code = "import sys, src.grid.plan, src.grid.execute, launchers.view; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "transformers"} & set(said.stdout.split())
