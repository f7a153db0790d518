import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from src.report import curves, drawing, figure
from src.report.lines import collapse
from src.report.report import write
from tests.report.fakegrid import FakeGrid


def collected(fake: FakeGrid) -> list[dict]:
    return curves.collect(collapse(fake.rows, fake.store), fake.store)


def test_two_chains_from_the_original_through_three_stages(fake: FakeGrid) -> None:
    fake.add()
    found = collected(fake)
    assert [curve["label"] for curve in found] == ["No mitigation", "Replay"]
    for curve in found:
        assert [point["stage"] for point in curve["points"]] == ["original", "asr", "tts", "sqa"]
    first = [curve["points"][0]["scores"] for curve in found]
    assert first[0] == first[1]
    scores = json.loads((fake.store.folder(fake.rows[0].evaluate) / "scores.json").read_text())["scores"]
    assert first[0]["ifeval/prompt_strict"]["mean"] == scores["ifeval/prompt_strict"]["value"]


def test_a_grid_without_the_original_or_with_a_lost_stage(fake: FakeGrid) -> None:
    fake.add(["replay"])
    (curve,) = collected(fake)
    assert [point["stage"] for point in curve["points"]] == ["asr", "tts", "sqa"]
    (fake.store.folder(fake.rows[0].curve["tts"]) / "scores.json").unlink()
    (curve,) = collected(fake)
    assert [point["stage"] for point in curve["points"]] == ["asr", "sqa"]


def test_other_ratios_are_other_chains(fake: FakeGrid) -> None:
    fake.add(["original"])
    for ratio in (0.1, 0.2):
        fake.add(["none", "replay"], replay_ratio=ratio)
    assert [curve["label"] for curve in collected(fake)] == [
        "No mitigation", "Replay (replay.ratio=0.1)", "Replay (replay.ratio=0.2)",
    ]  # fmt: skip


def test_the_mean_over_sets_against_numpy(fake: FakeGrid) -> None:
    fake.add(["none"], seeds=(0, 1, 2))
    (curve,) = collected(fake)
    keys = [f"qa/{name}/t2t" for name in ("countries", "animals", "people")]
    scores = curve["points"][0]["scores"]
    table = 100 * np.array([[one["value"] for one in scores[key]["seeds"]] for key in keys])  # [set, seed]
    mean, spread = figure.average(scores, keys) or (math.nan, math.nan)
    assert mean == pytest.approx(table.mean())
    assert spread == pytest.approx(table.mean(axis=0).std(ddof=1))


def test_one_seed_shows_the_standard_error_of_the_mean() -> None:
    def score(value: float, error: float) -> dict:
        return {"std": None, "seeds": [{"seed": 0, "value": value, "standard_error": error, "n": 9}]}

    mean, spread = figure.average({"a": score(0.2, 0.03), "b": score(0.6, 0.04)}, ["a", "b"]) or (0, 0)
    assert (mean, spread) == (pytest.approx(40), pytest.approx(2.5))
    assert figure.average({"a": score(0.2, 0.03)}, ["a", "b"]) is None


def test_it_is_drawn_once_and_the_same(fake: FakeGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.add(["original", "none", "replay"])
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    table = json.loads((fake.grid / "table.json").read_text())
    drawn = [(fake.grid / name).read_bytes() for name in ("figure3.svg", "figure3.png")]
    assert drawn[1].startswith(b"\x89PNG")
    ElementTree.fromstring(drawn[0])
    assert b"202" not in drawn[0][:1200]  # no date
    (fake.grid / "figure3.png").unlink()
    figure.draw(table, fake.grid)
    assert [(fake.grid / name).read_bytes() for name in ("figure3.svg", "figure3.png")] == drawn
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", None)  # would raise
    assert figure.draw(table, fake.grid)
    table["curves"][0]["points"].pop()
    with pytest.raises(TypeError):
        figure.draw(table, fake.grid)


def test_inline_takes_the_colors_of_the_page(fake: FakeGrid) -> None:
    fake.add(["original", "none"])
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    for name in ("figure3", "tradeoff", "ifeval"):
        svg = drawing.inline(fake.grid / f"{name}.svg", "all")
        assert svg.startswith("<svg") and "currentColor" in svg and "<metadata" not in svg and '<g id="all">' in svg
        assert drawing.INK not in svg and drawing.RULE not in svg and drawing.PAPER not in svg
        ElementTree.fromstring(svg)
