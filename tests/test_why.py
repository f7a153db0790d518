"""`python -m src.why`: from two things to the settings that make them differ."""

from pathlib import Path

import pytest

from src.grid.execute import execute
from src.grid.step import Step
from src.grid.store import Store
from src.why import changed, main
from tests.grid.toys import toy


def chain(number: int = 1, deep: int = 1, **config: object) -> Step:
    """bottom <- middle <- top; `deep` is a setting of the bottom one."""
    bottom = toy("bottom", deep)
    return toy("top", number, {"m": toy("middle", 2, {"b": bottom})}, **config)


def computed(root: Path, step: Step) -> str:
    for source in step.inputs.values():
        computed(root, source)
    return execute(step, Store(root)).name


def why(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_difference_is_followed_to_where_it_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = computed(tmp_path, chain(deep=1)), computed(tmp_path, chain(deep=5))
    code, out, _ = why(capsys, one, other, "--store", tmp_path)
    bottoms = [toy("bottom", deep).name for deep in (1, 5)]
    assert code == 0
    assert out.splitlines() == [
        f"{bottoms[0]} | {bottoms[1]}   (input sources.m > sources.b)",
        "    options.number: 1 | 5",
    ]


def test_beginnings_and_paths_are_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = computed(tmp_path, chain()), computed(tmp_path, chain(nested={"a": [1, 2], "b": None}))
    code, out, _ = why(capsys, tmp_path / one, other[:-1], "--store", tmp_path)
    assert code == 0
    assert out.splitlines() == [f"{one} | {other}", '    options.nested: (not set) | {"a": [1, 2], "b": null}']
    code, out, _ = why(capsys, one, one, "--store", tmp_path)
    assert (code, out) == (0, f"The same: {one}\n")


def test_what_is_not_found_or_not_unique_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = computed(tmp_path, chain()), computed(tmp_path, chain(number=2))
    code, out, err = why(capsys, "top", one, "--store", tmp_path)
    assert (code, out) == (2, "") and one in err and other in err
    code, out, err = why(capsys, "nonsense", one, "--store", tmp_path)
    assert (code, out) == (2, "") and "nonsense" in err and err.count("\n") == 1


def test_cells_are_compared_by_settings_and_by_steps(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = why(capsys, "strategy=merge_ties", "strategy=merge_ties merge.method=dare_ties")
    assert code == 0
    assert out.startswith("Settings of the cells\n    merge.method: ties | dare_ties\n")
    assert "(input responses > model)\n    method: ties | dare_ties\n" in out
    assert out.count("|") == 3, "nothing else differs"
    code, out, _ = why(capsys, "strategy=replay", "strategy=replay seed=0")
    assert code == 0 and "The same: score-" in out
    code, _, err = why(capsys, "strategy=nonsense", "strategy=replay")
    assert code == 2 and "strategy/nonsense" in err


@pytest.mark.parametrize(
    ("a", "b", "lines"),
    [
        ({"x": 1, "y": {"z": 2}}, {"x": 1, "y": {"z": 3}}, ["y.z: 2 | 3"]),
        ({"x": None}, {"x": {"y": 1}}, ['x: null | {"y": 1}']),
        ({"x": [1, 2]}, {"x": [1, 3]}, ["x: [1, 2] | [1, 3]"]),
        ({"x": [{"a": 1}, {"a": 2}]}, {"x": [{"a": 1}, {"a": 3}]}, ["x.1.a: 2 | 3"]),
        ({"x": [{"a": 1}]}, {"x": []}, ['x: [{"a": 1}] | []']),
        ({"x": 1}, {}, ["x: 1 | (not set)"]),
        ({"x": 1.0}, {"x": 1}, ["x: 1.0 | 1"]),  # as the fingerprint has it
    ],
)
def test_changed(a: object, b: object, lines: list[str]) -> None:
    assert changed(a, b) == lines
