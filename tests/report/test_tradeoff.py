import html
import json
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from src.report import drawing, looks, tradeoff
from src.report.report import write
from tests.report.fakegrid import LABELS, SETS, FakeGrid


def reported(fake: FakeGrid) -> dict:
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    return json.loads((fake.grid / "table.json").read_text())


def texts(folder: Path, name: str = "tradeoff") -> list[str]:
    """What is written in a drawing: matplotlib names each text in a comment before its outlines."""
    svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
    ElementTree.fromstring(svg)
    return [html.unescape(part.split("-->")[0].strip()) for part in svg.split("<!--")[1:]]


def test_every_row_but_the_original_is_named_in_every_panel(fake: FakeGrid) -> None:
    reported(fake.add())
    written = texts(fake.grid)
    for name, label in LABELS.items():
        short = label.removesuffix(" w/ R")
        twice = 2 if f"{name}_replay" in LABELS or name.endswith("_replay") else 1  # with and without replay
        assert written.count(short) == (1 if name == "original" else 4 * twice), label  # the Original in the legend
    assert sum("better" in text for text in written) == 4
    assert {"with replay", "without replay"} <= set(written)
    assert Image.open(fake.grid / "tradeoff.png").size[0] > 1000


@pytest.mark.usefixtures("undrawn")
def test_points_are_the_means_of_the_table(fake: FakeGrid) -> None:
    told = reported(fake.add(["original", "none", "replay"], seeds=(0, 1, 2)))
    rows = {row["strategy"]: row for row in tradeoff.collect(told)}
    assert [rows[name]["row"] for name in rows] == [1, 2, 3]
    assert list(rows["original"]["abilities"]) == ["t2t", "ifeval"]
    assert [rows[name]["replay"] for name in rows] == [False, False, True]
    replay = next(row for row in told["rows"] if row["strategy"] == "replay")
    values = np.array(
        [[one["value"] for one in replay["scores"][f"qa/{name}/s2t"]["seeds"]] for name in SETS]
    )  # [set, seed]
    means = values.mean(axis=0)
    entry = rows["replay"]["abilities"]["s2t"]
    assert entry["mean"] == pytest.approx(means.mean())
    assert entry["interval"] == pytest.approx(stats.t.interval(0.95, 2, means.mean(), stats.sem(means)))


@pytest.mark.usefixtures("undrawn")
def test_one_seed_has_intervals_over_the_examples(fake: FakeGrid) -> None:
    told = reported(fake.add(["none"]))
    (row,) = tradeoff.collect(told)
    entry, score = row["abilities"]["ifeval"], told["rows"][0]["scores"]["ifeval/prompt_strict"]
    assert entry["interval"] == pytest.approx(score["interval"])
    assert row["abilities"]["t2t"]["interval"][0] < row["abilities"]["t2t"]["mean"]


def drawn(rows: list[dict]) -> Figure:
    figure = Figure(dpi=100)
    FigureCanvasAgg(figure)
    tradeoff.fill(figure, rows)
    return figure


def crowd(count: int, seed: int) -> list[dict]:
    """Rows as a grid has them: half of them close together below, half above, some at the very same spot."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(1, count):
        replay = number > count // 2
        middle = np.array([0.5, 0.65, 0.78] if replay else [0.17, 0.13, 0.03])
        values = np.clip(np.round(middle + random.normal(0, 0.03, 3), 2), 0, 1)
        about = {"strategy": f"s{number}", "replay": replay, "merge": f"m{number % 6}", "alpha": 16, "method": "none"}
        label = f"Merge (Method {number % 6}) {number // 6}"
        named: dict[str, float] = dict(zip(("s2t", "t2t", "ifeval"), values, strict=True))
        rows.append({**about, "settings": {}, "label": label, "values": named})
    look = looks.looks(rows)

    def entry(value: float) -> dict:
        return {"mean": float(value), "interval": [float(value) - 0.05, float(value) + 0.05], "std": None, "seeds": [0]}

    return [
        {
            "row": number, "label": row["label"], "strategy": row["strategy"], "replay": row["replay"],
            "look": asdict(look[row["label"]]), "reference": number in (2, 9),
            "abilities": {name: entry(value) for name, value in row["values"].items()},
        }
        for number, row in enumerate(rows, start=2)
    ]  # fmt: skip


@pytest.mark.parametrize(("count", "numbers"), [(13, False), (26, True)])
def test_no_name_covers_another_or_a_point(count: int, numbers: bool) -> None:
    rows = crowd(count, 1)
    figure = drawn(rows)
    figure.canvas.draw()
    written = {text.get_text() for axis in figure.axes for text in axis.texts if text.get_text()}
    assert written == {str(row["row"]) if numbers else tradeoff.short(row) for row in rows}
    key = {text.get_text().split("  ")[0] for text in figure.texts}
    assert key == ({str(row["row"]) for row in rows} if numbers else set())
    for axis in figure.axes:
        boxes = [text.get_window_extent() for text in axis.texts if text.get_text()]
        assert len(boxes) == count - 1
        for one, two in combinations(boxes, 2):
            assert not one.overlaps(two) or min(one.x1, two.x1) - max(one.x0, two.x0) < 0.1
        points = [axis.transData.transform(line.get_xydata()) for line in axis.lines if line.get_marker() != "None"]
        for point in np.concatenate(points):
            assert not any(box.contains(*point) for box in boxes)


@pytest.mark.parametrize("length", [10, 28, 29, 38, 62, 90])
def test_the_key_is_no_wider_than_a_panel(length: int) -> None:
    """A phone shows no more of it; names stand beside and below each other, all of them bold."""
    rows = [{**row, "label": "Merge (Linear) (replay.ratio=0.4)".ljust(length, "n")[:length]} for row in crowd(26, 1)]
    figure = Figure(figsize=(2 * drawing.PANEL[0], 8), dpi=100)
    FigureCanvasAgg(figure)
    tradeoff._key(figure, [{**row, "reference": True} for row in rows], 0.9)
    boxes = [text.get_window_extent() for text in figure.texts]
    assert len(boxes) == 25 and max(box.x1 for box in boxes) <= 100 * drawing.PANEL[0]
    assert not any(one.overlaps(two) for one, two in combinations(boxes, 2))


def test_bars_end_at_nothing_and_at_everything() -> None:
    row = {"abilities": {"t2t": {"mean": 0.97, "interval": [0.8, 1.14]}, "s2t": {"mean": 0.1, "interval": [-0.2, 0.4]}}}
    assert tradeoff._percent(row, "t2t") == pytest.approx((97, 80, 100))
    assert tradeoff._percent(row, "s2t") == pytest.approx((10, 0, 40))
    assert tradeoff._percent({"abilities": {"t2t": {"mean": 0.5, "interval": None}}}, "t2t") == (50, 50, 50)


def test_no_row_that_speaks_no_drawing(fake: FakeGrid) -> None:
    reported(fake.add(["original"]))
    assert not (fake.grid / "tradeoff.svg").exists()
    assert 'id="tradeoff"' not in (fake.grid / "index.html").read_text()


def test_it_is_drawn_anew_only_for_other_numbers(fake: FakeGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    told = reported(fake.add(["original", "none", "replay"]))
    first = [(fake.grid / name).read_bytes() for name in ("tradeoff.svg", "tradeoff.png")]
    (fake.grid / "tradeoff.svg").unlink()
    tradeoff.draw(told, fake.grid)
    assert [(fake.grid / name).read_bytes() for name in ("tradeoff.svg", "tradeoff.png")] == first
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", None)  # would raise
    assert tradeoff.draw(told, fake.grid) == fake.grid / "tradeoff.svg"
    told["rows"][1]["scores"]["ifeval/prompt_strict"]["seeds"][0]["value"] = 0.5
    with pytest.raises(TypeError):
        tradeoff.draw(told, fake.grid)


def test_a_label_is_written_as_it_is(fake: FakeGrid) -> None:
    told = reported(fake.add(["none"]))
    told["rows"][0]["label"] = "50 $ & <b> $x$"
    tradeoff.draw(told, fake.grid)
    assert "50 $ & <b> $x$" in texts(fake.grid)


@pytest.mark.parametrize("matrix", ["protanopia", "deuteranopia", "tritanopia"])
def test_the_families_are_told_apart_without_one_kind_of_cone(matrix: str) -> None:
    """Simulated as in Machado, Oliveira & Fernandes (2009), severity 1; 20 is a clear difference in CIELAB."""
    seen = {
        "protanopia": [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
        "deuteranopia": [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881],
        "tritanopia": [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.3039],
    }[matrix]

    def lab(color: str) -> np.ndarray:
        rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        linear = np.clip(np.reshape(seen, (3, 3)) @ linear, 0, 1)
        to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
        x, y, z = np.cbrt(np.array(to_xyz) @ linear / [0.9505, 1.0, 1.089])
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    assert np.linalg.norm(lab(looks.WITH) - lab(looks.WITHOUT)) > 20
