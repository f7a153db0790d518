"""What is said at the beginning of a page: findings that tests support, what was run, where a score misleads."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from src.report import about, headline
from src.report.page import render
from src.report.remarks import remarks
from src.report.report import write
from tests.report.fakegrid import FakeGrid
from tests.report.test_page import Page, page_of

pytestmark = pytest.mark.usefixtures("undrawn")


def row(**marks: str) -> dict:
    def test(mark: str) -> dict:
        return {"unit": "examples", "mark": "", "each": {"mark": mark}}

    return {"tests": {key: {"none": test(mark)} for key, mark in marks.items()}}


@pytest.mark.parametrize(
    ("marks", "found"),
    [
        ({"a": "higher", "b": "higher"}, "models"),
        ({"a": "higher", "b": ""}, ""),
        ({"a": "higher", "b": "lower"}, ""),
        ({"a": "higher"}, ""),  # no test of b
    ],
)
def test_an_ability_is_named_where_all_its_tests_agree(marks: dict[str, str], found: str) -> None:
    assert headline.supported(row(**marks), "none", ["a", "b"]) == found
    assert headline.supported(row(**marks), "other", ["a", "b"]) == ""


def test_the_findings_of_a_grid_and_none_of_a_smoke_test(fake: FakeGrid) -> None:
    page = page_of(fake.add(["original", "none", "replay"], seeds=(0, 1, 2)))
    assert "No mitigation, after ASR, TTS and SQA: written questions" in page.text
    assert "Replay, after ASR, TTS and SQA: written questions" in page.text
    for one in fake.rows:
        one.config["profile"] = "smoke"
    page = page_of(fake)
    assert "after ASR, TTS and SQA:" not in page.text and "A smoke test." in page.text


def test_rows_that_do_not_differ_have_no_finding(fake: FakeGrid) -> None:
    page = page_of(fake.add(["none", "merge_ties"]))
    assert "after ASR, TTS and SQA:" not in page.text


def test_the_page_says_what_was_run(fake: FakeGrid) -> None:
    fake.add(["none", "replay"], seeds=(0, 1))
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    launched = {"command": "python -m src.run -m strategy=none,replay", "date": "2026-01-02T03:04:05+00:00"}
    plan = replace(fake.plan(), about=launched | {"commit": "0123456789abcdef-dirty"})
    from src.report.lines import collapse

    lines, told = collapse(fake.rows, fake.store), json.loads((fake.grid / "table.json").read_text())
    drawings = dict.fromkeys(("figure3", "tradeoff", "ifeval"))
    page = Page(render("fake", told, lines, plan, fake.store, drawings, {}))
    begin = page.text[: page.text.index("Strategy")]
    for words in ("Profile fake", "Seeds 0, 1", "Launched 2026-01-02 03:04", "Commit 0123456789-dirty", "of computing"):
        assert words in begin, words
    assert launched["command"] in begin


def test_parameters_are_counted_in_the_headers(tmp_path) -> None:
    save_file({"a": np.zeros((3, 4)), "b": np.zeros(5)}, tmp_path / "model-1.safetensors")
    save_file({"c": np.zeros(())}, tmp_path / "model-2.safetensors")
    assert about.parameters(tmp_path) == 18 and about.parameters(tmp_path / "none") == 0
    assert [about._rounded(n) for n in (928_000, 1_236_000_000, 17)] == ["928 thousand", "1.24 billion", "17"]


def test_a_rule_that_silence_keeps_is_remarked() -> None:
    def scored(label: str, strategy: str, prompt: float, **groups: float) -> dict:
        ifeval = {group: {"mean": mean} for group, mean in groups.items()}
        scores = {"ifeval/prompt_strict": {"mean": prompt}}
        return {"label": label, "strategy": strategy, "scores": scores, "ifeval": ifeval}

    original = scored("Original", "original", 0.8, punctuation=0.9, keywords=0.9, combination=0.0)
    none = scored("No mitigation", "none", 0.1, punctuation=1.0, keywords=0.2, combination=0.0)
    replay = scored("Replay", "replay", 0.7, punctuation=1.0, keywords=0.95)
    (remark,) = remarks({"rows": [original, none, replay]})
    assert remark.startswith("punctuation: No mitigation scores as high as the Original") and "Replay" not in remark
    assert remarks({"rows": [none, replay]}) == []
