"""`python -m src.compare` and `python -m src.report` on a grid with made-up results, and `python -m src.grids`."""

import json
from pathlib import Path

import pytest

from src import compare
from src.grid.plan import Plan
from src.grid.store import Store
from src.report import __main__ as report
from src.report import pairs
from src.report.lines import collapse
from tests.report.conftest import no_account, quick_store, undrawn  # noqa: F401
from tests.report.fakegrid import FakeGrid
from tests.report.test_page import Page


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two grids: one with None, Replay and a merge, a later one with other replay, both frozen."""
    root = tmp_path_factory.mktemp("compared") / "outputs"
    for name, ratio in (("first", 0.4), ("second", 0.2)):
        fake = FakeGrid(root, rows=[]).add(["none", "replay"], seeds=(0, 1), replay_ratio=ratio)
        (root / "grids" / name).mkdir(parents=True)
        fake.plan().save(root / "grids" / name / "plan.json")
    (root / "latest").symlink_to("grids/second")
    return root


def lines(outputs: Path, grid: str) -> dict:
    plan = Plan.load(outputs / "grids" / grid / "plan.json")
    return {line.name: line for line in collapse(plan.rows, Store(outputs / "store"))}


def outcomes(outputs: Path, line: pairs.Line, seed: int) -> dict:
    folder = Store(outputs / "store").folder(line.rows[seed].evaluate)
    rows = map(json.loads, (folder / "responses.jsonl").read_text().splitlines())
    return {(row["task"], row.get("set"), row["id"]): row for row in rows}


def test_scores_and_examples_of_two_rows_against_their_responses(outputs: Path) -> None:
    own = lines(outputs, "second")
    pair = pairs.Pair(("a", "b"), (own["none"], own["replay"]))
    store = Store(outputs / "store")
    found = {one.column["key"]: one for one in pairs.scores(pair, store)}
    one = found["qa/people/t2t"]
    both = [[outcomes(outputs, line, seed) for line in pair.lines] for seed in (0, 1)]
    keys = [key for key in both[0][0] if key[:2] == ("t2t", "people")]
    better = sum(b[key]["correct"] > a[key]["correct"] for a, b in both for key in keys)
    worse = sum(b[key]["correct"] < a[key]["correct"] for a, b in both for key in keys)
    assert one.changed == (better, worse) and one.test is not None
    assert one.test.difference == pytest.approx((better - worse) / len(keys) / 2)
    assert found["wer/asr"].column["direction"] == "down"
    assert found["mean/t2t"].test is None and pairs.difference(found["mean/t2t"])[0].startswith("+")
    examples = pairs.examples(pair, store)
    assert {example.task for example in examples} >= {"t2t", "sqa", "ifeval"}
    assert all(pairs.verdicts(example.answers[0]) != pairs.verdicts(example.answers[1]) for example in examples)
    first, second = both[0]
    differing = {key for key in first if pairs.verdicts(first[key]) != pairs.verdicts(second[key])}
    assert len(examples) == len(differing)
    assert any(all(example.clips) and example.question for example in examples if example.task == "sqa")


def test_settings_of_two_grids(outputs: Path) -> None:
    first, second = lines(outputs, "first"), lines(outputs, "second")
    (both, *_) = pairs.by_label([first["replay"]], list(second.values()))
    assert pairs.settings(pairs.Pair(("a", "b"), both)) == [("replay.ratio", 0.4, 0.2)]
    same = pairs.Pair(("a", "b"), (first["none"], second["none"]))
    assert [one.changed for one in pairs.scores(same, Store(outputs / "store"))] == [(0, 0)] * len(
        pairs.scores(same, Store(outputs / "store"))
    )
    assert pairs.examples(same, Store(outputs / "store")) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none", "replay"], "A  No mitigation\nB  Replay"),
        (["first:replay", "second:Replay"], "A  Replay (first)\nB  Replay (second)"),
        (["first", "second"], "replay.ratio  0.4  0.2"),
    ],
)
def test_what_is_printed_and_the_page(
    outputs: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    assert compare.main([*arguments, "--outputs", str(outputs), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert said in printed and str(out) in printed.replace("\n", "")
    page = Page(out.read_text(encoding="utf-8"))
    assert page.scripts == 1 and "expected" in page.text and page.sounds()
    assert all(value.startswith(("data:", "#")) for _, name, value in page.attributes if name in ("src", "href"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none", "x"], "x names no grids"),
        (["first", "second:replay"], "one of the two is a grid and the other a row"),
        (["first:x", "none"], "x names no rows of first; its rows are: No mitigation, Replay"),
    ],
)
def test_what_is_not_there_is_one_line(
    outputs: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main([*arguments, "--outputs", str(outputs)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.usefixtures("undrawn")
def test_a_report_is_drawn_anew_by_name(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["fir", "--outputs", str(outputs)]) == 0
    assert "No mitigation" in capsys.readouterr().out
    assert (outputs / "grids" / "first" / "index.html").exists()
    assert not (outputs / "grids" / "second" / "index.html").exists()
    assert report.main(["x", "--outputs", str(outputs)]) == 2
