"""scores.csv and table.csv as pandas and seaborn read them."""

import json
import re
from dataclasses import replace

import pandas
import pytest

from src.report import tidy
from src.report.report import write
from tests.conftest import ROOT
from tests.report.fakegrid import LABELS, FakeGrid

pytestmark = pytest.mark.usefixtures("undrawn")


def read(fake: FakeGrid) -> tuple[pandas.DataFrame, pandas.DataFrame, dict]:
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    told = json.loads((fake.grid / "table.json").read_text())
    return pandas.read_csv(fake.grid / "scores.csv"), pandas.read_csv(fake.grid / "table.csv"), told


def test_pandas_reads_thirteen_rows_and_every_label(fake: FakeGrid) -> None:
    scores, table, told = read(fake.add())
    assert list(scores.columns) == list(tidy.FIELDS)
    assert list(table.label) == list(LABELS.values()) == list(scores.groupby("row").label.first())
    assert not scores.label.isna().any() and not table.label.isna().any()
    final = scores[scores.stage == "final"]
    for number, row in enumerate(told["rows"], start=1):
        own = final[final.row == number]
        keys = (own.task + "/" + own.set.fillna("") + "/" + own["mode"]).str.replace("//", "/")
        assert dict(zip(keys, own.value, strict=True)) == {key: one["mean"] for key, one in row["scores"].items()}
        low = dict(zip(keys, own.low, strict=True))
        assert low == pytest.approx({key: one["interval"][0] for key, one in row["scores"].items()})


def test_components_and_stages(fake: FakeGrid) -> None:
    scores, *_ = read(fake.add())
    about = scores.groupby("strategy").first()
    assert list(about.loc["merge_ties_replay", ["replay", "merge", "alpha", "method"]]) == [True, "ties", 16, "none"]
    assert about.loc["scale_14", "alpha"] == 14 and pandas.isna(about.loc["original", "alpha"])
    stages = scores.groupby("strategy").stage.unique().map(sorted)
    assert stages["none"] == stages["replay"] == ["asr", "final", "tts"] and stages["scale_14"] == ["final"]
    told = json.loads((fake.grid / "table.json").read_text())
    curve = next(curve for curve in told["curves"] if curve["strategy"] == "none")
    after = scores[(scores.strategy == "none") & (scores.stage == "tts")]
    point = next(point for point in curve["points"] if point["stage"] == "tts")
    assert list(after.value) == [score["mean"] for score in point["scores"].values()]


def test_means_are_those_of_the_sets(fake: FakeGrid) -> None:
    scores, *_ = read(fake.add(["none", "replay"], seeds=(0, 1, 2)))
    sets = scores[(scores.task == "qa") & (scores.stage == "final")]
    expected = sets.groupby(["label", "seed", "mode"]).value.mean()
    means = scores[scores.task == "mean"].set_index(["label", "seed", "mode"]).value
    assert len(means) == 2 * 3 * 3
    pandas.testing.assert_series_equal(means.sort_index(), expected.sort_index())


def test_a_row_without_scores_is_there_and_says_why(fake: FakeGrid) -> None:
    scores, table, _ = read(fake.add(["none"]).add(["replay"], seeds=(0, 1), publish=False))
    (first, second) = scores[scores.strategy == "replay"].itertuples()
    assert (first.state, first.seed, second.seed) == ("not run", 0, 1) and pandas.isna(first.value)
    assert list(table.state) == ["complete", "not run"]


def test_settings_that_differ_are_columns(fake: FakeGrid) -> None:
    for ratio in (0.1, 0.2):
        fake.add(["replay"], replay_ratio=ratio)
    scores, *_ = read(fake)
    assert scores.groupby("label")["replay.ratio"].first().to_dict() == {
        "Replay (replay.ratio=0.1)": 0.1, "Replay (replay.ratio=0.2)": 0.2,
    }  # fmt: skip


def test_no_label_is_read_as_missing(fake: FakeGrid) -> None:
    from pandas._libs.parsers import STR_NA_VALUES

    assert tidy.TAKEN_FOR_MISSING >= STR_NA_VALUES
    fake.add(["none"])
    fake.rows[0] = replace(fake.rows[0], label="None")
    scores, table, _ = read(fake)
    assert set(scores.label) == set(table.label) == {"'None'"}


def test_the_plot_of_the_documentation(fake: FakeGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("seaborn")
    monkeypatch.setenv("MPLBACKEND", "agg")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "review.md").read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "seaborn" in block]
    assert len(code.strip().splitlines()) == 5
    read(fake.add())
    monkeypatch.chdir(fake.grid)
    drawn: dict = {}
    exec(code.replace("outputs/latest/", ""), drawn)
    axes = drawn["plot"].axes.flat
    assert {axis.get_title() for axis in axes} == {f"mode = {mode}" for mode in ("t2t", "s2t", "s2s")}
    assert {label.get_text() for label in axes[0].get_yticklabels()} == set(LABELS.values())
    assert (fake.grid / "means.pdf").read_bytes().startswith(b"%PDF")
