import json
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from src.report import instructions
from src.report.cells import valued
from src.report.lines import collapse
from src.report.report import write
from tests.report.fakegrid import SKILL, FakeGrid
from tests.report.test_page import page_of
from tests.report.test_tradeoff import texts


def test_shares_of_each_group_against_the_responses(fake: FakeGrid) -> None:
    fake.add(["none"], seeds=(0, 1))
    found = instructions.collect(collapse(fake.rows, fake.store), fake.store)["No mitigation"]
    followed = []
    for row in fake.rows:
        lines = (fake.store.folder(row.evaluate) / "responses.jsonl").read_text().splitlines()
        followed.append([one["strict"] for one in map(json.loads, lines) if one["task"] == "ifeval"])
    shares = np.array(followed).mean(axis=1)  # [seed, instruction]
    for at, group in enumerate(("keywords", "punctuation")):
        assert found[group]["mean"] == pytest.approx(shares[:, at].mean())
        assert found[group]["std"] == pytest.approx(shares[:, at].std(ddof=1))
        assert found[group]["n"] == fake.n


def row(strategy: str, prompt: float, label: str = "") -> dict:
    score = {"mean": prompt, "std": None, "n": 9}
    entry = {"mean": prompt, "std": None, "standard_error": 0.1, "n": 9}
    scores = {"ifeval/prompt_strict": score}
    return {"strategy": strategy, "label": label or strategy, "scores": scores, "ifeval": {"keywords": entry}}


def test_the_chart_has_the_best_of_the_others() -> None:
    rows = [row("merge_ties", 0.3), row("replay", 0.6), row("original", 0.9), row("merge_dare_replay", 0.5)]
    rows += [row("none", 0.1), row("replay", 0.8, "Replay (ratio=2)"), {**row("mine", 0.99), "ifeval": {}}]
    references = [{"rows": ["none"]}, {"rows": ["replay", "Replay (ratio=2)"]}]
    shown = instructions.chosen({"rows": rows, "references": references})
    assert [one["label"] for one in shown] == ["original", "none", "replay", "merge_dare_replay"]
    assert instructions.chosen({"rows": [], "references": references}) == []


def test_chart_and_table_are_on_the_page(fake: FakeGrid) -> None:
    fake.add(["original", "none", "merge_ties", "merge_ties_replay", "replay"])
    page = page_of(fake)
    written = texts(fake.grid, "ifeval")
    rows = {"Original", "No mitigation", "Replay", "Merge (TIES) w/ R"}
    assert rows | {"keywords (20)", "punctuation (20)"} <= set(written)
    assert "Merge (TIES)" not in written  # not the best
    assert Image.open(fake.grid / "ifeval.png").size[0] > 1000
    told = json.loads((fake.grid / "table.json").read_text())
    none = told["rows"][1]
    punctuation = none["ifeval"]["punctuation"]
    shown = [line for line in page.rows if line[0] == "No mitigation" and len(line) == 4]
    assert 0 < punctuation["mean"] < 1
    assert f"{100 * punctuation['mean']:.1f} ± {100 * punctuation['standard_error']:.1f}" in [line[3] for line in shown]


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_group_on_which_all_prompts_agree_has_a_bound(
    seeds: tuple[int, ...], fake: FakeGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is scipy's, of Wilson's interval."""
    monkeypatch.setitem(SKILL, "none", (0.2, 0.0, 0.2, 0.2))
    monkeypatch.setitem(SKILL, "replay", (0.7, 1.0, 0.6, 0.4))
    fake.add(["none", "replay"], seeds=seeds)
    found = instructions.collect(collapse(fake.rows, fake.store), fake.store)
    low, high = (binomtest(k, fake.n).proportion_ci(method="wilson") for k in (0, fake.n))
    assert valued(found["No mitigation"]["keywords"]) == f"0.0 ≤ {100 * low.high:.1f}"
    assert valued(found["Replay"]["keywords"]) == f"100.0 ≥ {100 * high.low:.1f}"
    assert found["No mitigation"]["punctuation"]["seeds"][0]["interval"] is None  # not all of one kind


@pytest.mark.usefixtures("undrawn")
def test_prompts_that_are_chance_are_counted_only_where_there_are_some(fake: FakeGrid) -> None:
    fake.add(["none"])
    text = write(fake.rows, fake.plan(), fake.store, fake.grid)
    assert "official scorer" not in text
    shutil.rmtree(fake.root)
    other = FakeGrid(fake.root, chance=[1122, 1129]).add(["none", "replay"])
    text = " ".join(write(other.rows, other.plan(), other.store, other.grid).split())
    assert "IFEval: 2 of 20 prompts leave something open that the official scorer draws at random" in text
    told = json.loads((other.grid / "table.json").read_text())
    assert told["data"]["ifeval_chance"] == [1122, 1129]


def test_names() -> None:
    assert instructions.name("change_case") == "change case" and instructions.name("startend") == "start and end"
