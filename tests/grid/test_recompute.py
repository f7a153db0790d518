"""`recompute=KIND`: what is computed anew, and where the old artifacts go."""

from pathlib import Path

import pytest

from src.grid.errors import PlanError
from src.grid.execute import execute
from src.grid.plan import make_plan
from src.grid.step import Step, closure
from src.grid.store import Store
from tests.grid.toys import posing, toy, toy_row


def chain() -> dict[str, Step]:
    """corpus <- base <- asr <- sqa <- score; other <- corpus alone."""
    corpus = toy("corpus")
    base = posing("base", "base", {"corpus": corpus})
    asr = posing("train", "asr", {"base": base})
    sqa = posing("train", "sqa", {"previous": asr})
    score = posing("score", "score", {"model": sqa})
    other = posing("score", "other", {"corpus": corpus})
    return {step.label: step for step in (corpus, base, asr, sqa, score, other)}


@pytest.fixture
def steps() -> dict[str, Step]:
    return chain()


@pytest.fixture
def store(tmp_path: Path, steps: dict[str, Step]) -> Store:
    made = Store(tmp_path / "store")
    for step in closure(steps.values()):
        execute(step, made)
    return made


def test_a_kind_and_all_that_rests_on_it_count_as_missing(steps: dict[str, Step], store: Store) -> None:
    rows = [toy_row(label, steps[label]) for label in ("score", "other")]
    plan = make_plan(rows, store, ["train"])
    assert [entry.step.label for entry in plan.missing()] == ["asr", "sqa", "score"]
    assert [step.label for step in plan.resting_on(["train"])] == ["asr", "sqa", "score"]
    assert {step.label for step in plan.resting_on(["base", "score"])} == {"base", "asr", "sqa", "score", "other"}
    assert plan.resting_on([]) == [] and not make_plan(rows, store).missing()


def test_a_kind_that_no_row_needs_is_one_line(steps: dict[str, Step], store: Store) -> None:
    with pytest.raises(PlanError) as caught:
        make_plan([toy_row("score", steps["score"])], store, ["merge"])
    assert str(caught.value) == "recompute=merge: no row needs such a step; the kinds are base, score, toy, train"


def test_what_is_moved_aside_is_kept_once_and_computed_anew(steps: dict[str, Step], store: Store) -> None:
    step = steps["sqa"]
    for word in ("first", "second"):
        (store.folder(step) / "mark").write_text(word)
        store.move_aside(step)
        assert store.lookup(step) is None
        assert (store.root / ".replaced" / step.name / "mark").read_text() == word
        execute(step, store)
        assert store.lookup(step) == store.folder(step) and not (store.folder(step) / "mark").exists()
    store.move_aside(toy("never computed"))
    assert [folder.name for folder in (store.root / ".replaced").iterdir()] == [step.name]


def test_what_rests_on_an_artifact_that_was_replaced_by_another_is_not_used(tmp_path: Path) -> None:
    """The input was made anew and differs: the old artifact of what reads it does not count."""
    store, number = Store(tmp_path), tmp_path / "number"
    source = toy("source", 1, counter=str(number))
    top = toy("top", 2, {"source": source})
    for step in (source, top):
        execute(step, store)
    rows = [toy_row("top", top)]
    store.move_aside(source)
    execute(source, store)
    assert not make_plan(rows, store).missing(), "made anew, the same bytes"

    store.move_aside(source)
    out = tmp_path / "out"
    out.mkdir()
    (out / "number.txt").write_text("7\n")
    store.publish(source, out, {}, 1.0)
    assert [entry.step.label for entry in make_plan(rows, store).missing()] == ["top"]
    assert "it was made from another source-" in store.damaged[top.name]
