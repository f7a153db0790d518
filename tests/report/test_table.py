import csv
import io
import json
import re
import statistics
from pathlib import Path

import pytest

from src.report import latex, table
from src.report.columns import columns
from src.report.columns import front as columns_of_the_front
from src.report.report import write
from tests.report.fakegrid import LABELS, SETS, FakeGrid, digest

MAIN = [f"qa/{name}/{mode}" for name in SETS for mode in ("t2t", "s2t", "s2s")] + [
    "ifeval/prompt_strict",
    "ifeval/instruction_strict",
]


@pytest.fixture
def whole(fake: FakeGrid) -> FakeGrid:
    return fake.add()


def report(fake: FakeGrid) -> tuple[dict, str]:
    text = write(fake.rows, fake.plan(), fake.store, fake.grid)
    return json.loads((fake.grid / "table.json").read_text()), text


@pytest.mark.usefixtures("undrawn")
def test_thirteen_rows_of_eleven_scores(whole: FakeGrid) -> None:
    told, text = report(whole)
    assert [row["label"] for row in told["rows"]] == list(LABELS.values())
    assert [column["key"] for column in told["columns"] if column["table"] == "main"] == MAIN
    for row, fake_row in zip(told["rows"], whole.rows, strict=True):
        scores = json.loads((whole.store.folder(fake_row.evaluate) / "scores.json").read_text())["scores"]
        assert row["evaluations"] == [fake_row.evaluate.name]
        own = {key: score["mean"] for key, score in row["scores"].items() if not key.startswith("mean/")}
        assert own == {key: score["value"] for key, score in scores.items()}
    lines = text.splitlines()
    original = next(line for line in lines if line.startswith("Original"))
    assert len(original.split()) == 12 and original.split().count("-") == 6
    assert all(any(line.startswith(label) for line in lines) for label in LABELS.values())


@pytest.mark.usefixtures("undrawn")
def test_every_form_shows_the_same_numbers(whole: FakeGrid) -> None:
    told, text = report(whole)

    def shown(row: dict, keys: list[str]) -> list[str]:
        return [f"{100 * score['mean']:.1f}" if (score := row["scores"].get(key)) else "-" for key in keys]

    def numbers(cells: list[str]) -> list[str]:
        return [re.split(r"\s*[±≥≤]", cell.strip())[0] for cell in cells]

    front = [column["key"] for column in columns_of_the_front(told)]
    markdown = (whole.grid / "table.md").read_text().split("\n\n")[0].splitlines()[2:]
    assert [numbers(line.strip("|").split("|")[1:]) for line in markdown] == [shown(row, front) for row in told["rows"]]
    printed = text.splitlines()[3:16]
    assert [numbers(line.rsplit(maxsplit=11)[1:]) for line in printed] == [shown(row, MAIN) for row in told["rows"]]
    rows = list(csv.DictReader(io.StringIO((whole.grid / "table.csv").read_text())))
    for row, record in zip(told["rows"], rows, strict=True):
        for key, score in row["scores"].items():
            assert float(record[key]) == score["mean"]  # every digit
            assert record[f"{key}/n"] == str(score["n"])
            assert [float(record[f"{key}/{end}"]) for end in ("low", "high")] == score["interval"]


@pytest.mark.usefixtures("undrawn")
def test_headings_say_which_way_is_better(whole: FakeGrid) -> None:
    report(whole)
    head, skills = (part.splitlines()[0] for part in (whole.grid / "table.md").read_text().split("\n\n")[:2])
    assert head.startswith("| Strategy | Countries T2T ↑ | Countries S2T ↑ |")
    assert "IFEval prompt ↑ | IFEval instruction ↑ |" in head
    assert "WER ASR ↓" in skills and "Form well-formed ↑" in skills


@pytest.mark.usefixtures("undrawn")
def test_loose_scores_are_in_json_and_csv_only(whole: FakeGrid) -> None:
    told, text = report(whole)
    assert "ifeval/prompt_loose" in told["rows"][0]["scores"]
    assert "ifeval/prompt_loose" in (whole.grid / "table.csv").read_text().splitlines()[0]
    assert "loose" not in text + (whole.grid / "table.md").read_text()


def test_the_same_results_give_the_same_bytes(whole: FakeGrid, tmp_path: Path) -> None:
    report(whole)
    first = digest(whole.grid)
    again = FakeGrid(tmp_path / "elsewhere").add(list(LABELS)[::-1])  # other place, other order, other times
    report(again)
    second = digest(again.grid)
    drawings = [f"{n}.{ending}" for n in ("figure3", "tradeoff", "ifeval") for ending in ("svg", "pdf", "png")]
    names = ["table.json", "table.csv", "scores.csv", "table.md", "table.tex", "table_plain.tex", *drawings]
    assert [first[name] for name in names] == [second[name] for name in names]
    report(whole)
    assert digest(whole.grid) == first


@pytest.mark.usefixtures("undrawn")
def test_missing_rows_say_why(fake: FakeGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "220")  # wide enough for every column, whatever the scores
    fake.add(["original", "none"]).add(["replay"], publish=False).add(["merge_ties"], publish=False)
    failures = fake.grid / "failures"
    failures.mkdir(parents=True)
    (failures / f"{fake.rows[2].evaluate.name}.txt").write_text("Traceback: no luck")
    (failures / f"{fake.rows[1].evaluate.name}.txt").write_text("of an earlier attempt; it has succeeded since")
    told, text = report(fake)
    states = {row["strategy"]: row["state"] for row in told["rows"]}
    assert states == {"original": "complete", "none": "complete", "replay": "failed", "merge_ties": "not run"}
    replay, ties = (next(x for x in text.splitlines() if x.startswith(label)) for label in ("Replay", "Merge (TIES)"))
    assert replay.split()[1:] == ["failed"] * 14
    assert ties.split()[2:] == ["–"] * 14
    assert "its traceback is kept" in text and "–: not run" in text


def test_nothing_at_all_was_evaluated(fake: FakeGrid) -> None:
    fake.add(["none", "replay"], publish=False)
    told, text = report(fake)
    assert [row["state"] for row in told["rows"]] == ["not run"] * 2 and told["columns"] == []
    assert "No mitigation" in text and "Replay" in text
    assert not (fake.grid / "figure3.svg").exists() and (fake.grid / "index.html").exists()


@pytest.mark.usefixtures("undrawn")
def test_seeds_are_told_apart_from_standard_errors(fake: FakeGrid) -> None:
    told, text = report(fake.add(["none", "replay"], seeds=(0, 1, 2)))
    assert "mean ± standard deviation over 3 seeds" in text
    score = told["rows"][0]["scores"]["qa/people/t2t"]
    values = [one["value"] for one in score["seeds"]]
    assert (
        f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"
        in (fake.grid / "table.md").read_text()
    )
    fake.add(["none"], seeds=(3,), publish=False)
    _, text = report(fake)
    assert "No mitigation [3 of 4 seeds]" in text


@pytest.mark.usefixtures("undrawn")
def test_a_narrow_terminal_gets_no_spread(whole: FakeGrid) -> None:
    told, _ = report(whole)
    wide, narrow = table.to_text(told, 200), table.to_text(told, 110)
    assert "±" in wide.splitlines()[4] and "±" not in narrow.splitlines()[4]
    assert max(map(len, narrow.splitlines()[:16])) <= 110
    assert max(map(len, wide.splitlines()[:16])) <= 200


@pytest.mark.usefixtures("undrawn")
def test_recognizer_and_pool_are_told(whole: FakeGrid) -> None:
    told, text = report(whole)
    (recognizer,) = told["recognizers"]
    assert recognizer["resynthesized"] == {"wer": 0.034, "n": 60}
    assert "Recognizer's WER: 3.4 on correct answers that were spoken, turned into units and made audible again" in text
    assert "1.1 on them as they were spoken" in text
    assert told["data"] == {
        "replay_pools": ["honest"],
        "matching": ["contiguous"],
        "wer_normalization": ["basic"],
        "ifeval_chance": [],
    }


@pytest.mark.usefixtures("undrawn")
def test_the_document_is_as_described(whole: FakeGrid) -> None:
    told, _ = report(whole)
    described = (Path(__file__).parents[2] / "docs" / "table_schema.md").read_text()
    row = told["rows"][1]
    score, test, forgotten = row["scores"]["qa/people/t2t"], row["tests"]["qa/people/t2t"], row["forgetting"][0]
    parts = [told, told["data"], row, score, score["seeds"][0]]
    parts += [told[part][0] for part in ("columns", "recognizers", "references", "curves")]
    parts += [test["replay"], test["replay"]["each"], forgotten, forgotten["t2t"], row["ifeval"]["keywords"]]
    for part in parts:
        for field in part:
            assert f"`{field}`" in described, field


def test_special_characters_in_labels() -> None:
    row = {"label": "A|B_50%", "strategy": "x", "replay": False, "settings": {}, "seeds": [0], "state": "not run"}
    empty: dict = {"scores": {}, "tests": {}, "forgetting": [], "ifeval": {}}
    told = {"columns": [], "rows": [{**row, **empty}], "references": [], "recognizers": [], "curves": [], "data": {}}
    assert r"| A\|B_50% |" in table.to_markdown(told)
    assert r"A|B\_50\%" in latex.to_tex(told)
    assert "A|B_50%" in table.to_text(told)


def test_tasks_of_the_harness_are_columns_where_they_are_shares() -> None:
    found = {column["key"]: column for column in columns(["lm_eval/lab/acc,none", "lm_eval/lab/perplexity"])}
    assert found["lm_eval/lab/acc,none"]["table"] == "lm_eval" and found["lm_eval/lab/acc,none"]["group"] == "lab"
    assert found["lm_eval/lab/perplexity"]["table"] == "more"
