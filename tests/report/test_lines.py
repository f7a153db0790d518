from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from src.report.lines import collapse, flatten, pool
from tests.report.fakegrid import LABELS, FakeGrid


def test_rows_stand_in_the_order_of_the_paper_and_unknown_ones_after_them(fake: FakeGrid) -> None:
    fake.add(["scale_15_replay", "replay", "merge_dare", "none", "original"])
    lines = collapse(fake.rows, fake.store)
    assert [line.label for line in lines] == [
        "Original", "No mitigation", "Merge (DARE)", "Replay", "Scaling (alpha 15) w/ R",
    ]  # fmt: skip
    assert {line.state for line in lines} == {"complete"}


def test_seeds_become_one_line_with_the_mean_and_sample_deviation(fake: FakeGrid) -> None:
    fake.add(["none", "merge_linear"], seeds=(2, 0, 1))
    none, merged = collapse(fake.rows, fake.store)
    assert none.seeds == merged.seeds == [0, 1, 2]  # data.seed is 0 in all, model.seed and merge.seed follow the seed
    for score in none.scores.values():
        values = [one["value"] for one in score.seeds]
        assert score.mean == pytest.approx(np.mean(values), abs=1e-12)
        assert score.deviation == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert score.error is None and score.spread == score.deviation
        if score.deviation:
            assert score.interval == pytest.approx(stats.t.interval(0.95, 2, np.mean(values), stats.sem(values)))


def test_one_seed_keeps_its_standard_error() -> None:
    score = pool([(7, {"value": 0.8, "n": 100, "standard_error": 0.04, "interval": [0.7, 0.9]})])
    assert (score.mean, score.deviation, score.error, score.n, score.spread) == (0.8, None, 0.04, 100, 0.04)
    assert score.interval == (0.7, 0.9)
    assert pool([(0, {"value": 1.3, "n": 5})]).spread is None and pool([(0, {"value": 1.3, "n": 5})]).interval is None


def test_a_model_that_is_the_same_in_every_seed_was_measured_once(fake: FakeGrid) -> None:
    """A base model that does not depend on the seed: its score is not exact because it is equal three times."""
    fake.add(["original"])
    fake.rows += [replace(fake.rows[0], seed=seed) for seed in (1, 2)]
    (line,) = collapse(fake.rows, fake.store)
    score = line.scores["qa/people/t2t"]
    assert line.seeds == [0, 1, 2] and [one["seed"] for one in score.seeds] == [0, 1, 2]
    assert score.deviation is None and score.error is not None and score.interval


def test_whether_a_line_replays(fake: FakeGrid) -> None:
    fake.add(["original", "none", "merge_ties", "replay", "merge_ties_replay", "scale_14_replay"])
    lines = {line.name: line.replays for line in collapse(fake.rows, fake.store)}
    assert lines == {name: name.endswith("replay") for name in lines}


def test_further_settings_make_lines_of_their_own_where_they_matter(fake: FakeGrid) -> None:
    for ratio in (0.5, 0.1, 10):
        fake.add(["none", "replay"], seeds=(0, 1), replay_ratio=ratio)
    lines = collapse(fake.rows, fake.store)
    assert [line.label for line in lines] == [
        "No mitigation",  # the ratio does not reach it: its evaluations are the same
        "Replay (replay.ratio=0.1)",
        "Replay (replay.ratio=0.5)",
        "Replay (replay.ratio=10)",
    ]
    assert all(line.seeds == [0, 1] for line in lines)
    assert [line.settings for line in lines][1] == {"replay.ratio": 0.1}


def test_a_row_without_an_evaluation_stays(fake: FakeGrid) -> None:
    fake.add(["none"]).add(["replay", "merge_ties"], publish=False)
    broken = fake.rows[1].evaluate.inputs["responses"].name
    none, ties, replay = collapse(fake.rows, fake.store, frozenset([fake.rows[1].evaluate.name]))
    assert (none.state, replay.state, ties.state) == ("complete", "failed", "not run")
    assert replay.scores == {}
    _, _, replay = collapse(fake.rows, fake.store, frozenset([broken]))
    assert replay.state == "failed"  # by what it rests on


def test_some_seeds_missing(fake: FakeGrid) -> None:
    fake.add(["none"], seeds=(0, 1)).add(["none"], seeds=(2,), publish=False)
    (none,) = collapse(fake.rows, fake.store)
    assert none.state == "partial" and none.seeds == [0, 1, 2]
    assert [one["seed"] for one in none.scores["qa/people/t2t"].seeds] == [0, 1]


def test_a_damaged_evaluation_is_missing(fake: FakeGrid) -> None:
    fake.add(["none"])
    (fake.store.folder(fake.rows[0].evaluate) / "scores.json").write_text("{}")
    (none,) = collapse(fake.rows, fake.store)
    assert none.state == "not run"


def test_many_settings_are_counted_in_the_label(tmp_path: Path) -> None:
    fake = FakeGrid(tmp_path)
    fake.add(["replay"], replay_ratio=0.1).add(["replay"], replay_ratio=0.2)
    for i, row in enumerate(fake.rows):
        row.config["profile"] = f"size{i}"
        row.config["train"] = {"lr": i, "epochs": i, "batch": i}
    first, second = collapse(fake.rows, fake.store)
    assert first.label == "Replay (profile=size0, replay.ratio=0.1, train.batch=0, 2 more)"
    assert len(second.settings) == 5


def test_flatten() -> None:
    assert flatten({"a": {"b": {"c": 1}}, "d": [1], "e": {}}) == {"a.b.c": 1, "d": [1], "e": {}}


def test_labels_cover_the_table() -> None:
    from src.report.lines import ORDER

    assert tuple(LABELS) == ORDER
