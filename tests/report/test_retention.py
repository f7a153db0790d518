"""What the report says was forgotten, against numpy on the scores of the fake grid."""

import json

import numpy as np
import pytest

from src.report import forgetting, retention
from src.report.document import document
from src.report.lines import collapse
from src.report.report import write
from tests.report.fakegrid import SETS, FakeGrid
from tests.report.test_page import page_of

pytestmark = pytest.mark.usefixtures("undrawn")
TEXT = [f"qa/{name}/t2t" for name in SETS]


def collected(fake: FakeGrid) -> dict:
    return retention.collect(collapse(fake.rows, fake.store), fake.store)


def scores(fake: FakeGrid, step) -> tuple[float, float, float]:
    """(T2T mean, its standard error, IFEval prompt) straight from the file."""
    own = json.loads((fake.store.folder(step) / "scores.json").read_text())["scores"]
    error = np.sqrt(sum(own[key]["standard_error"] ** 2 for key in TEXT)) / 3
    return float(np.mean([own[key]["value"] for key in TEXT])), float(error), own["ifeval/prompt_strict"]["value"]


def test_stage_by_stage_from_the_original(fake: FakeGrid) -> None:
    fake.add(["original", "none"])
    found = collected(fake)
    assert found["Original"] == []
    assert [stage for stage, _ in found["No mitigation"]] == ["asr", "tts", "sqa"]
    original, none = fake.rows
    told = [scores(fake, original.evaluate), *(scores(fake, step) for step in none.curve.values())]
    for k, (_, measures) in enumerate(found["No mitigation"], start=1):
        for ability, at in (("t2t", 0), ("ifeval", 2)):
            values = [one[at] for one in told[: k + 1]]
            own = {name: entry["mean"] for name, entry in measures[ability].items()}
            assert own["forgetting"] == pytest.approx(max(values[:-1]) - values[-1])
            assert own["backward_transfer"] == pytest.approx(values[-1] - values[0])
            assert own["retention"] == pytest.approx(values[-1] / values[0])
            assert own["rate"] == pytest.approx(100 * (values[-1] / values[0] - 1))
        error = measures["t2t"]["backward_transfer"]["standard_error"]
        assert error == pytest.approx(np.hypot(told[0][1], told[k][1]))


def test_a_merge_is_compared_with_the_original_alone(fake: FakeGrid) -> None:
    fake.add(["original", "merge_ties", "scale_14_replay"])
    found = collected(fake)
    base = scores(fake, fake.rows[0].evaluate)[0]
    for row in fake.rows[1:]:
        ((stage, measures),) = found[row.label]
        now = scores(fake, row.evaluate)[0]
        assert stage == "" and measures["t2t"]["forgetting"]["mean"] == pytest.approx(base - now)
        assert measures["t2t"]["backward_transfer"]["mean"] == pytest.approx(now - base)


def test_over_seeds_each_is_measured_and_then_averaged(fake: FakeGrid) -> None:
    fake.add(["original", "merge_ties"], seeds=(0, 1, 2))
    ((_, measures),) = collected(fake)["Merge (TIES)"]
    by_seed = [
        scores(fake, row.evaluate)[0] / scores(fake, base.evaluate)[0]
        for base, row in zip(fake.rows[::2], fake.rows[1::2], strict=True)
    ]
    kept = measures["t2t"]["retention"]
    assert [one["value"] for one in kept["seeds"]] == pytest.approx(by_seed)
    assert (kept["mean"], kept["std"]) == (pytest.approx(np.mean(by_seed)), pytest.approx(np.std(by_seed, ddof=1)))
    assert kept["standard_error"] is None and kept["interval"][0] < kept["mean"] < kept["interval"][1]


def test_without_the_original_nothing_can_be_said(fake: FakeGrid) -> None:
    fake.add(["none", "replay"])
    assert collected(fake) == {"No mitigation": [], "Replay": []}
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    assert "## Forgetting" not in (fake.grid / "table.md").read_text()


def test_a_lost_stage_is_missing_and_the_others_are_not(fake: FakeGrid) -> None:
    fake.add(["original", "none"])
    (fake.store.folder(fake.rows[1].curve["tts"]) / "scores.json").unlink()
    found = dict(collected(fake)["No mitigation"])
    assert found["tts"] == {} and found["asr"]["t2t"]["forgetting"]["mean"] > 0
    assert "forgetting" not in found["sqa"]["t2t"]  # the best before is not known
    assert found["sqa"]["t2t"]["retention"]["mean"] < 1
    told = document(collapse(fake.rows, fake.store), forgotten=collected(fake))
    shown = forgetting.lines(told)
    assert [line["stage"] for line in shown] == ["ASR", "SQA"] and shown[1]["cells"][0] == "-"


def test_markdown_and_page_show_the_same(fake: FakeGrid) -> None:
    fake.add(["original", "none", "merge_ties", "replay"])
    page = page_of(fake)
    told = json.loads((fake.grid / "table.json").read_text())
    lines = forgetting.lines(told)
    assert [(line["label"], line["stage"]) for line in lines] == [
        ("No mitigation", "ASR"), ("No mitigation", "TTS"), ("No mitigation", "SQA"), ("Merge (TIES)", ""),
        ("Replay", "ASR"), ("Replay", "TTS"), ("Replay", "SQA"),
    ]  # fmt: skip
    markdown = (fake.grid / "table.md").read_text()
    assert "T2T, mean of 3 sets forgetting ↓ |" in markdown and "IFEval prompt retention ↑ |" in markdown
    for line in lines:
        assert len(line["cells"]) == 8
        assert f"| {line['label']} | {line['stage']} | {' | '.join(line['cells'])} |" in markdown
        assert [line["label"], line["stage"], *line["cells"]] in page.rows
    entry = told["rows"][1]["forgetting"][-1]["t2t"]
    assert lines[2]["cells"][0] == (
        f"{100 * entry['forgetting']['mean']:.1f} ± {100 * entry['forgetting']['standard_error']:.1f}"
    )
    assert lines[2]["cells"][3].startswith(f"{entry['rate']['mean']:.1f} ± ")  # in percent as it is
