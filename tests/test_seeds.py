"""Three seeds at smoke size, by the command that a user types: means, deviations, tests between rows, drawings."""

import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from scipy import stats

from src.report import drawing
from src.report.columns import front

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
STRATEGIES = ("original", "none", "merge_linear_replay", "replay")


@pytest.fixture(scope="module")
def grid(smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the grid. Seed 0 is that of the undisturbed table; the other two are computed here."""
    outputs = tmp_path_factory.mktemp("seeds") / "outputs"
    shutil.copytree(smoke, outputs, symlinks=True)
    command = [
        *(sys.executable, "-m", "src.run", "-m", "profile=smoke", f"strategy={','.join(STRATEGIES)}"),
        *("seed=0,1,2", "name=seeds", "tracker.mode=disabled", f"outputs={outputs}"),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (outputs / "grids" / "seeds" / "printed.txt").write_text(done.stdout)
    return outputs / "grids" / "seeds"


@pytest.fixture(scope="module")
def table(grid: Path) -> dict[str, Any]:
    return json.loads((grid / "table.json").read_text())


def judged(grid: Path, name: str, task: str) -> dict[str, dict[str, Any]]:
    """The judged responses of an artifact, by example."""
    lines = (grid.parents[1] / "store" / name / "responses.jsonl").read_text().splitlines()
    return {str(row["id"]): row for row in map(json.loads, lines) if row["task"] == task}


def test_each_row_has_three_seeds_with_mean_deviation_and_interval(table: dict[str, Any], grid: Path) -> None:
    assert [row["strategy"] for row in table["rows"]] == ["original", "none", "replay", "merge_linear_replay"]
    for row in table["rows"]:
        assert (row["seeds"], row["state"]) == ([0, 1, 2], "complete")
        assert len(set(row["evaluations"])) == 3
        for key, score in row["scores"].items():
            if key.startswith("mean/"):
                continue
            values = [
                json.loads((grid.parents[1] / "store" / name / "scores.json").read_text())["scores"][key]["value"]
                for name in row["evaluations"]
            ]
            assert score["mean"] == pytest.approx(statistics.fmean(values))
            assert score["std"] == pytest.approx(statistics.stdev(values))
            half = stats.t.ppf(0.975, 2) * score["std"] / 3**0.5
            assert score["interval"] == pytest.approx([score["mean"] - half, score["mean"] + half])
    spreads = [score["std"] for row in table["rows"] for score in row["scores"].values()]
    assert max(spreads) > 0, "seeds that change nothing would show nothing"


def test_rows_are_tested_with_the_seed_as_the_unit_and_each_seed_exactly(table: dict[str, Any], grid: Path) -> None:
    rows = {row["strategy"]: row for row in table["rows"]}
    assert {name for name in rows["replay"]["tests"]["ifeval/prompt_strict"]} == {"none"}
    assert set(rows["original"]["tests"]) == {key for key in rows["original"]["scores"] if not key.startswith("mean/")}
    for key, task, verdict in (("qa/people/t2t", "t2t", "correct"), ("qa/people/s2t", "sqa", "correct_s2t")):
        test = rows["replay"]["tests"][key]["none"]
        assert test["unit"] == "seeds" and [one["seed"] for one in test["seeds"]] == [0, 1, 2]
        assert test["family"] == (3 if task == "t2t" else 2)
        for at, one in enumerate(test["seeds"]):
            own, other = (judged(grid, rows[name]["evaluations"][at], task) for name in ("replay", "none"))
            pairs = [(own[id][verdict], other[id][verdict]) for id in own if own[id]["set"] == "people"]
            better, worse = pairs.count((True, False)), pairs.count((False, True))
            assert one["difference"] == pytest.approx((better - worse) / len(pairs))
            expected = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
            assert one["p"] == pytest.approx(expected)
    tests = [test for row in table["rows"] for of in row["tests"].values() for test in of.values()]
    for test in tests:
        assert test["p"] <= test["p_adjusted"] <= 1 and test["each"]["p"] <= test["each"]["p_adjusted"] <= 1
        assert bool(test["mark"]) == (test["p_adjusted"] < 0.05)
    assert any(0 < one["p"] < 1 for test in tests for one in test["seeds"]), "equal answers would show nothing"


def test_the_marks_are_those_of_the_tests(grid: Path, table: dict[str, Any]) -> None:
    """Models of this size differ too little for many: what stands there must be so all the same."""
    lines = (grid / "table.md").read_text().splitlines()[2:]
    main = [column["key"] for column in front(table)]
    for row, line in zip(table["rows"], lines, strict=False):
        for key, cell in zip(main, line.strip("| ").split(" | ")[1:], strict=True):
            expected = ""
            for reference, strong, weak in (("none", "ᴺ", "ⁿ"), ("replay", "ᴿ", "ʳ")):
                if test := row["tests"].get(key, {}).get(reference):
                    expected += strong if test["mark"] else weak if test["each"]["mark"] else ""
            assert cell.lstrip("0123456789.±≥≤ -") == expected


def test_what_is_printed_names_the_tests_and_their_limits(grid: Path) -> None:
    printed = " ".join((grid / "printed.txt").read_text().split())
    for words in (
        "mean ± standard deviation over 3 seeds", "paired t test with the seed as the unit",
        "a missing mark says little", "the models of every seed here differ", "An answer counts if",
        "WER: words are compared",
    ):  # fmt: skip
        assert words in printed, words


def test_forgetting_is_relative_to_the_original_of_the_same_seed(table: dict[str, Any]) -> None:
    original, none = table["rows"][0], table["rows"][1]
    assert original["forgetting"] == [] and [one["stage"] for one in none["forgetting"]] == ["asr", "tts", "sqa"]
    last = none["forgetting"][-1]["ifeval"]
    before, after = (row["scores"]["ifeval/prompt_strict"]["seeds"] for row in (original, none))
    changes = [b["value"] - a["value"] for a, b in zip(before, after, strict=True)]
    assert [one["value"] for one in last["backward_transfer"]["seeds"]] == pytest.approx(changes)
    assert last["backward_transfer"]["std"] == pytest.approx(statistics.stdev(changes))


def test_drawings_are_there_and_the_page_shows_them(grid: Path, table: dict[str, Any]) -> None:
    html = (grid / "index.html").read_text(encoding="utf-8")
    for name in ("figure3", "tradeoff", "ifeval"):
        ElementTree.parse(grid / f"{name}.svg")
        with Image.open(grid / f"{name}.png") as image:
            image.verify()
        assert drawing.inline(grid / f"{name}.svg", f"d-{name}-all") in html, name
    for row in table["rows"]:
        assert f'<th scope="row">{row["label"]}</th>' in html
    assert html.count("95 % interval ") > 30 and "over 3 seeds" in html


def test_the_csv_has_the_same(grid: Path, table: dict[str, Any]) -> None:
    with (grid / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    for row, line in zip(table["rows"], lines, strict=True):
        assert line["seeds"] == "0 1 2"
        for key, score in row["scores"].items():
            own = [float(line[key + suffix]) for suffix in ("", "/std", "/low", "/high")]
            assert own == [score["mean"], score["std"], *score["interval"]]
