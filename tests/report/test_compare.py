"""The rows that others are tested against."""

from dataclasses import replace

import pytest

from src.grid.errors import ConfigError
from src.grid.row import Row
from src.report.compare import LETTERS, SUPERSCRIPTS, check_compare, references
from src.report.lines import collapse
from src.report.marks import collect
from src.report.report import write
from tests.report.fakegrid import FakeGrid

pytestmark = pytest.mark.usefixtures("undrawn")
KEY = "qa/people/t2t"


def comparing(fake: FakeGrid, *names: str) -> list[Row]:
    return [replace(row, config=row.config | {"compare": list(names)}) for row in fake.rows]


def swept(fake: FakeGrid, *ratios: float, default: float | None = None) -> list[Row]:
    for ratio in ratios:
        fake.add(["replay"], replay_ratio=ratio)
    return [
        replace(row, overrides=("strategy=replay", *([] if ratio == default else [f"replay.ratio={ratio}"])))
        for row, ratio in zip(fake.rows, ratios, strict=True)
    ]


def comparisons(fake: FakeGrid, rows: list[Row]) -> dict[str, list[tuple[str, str, str]]]:
    """label -> (name, letter, reference) of its tests."""
    found = collect(collapse(rows, fake.store), fake.store)
    return {
        label: [(name, test["letter"], test["reference"]) for name, test in tests.get(KEY, {}).items()]
        for label, tests in found.items()
    }


def test_rows_are_named_by_strategy_or_label(fake: FakeGrid) -> None:
    fake.add(["none", "merge_linear", "merge_ties", "replay"])
    rows = comparing(fake, "merge_ties", "Merge (Linear)")
    check_compare(rows)
    ties, linear = ("merge_ties", "M", "Merge (TIES)"), ("Merge (Linear)", "E", "Merge (Linear)")
    assert comparisons(fake, rows) == {
        "No mitigation": [ties, linear], "Merge (Linear)": [ties], "Merge (TIES)": [linear], "Replay": [ties, linear],
    }  # fmt: skip
    text = write(rows, fake.plan(), fake.store, fake.grid)
    assert "Merge (TIES) (m) or Merge (Linear) (e)" in text


def test_the_default_is_none_and_replay_where_they_are(fake: FakeGrid) -> None:
    fake.add(["none", "merge_ties"])
    for rows in (fake.rows, comparing(fake, "none", "replay")):
        check_compare(rows)
        assert comparisons(fake, rows) == {"No mitigation": [], "Merge (TIES)": [("none", "N", "No mitigation")]}


def test_a_sweep_is_compared_with_its_default_value(fake: FakeGrid) -> None:
    rows = swept(fake, 0.1, 0.2, 0.4, default=0.2)
    own = "Replay (replay.ratio=0.2)"
    other = [(own, "R", own)]
    assert comparisons(fake, rows) == {
        "Replay (replay.ratio=0.1)": other, own: [], "Replay (replay.ratio=0.4)": other,
    }  # fmt: skip


@pytest.mark.parametrize("override", ["replay.ratio=1", "++replay.ratio=1", "replay=mine", "+replay@x=mine"])
def test_where_all_rows_name_the_setting_the_first_one_counts(fake: FakeGrid, override: str) -> None:
    rows = [replace(row, overrides=(override,)) for row in swept(fake, 10, 9)]
    (only,) = references(collapse(rows, fake.store))
    assert only.entry() == {
        "name": "Replay (replay.ratio=9)", "label": "Replay (replay.ratio=9)", "letter": "R",
        "rows": ["Replay (replay.ratio=9)"],
    }  # fmt: skip


def test_a_label_goes_before_the_default_value(fake: FakeGrid) -> None:
    swept(fake, 0.1, 0.2, 0.4)
    rows = comparing(fake, "Replay (replay.ratio=0.4)")
    check_compare(rows)
    (only,) = references(collapse(rows, fake.store))
    assert [line.label for line in only.lines] == ["Replay (replay.ratio=0.4)"]


def test_two_settings_are_no_sweep_of_one(fake: FakeGrid) -> None:
    rows = swept(fake, 0.1, 0.2)
    rows = [replace(row, config=row.config | {"profile": f"p{i}"}) for i, row in enumerate(rows)]
    assert [reference.name for reference in references(collapse(rows, fake.store))] == ["replay"]


def test_a_name_that_fits_no_row_is_one_line(fake: FakeGrid) -> None:
    fake.add(["none", "merge_ties"])
    with pytest.raises(ConfigError) as caught:
        check_compare(comparing(fake, "none", "merge_tie"))
    assert str(caught.value) == (
        "compare=merge_tie: no row of this grid is called so; "
        "its rows are none, No mitigation, merge_ties, Merge (TIES)"
    )
    with pytest.raises(ConfigError, match="compare names 20 rows; it must name at most 19"):
        check_compare(comparing(fake, *map(str, range(20))))


def test_every_letter_has_a_superscript_of_its_own() -> None:
    assert len(set(SUPERSCRIPTS)) == len(set(SUPERSCRIPTS.values())) == 2 * len(LETTERS)


def test_planning_checks_it_without_a_drawing_or_torch() -> None:
    import subprocess
    import sys

    code = "import sys, src.report.compare; print([m for m in ('torch', 'matplotlib', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
