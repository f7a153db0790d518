"""Chains of any stages: titles, curves, figure 3 and the measures of forgetting."""

import json

import numpy as np
import pytest

from src.report import curves, figure, retention, stages
from src.report.document import document
from src.report.lines import collapse
from src.report.looks import MARKERS
from src.report.report import write
from src.stages import ORIGINAL
from tests.report.fakegrid import FakeGrid
from tests.report.test_page import page_of
from tests.report.test_tradeoff import texts


def test_titles() -> None:
    told = {"asr": "ASR", "joint": "Joint", "text": "Text", "asr_2": "ASR (2)", "joint_12": "Joint (12)", "": ""}
    assert {name: stages.title(name) for name in told} == told
    assert stages.title("own_stage") == "Own stage" and stages.title(ORIGINAL) == "Original"


@pytest.mark.parametrize(
    "chain",
    [("asr", "sqa"), ("tts", "asr", "sqa"), ("joint",), ("asr", "tts", "sqa", "text"), ("asr", "tts", "asr_2")],
)
@pytest.mark.usefixtures("undrawn")
def test_a_chain_of_any_stages_is_told_as_it_is(fake: FakeGrid, chain: tuple[str, ...]) -> None:
    fake.chain = chain
    fake.add(["original", "none", "replay"])
    lines = collapse(fake.rows, fake.store)
    for curve in curves.collect(lines, fake.store):
        assert curve["chain"] == list(chain)
        assert [point["stage"] for point in curve["points"]] == ["original", *chain]
    assert [stage for stage, _ in retention.collect(lines, fake.store)["Replay"]] == list(chain)
    page = page_of(fake)
    titles = [stages.title(stage) for stage in chain]
    told = json.loads((fake.grid / "table.json").read_text())
    assert figure.chains(told)[0][0] == ["original", *chain]
    told_rows = [row for row in page.rows if row[0] == "No mitigation" and len(row) == 10]
    assert [row[1] for row in told_rows] == titles  # after each, 8 measures
    assert f"No mitigation, after {stages.listed(titles)}: written questions" in page.text


def test_rows_of_two_chains_have_axes_and_labels_of_their_own(fake: FakeGrid) -> None:
    fake.add(["original", "none"])
    fake.chain = ("asr", "sqa")
    fake.add(["none"])
    labels = [f"No mitigation (train.chain=[{chain}])" for chain in ("asr,sqa", "asr,tts,sqa")]
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    told = json.loads((fake.grid / "table.json").read_text())
    assert [row["label"] for row in told["rows"]] == ["Original", *labels]
    assert [(reached, [curve["label"] for curve in own]) for reached, own in figure.chains(told)] == [
        (["original", "asr", "sqa"], labels[:1]), (["original", "asr", "tts", "sqa"], labels[1:]),
    ]  # fmt: skip
    written = texts(fake.grid, "figure3")
    assert [written.count(text) for text in ("Original", "ASR", "TTS", "SQA")] == [4, 4, 2, 4]  # two panels a chain
    assert [written.count(label) for label in labels] == [1, 1]  # in one legend


def test_one_line_is_never_drawn_through_two_chains(fake: FakeGrid) -> None:
    from matplotlib.figure import Figure

    fake.add(["original", "none"])
    fake.chain = ("sqa",)
    fake.add(["none"])
    told = document(collapse(fake.rows, fake.store), curves=curves.collect(collapse(fake.rows, fake.store), fake.store))
    drawn = Figure()
    figure._fill(drawn, told)
    ends = [[np.size(line.get_xdata()) for line in axis.lines if line.get_marker() in MARKERS] for axis in drawn.axes]
    assert [max(own) for own in ends] == [4, 4, 2, 2]
    assert [[tick.get_text() for tick in axis.get_xticklabels()] for axis in drawn.axes[::2]] == [
        ["Original", "ASR", "TTS", "SQA"], ["Original", "SQA"],
    ]  # fmt: skip
