"""What makes two steps the same."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.grid import bodies
from src.grid.bodies import Body
from src.grid.step import Step, canonical, closure
from tests.grid.toys import toy

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
    assert Step("toy", "a", config).fingerprint == Step("toy", "a", reversed_keys(config)).fingerprint


@given(configs)
def test_a_round_trip_through_json_does_not_matter(config: dict[str, Any]) -> None:
    back = json.loads(json.dumps(config))
    assert Step("toy", "a", config).fingerprint == Step("toy", "a", back).fingerprint


@given(configs, configs)
def test_fingerprints_are_equal_exactly_if_configs_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = Step("toy", "a", one).fingerprint == Step("toy", "a", other).fingerprint
    assert same == (canonical(one) == canonical(other))


@given(configs, json_values)
def test_inputs_matter(config: dict[str, Any], value: Any) -> None:
    one, other = Step("toy", "in", {"value": value}), Step("toy", "in", {"value": [value]})
    alone = Step("toy", "a", config)
    assert len({alone, *(Step("toy", "a", config, {"x": source}) for source in (one, other))}) == 3
    assert Step("toy", "a", config, {"x": one}) != Step("toy", "a", config, {"y": one})


def test_what_does_not_change_the_result_is_not_hashed() -> None:
    plain = Step("toy", "a", {"number": 1})
    assert Step("toy", "b", {"number": 1}, seconds=9.0, megabytes=9.0, ranks=4).fingerprint == plain.fingerprint
    assert Step("ranks", "a", {"number": 1}).fingerprint != plain.fingerprint


def test_raising_the_version_changes_the_step_and_what_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def both() -> list[str]:
        first = toy("a")
        return [first.fingerprint, toy("b", inputs={"a": first}).fingerprint]

    before = both()
    monkeypatch.setitem(bodies.BODIES, "toy", Body("tests.grid.toys:run", version=2))
    assert not set(before) & set(both())


def test_fingerprint_is_the_same_in_another_process() -> None:
    step = toy("a", 3, {"b": toy("b", text="é")})
    code = "from tests.grid.toys import toy; print(toy('a', 3, {'b': toy('b', text='é')}).fingerprint)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == step.fingerprint
    assert step.name == f"a-{step.fingerprint[:8]}"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, Path("x")])
def test_values_that_are_not_json_are_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        _ = Step("toy", "a", {"value": value}).fingerprint


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
