"""The tests between rows as the table shows them, against scipy and statsmodels on the fake grid's responses."""

import json
import math
from pathlib import Path

import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from src.grid.row import Row
from src.report import cells, marks
from src.report.lines import collapse
from src.report.report import write
from tests.report.fakegrid import LABELS, FakeGrid
from tests.report.test_page import page_of

pytestmark = pytest.mark.usefixtures("undrawn")


def collected(fake: FakeGrid) -> dict[str, marks.Tests]:
    return marks.collect(collapse(fake.rows, fake.store), fake.store)


def verdicts(fake: FakeGrid, row: Row, task: str, field: str, name: str | None = None) -> dict[str, bool]:
    """Straight from the file."""
    lines = (fake.store.folder(row.evaluate) / "responses.jsonl").read_text().splitlines()
    rows = [one for one in map(json.loads, lines) if one["task"] == task and one.get("set") == name]
    return {str(one["id"]): all(one[field]) if isinstance(one[field], list) else one[field] for one in rows}


def exact(one: dict[str, bool], other: dict[str, bool]) -> float:
    """McNemar's, by scipy."""
    assert one.keys() == other.keys()
    only = sum(one[id] and not other[id] for id in one), sum(other[id] and not one[id] for id in one)
    return stats.binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0


def holm(ps: list[float]) -> list[float]:
    return list(multipletests(ps, method="holm")[1])


@pytest.mark.parametrize(
    ("key", "task", "field", "name"),
    [
        ("qa/people/t2t", "t2t", "correct", "people"),
        ("qa/animals/s2s", "sqa", "correct_s2s", "animals"),
        ("ifeval/prompt_strict", "ifeval", "strict", None),
    ],
)
@pytest.mark.parametrize("reference", ["none", "replay"])
def test_one_seed_is_mcnemar_over_the_examples_and_holm_down_the_column(
    fake: FakeGrid, key: str, task: str, field: str, name: str | None, reference: str
) -> None:
    fake.n = 100
    fake.add()
    own = {row.name: verdicts(fake, row, task, field, name) for row in fake.rows}
    others = [row for row in fake.rows if row.name != reference and own[row.name]]
    ps = [exact(own[row.name], own[reference]) for row in others]
    found = collected(fake)
    assert len(others) == (12 if task != "sqa" else 11)  # the Original does not hear
    for row, p, adjusted in zip(others, ps, holm(ps), strict=True):
        test = found[row.label][key][reference]
        assert (test["p"], test["p_adjusted"]) == (pytest.approx(p), pytest.approx(adjusted))
        rates = [sum(own[each].values()) / len(own[each]) for each in (row.name, reference)]
        assert test["difference"] == pytest.approx(rates[0] - rates[1])
        assert test["mark"] == ("" if adjusted >= 0.05 else "higher" if rates[0] > rates[1] else "lower")
        assert test["unit"] == "examples" and test["family"] == len(others)
        assert test["each"] == {name: test[name] for name in ("p", "p_adjusted", "mark")}
    assert reference not in found[LABELS[reference]][key]
    marked = {test["mark"] for row in others if (test := found[row.label][key][reference])}
    assert {"", "lower" if reference == "replay" else "higher"} <= marked, "a column without contrast shows nothing"


def test_word_errors_and_instructions_are_tested_in_clusters(fake: FakeGrid) -> None:
    fake.add(["none", "replay"])
    found = collected(fake)["Replay"]
    counts = []
    for row in fake.rows:
        lines = (fake.store.folder(row.evaluate) / "responses.jsonl").read_text().splitlines()
        counts.append([one["errors"] for one in map(json.loads, lines) if one["task"] == "asr"])
    differences = [b - a for a, b in zip(*counts, strict=True)]
    sampled = stats.permutation_test(
        (differences,), lambda d, axis: d.sum(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=20_000, rng=1,
    )  # fmt: skip
    test = found["wer/asr"]["none"]
    assert test["p"] == pytest.approx(sampled.pvalue, abs=0.02)
    assert test["difference"] == pytest.approx(sum(differences) / (6 * fake.n))
    assert found["ifeval/instruction_strict"]["none"]["mark"] == "higher"


def test_several_seeds_are_the_unit_and_what_their_models_show_stands_beside(fake: FakeGrid) -> None:
    names = ["original", "none", "merge_ties", "replay", "merge_ties_replay"]
    fake.n = 60
    fake.add(names, seeds=(0, 1, 2))
    key, found = "qa/people/t2t", collected(fake)
    own = {(row.name, row.seed): verdicts(fake, row, "t2t", "correct", "people") for row in fake.rows}
    others = [name for name in names if name != "none"]
    weak = []
    for name in others:
        ps = [exact(own[name, seed], own["none", seed]) for seed in range(3)]
        gains = [sum(own[name, seed].values()) - sum(own["none", seed].values()) for seed in range(3)]
        weak.append(max(ps) if len({gain > 0 for gain in gains}) == 1 else 1.0)
        test = found[LABELS[name]][key]["none"]
        assert (test["unit"], len(test["seeds"])) == ("seeds", 3)
        assert [each["p"] for each in test["seeds"]] == pytest.approx(ps)
        assert [each["difference"] for each in test["seeds"]] == pytest.approx([gain / fake.n for gain in gains])
        assert test["difference"] == pytest.approx(sum(gains) / fake.n / 3)
        t = test["difference"] / test["standard_error"]
        assert test["p"] == pytest.approx(2 * stats.t.sf(abs(t), 2))
        student = stats.ttest_1samp([gain / fake.n for gain in gains], 0).pvalue
        assert test["p"] >= student * (1 - 1e-9)  # for new examples, too: never more certain
    strong = holm([found[LABELS[name]][key]["none"]["p"] for name in others])
    for name, p, p_weak in zip(others, strong, holm(weak), strict=True):
        test = found[LABELS[name]][key]["none"]
        assert test["p_adjusted"] == pytest.approx(p)
        assert test["each"]["p_adjusted"] == pytest.approx(p_weak)
        assert bool(test["each"]["mark"]) == (p_weak < 0.05)
    assert found["Replay"][key]["none"]["each"]["mark"] == "higher"
    assert found["Merge (TIES)"][key]["none"]["each"]["mark"] == ""


def test_seeds_that_only_one_row_has_are_left_out(fake: FakeGrid) -> None:
    fake.add(["none"], seeds=(0, 1)).add(["replay"], seeds=(1, 2))
    test = collected(fake)["Replay"]["qa/people/t2t"]["none"]
    assert test["unit"] == "examples" and [each["seed"] for each in test["seeds"]] == [1]


def test_a_grid_without_a_reference_or_with_one_row_has_no_tests(fake: FakeGrid) -> None:
    fake.add(["merge_ties", "original"])
    assert collected(fake) == {"Merge (TIES)": {}, "Original": {}}
    text = write(fake.rows, fake.plan(), fake.store, fake.grid)
    assert "Holm" not in text and "ⁿ" not in text


def test_each_setting_has_its_own_reference(fake: FakeGrid) -> None:
    fake.add(["none"])
    for ratio in (0.1, 0.2):
        fake.add(["replay", "merge_ties_replay"], replay_ratio=ratio)
    found, key = collected(fake), "qa/people/t2t"
    ties = found["Merge (TIES) w/ R (replay.ratio=0.2)"][key]
    assert ties["replay"]["reference"] == "Replay (replay.ratio=0.2)" and ties["none"]["reference"] == "No mitigation"
    assert ties["replay"]["family"] == 1 and ties["none"]["family"] == 4
    assert list(found["Replay (replay.ratio=0.1)"][key]) == ["none"]
    assert found["No mitigation"] == {}  # it is not said beside which Replay
    text = write(fake.rows, fake.plan(), fake.store, fake.grid)
    assert "ⁿ, ʳ: this model differs from that of No mitigation (n) or Replay (r)" in text


def test_rows_that_were_asked_other_questions_are_not_compared(fake: FakeGrid) -> None:
    """Equal ids in two corpora are two examples."""
    other = FakeGrid(fake.root, n=fake.n + 1).add(["replay"])
    fake.add(["none"])
    fake.rows += other.rows
    found = collected(fake)
    assert found["Replay"] == {} and found["No mitigation"] == {}


def test_outcomes_of_every_task(tmp_path: Path) -> None:
    rows = [
        {"task": "t2t", "id": "q", "set": "a", "correct": True},
        {"task": "sqa", "id": "q", "set": "a", "correct_s2t": True, "correct_s2s": False, "well_formed": False,
         "errors": 4, "words_counted": 3},
        {"task": "ifeval", "id": 7, "strict": [True, False, True], "loose": [True, True, True]},
        {"task": "asr", "id": "e", "errors": 2, "words_counted": 5},
        {"task": "tts", "id": "e", "errors": 0, "words_counted": 5},
    ]  # fmt: skip
    file = tmp_path / "responses.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert marks.outcomes(file, "c") == {
        "qa/a/t2t": {"c/a/q": True},
        "qa/a/s2t": {"c/a/q": True},
        "qa/a/s2s": {"c/a/q": False},
        "form/well_formed": {"c/a/q": False},
        "wer/question": {"c/a/q": (4, 3)},
        "ifeval/prompt_strict": {"c//7": False},
        "ifeval/instruction_strict": {"c//7": (2, 3)},
        "ifeval/prompt_loose": {"c//7": True},
        "ifeval/instruction_loose": {"c//7": (3, 3)},
        "wer/asr": {"c//e": (2, 5)},
        "wer/tts": {"c//e": (0, 5)},
    }


@pytest.mark.parametrize(
    ("unit", "mark", "each", "shown"),
    [
        ("seeds", "higher", "higher", "N"),
        ("seeds", "", "higher", "n"),
        ("seeds", "lower", "", "N"),
        ("seeds", "", "", ""),
        ("examples", "lower", "lower", "n"),  # one seed does not speak of others
    ],
)
def test_capital_letters_are_for_new_seeds(unit: str, mark: str, each: str, shown: str) -> None:
    test = {"letter": "N", "unit": unit, "mark": mark, "each": {"mark": each}}
    assert marks.letters({"none": test}) == shown
    both = {"none": test, "replay": {**test, "letter": "R"}}
    assert marks.letters(both) == shown + shown.translate(str.maketrans("Nn", "Rr"))


def test_what_few_seeds_need() -> None:
    assert marks.needed(3, 1) == pytest.approx(stats.t.ppf(0.975, 2))
    for seeds, family in ((2, 12), (3, 12), (5, 3)):
        assert 2 * stats.t.sf(marks.needed(seeds, family), seeds - 1) * family == pytest.approx(0.05)
    assert math.floor(marks.needed(3, 12)) == 15


def test_every_form_of_the_table_has_the_marks_and_their_legend(fake: FakeGrid) -> None:
    fake.add(["original", "none", "replay"], seeds=(0, 1, 2))
    page = page_of(fake)
    told = json.loads((fake.grid / "table.json").read_text())
    shown = {
        (row["label"], column["key"]): cells.letters(row, column["key"])
        for row in told["rows"]
        for column in told["columns"]
        if column["table"] == "main"
    }
    assert {"n", "r"} <= {letter.lower() for letters in shown.values() for letter in letters}
    markdown = (fake.grid / "table.md").read_text()
    tex = (fake.grid / "table_plain.tex").read_text()
    body = [line for line in tex.splitlines() if " & " in line][2:]
    for i, row in enumerate(told["rows"]):
        expected = "".join(shown[row["label"], c["key"]] for c in told["columns"] if c["table"] == "main")
        line = markdown.splitlines()[2 + i]
        assert "".join(c for c in line if c in "ᴺᴿⁿʳ").translate(str.maketrans("ᴺᴿⁿʳ", "NRnr")) == expected
        assert "".join(part[0] for part in body[i].split(r"\textsuperscript{")[1:]) == expected
    cell = next(row for row in page.rows if row[0] == "Replay")[1]
    score = told["rows"][2]["scores"]["qa/countries/t2t"]
    number = f"{100 * score['mean']:.1f}±{100 * score['std']:.1f}{shown['Replay', 'qa/countries/t2t']}"
    assert cell.split()[0].startswith(number)
    for text in (markdown, tex, page.text):
        assert "differs from No mitigation (N) or Replay (R)" in text and "Holm" in text
        assert "With 3 seeds and 2 rows to a column that takes a difference of 6 standard errors" in text
    titles = [value for tag, name, value in page.attributes if (tag, name) == ("span", "title")]
    told_of = ("95 % interval", "beside No mitigation: p", "over 3 seeds")
    assert any(all(words in title for words in told_of) for title in titles)
