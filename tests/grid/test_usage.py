"""What an outputs folder holds, and what no grid uses. Two toy grids that share a step, and what is left of others."""

import json
import os
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from src.grid import lease, usage
from src.grid.errors import ConfigError
from src.grid.execute import execute, failure_file, record_failure
from src.grid.plan import Plan, launched, make_plan
from src.grid.step import Step, closure
from src.grid.store import Store
from src.grid.usage import GridUse, Usage, remove, remove_grid, survey, unknown_use
from tests.grid.toys import toy, toy_row

HOURS = 2 * 3600.0


def later() -> float:
    """A time at which nothing of now is recent."""
    return time.time() + HOURS


def freeze(outputs: Path, name: str, *ends: Step) -> Path:
    """A grid with a row for each of the steps, none of which is computed."""
    folder = outputs / "grids" / name
    folder.mkdir(parents=True, exist_ok=True)
    (outputs / "store").mkdir(exist_ok=True)
    plan = make_plan([toy_row(end.label, end) for end in ends], Store(outputs / "store"))
    replace(plan, about={"command": f"python -m src.run name={name}", "date": "2026-01-02T03:04:05+00:00"}).save(
        folder / "plan.json"
    )
    return folder


def compute(outputs: Path, *ends: Step) -> None:
    for step in closure(ends):
        execute(step, Store(outputs / "store"))


def computed(outputs: Path, name: str, *ends: Step) -> Path:
    folder = freeze(outputs, name, *ends)
    compute(outputs, *ends)
    return folder


def names(pieces: list) -> set[str]:
    return {f"{piece.path.parent.name}/{piece.step}" for piece in pieces}


def grid(seen: Usage, name: str) -> GridUse:
    return next(each for each in seen.grids if each.name == name)


SHARED = toy("shared")
ONE, TWO = toy("one", 2, {"a": SHARED}), toy("two", 3, {"a": SHARED})


# Plans


def test_a_plan_keeps_how_it_was_launched_and_an_old_plan_loads_without(tmp_path: Path) -> None:
    plan = replace(make_plan([toy_row("one", ONE)], Store(tmp_path)), about=launched())
    plan.timed({}).save(tmp_path / "plan.json")
    about = Plan.load(tmp_path / "plan.json").about
    assert about == plan.about and about.keys() == {"command", "date", "commit"}
    assert str(about["command"]).startswith("python ") and datetime.fromisoformat(str(about["date"])).tzinfo
    data = json.loads((tmp_path / "plan.json").read_text())
    del data["about"]
    (tmp_path / "plan.json").write_text(json.dumps(data))
    assert Plan.load(tmp_path / "plan.json").about == {}


# Used and unused


def test_what_a_grid_names_is_used_and_what_none_names_is_not(tmp_path: Path) -> None:
    computed(tmp_path, "first", ONE)
    computed(tmp_path, "second", TWO)
    compute(tmp_path, toy("alone"))
    seen = survey(tmp_path, now=later())
    assert names(seen.unused) == {f"store/{toy('alone').name}"} and not seen.waiting
    assert {piece.kind for piece in seen.pieces} == {"toy"}
    without = survey(tmp_path, without=tmp_path / "grids" / "first", now=later())
    assert names(without.unused) == {f"store/{toy('alone').name}", f"store/{ONE.name}"}


def test_what_is_moved_aside_is_unused_and_scratch_only_if_its_step_is_done_or_no_grid_names_it(tmp_path: Path) -> None:
    computed(tmp_path, "first", ONE)
    freeze(tmp_path, "second", TWO)
    for folder in (f".damaged/{ONE.name}", f".replaced/{ONE.name}", f".work/{SHARED.name}", f".work/{TWO.name}"):
        (tmp_path / "store" / folder).mkdir(parents=True)
    (tmp_path / "store" / ".work" / "gone-12345678").mkdir()
    unused = {f".damaged/{ONE.name}", f".replaced/{ONE.name}", f".work/{SHARED.name}", ".work/gone-12345678"}
    assert names(survey(tmp_path, now=later()).unused) == unused


def test_a_step_of_an_earlier_submission_is_used(tmp_path: Path) -> None:
    folder = computed(tmp_path, "first", ONE)
    home = folder / "submissions" / "1"
    home.mkdir(parents=True)
    (folder / "plan.json").rename(home / "plan.json")
    freeze(tmp_path, "first", toy("other"))
    seen = survey(tmp_path, now=later())
    assert seen.unused == [] and grid(seen, "first").submitted and grid(seen, "first").planned == 1


def test_nothing_that_was_made_or_looked_up_within_the_hour_is_unused(tmp_path: Path) -> None:
    compute(tmp_path, ONE)
    assert len(survey(tmp_path).waiting) == 2 and not survey(tmp_path).unused
    assert len(survey(tmp_path, now=later()).unused) == 2
    make_plan([toy_row("one", ONE)], Store(tmp_path / "store"))  # a grid that is planned and not frozen yet
    for name in (ONE.name, SHARED.name):
        assert (tmp_path / "store" / ".verified" / name).stat().st_mtime > time.time() - 60
        os.utime(tmp_path / "store" / ".verified" / name, (later(), later()))
    assert len(survey(tmp_path, now=later()).waiting) == 2


def test_a_lookup_notes_its_time_before_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute(tmp_path, SHARED)
    mark = tmp_path / "store" / ".verified" / SHARED.name
    os.utime(mark, (1, 1))
    monkeypatch.setattr(Store, "_fault", lambda *_: str(mark.stat().st_mtime))
    store = Store(tmp_path / "store")
    store.lookup(SHARED)
    assert float(store.damaged[SHARED.name]) > time.time() - 60


# States


def test_a_step_that_is_computed_is_never_unused(tmp_path: Path) -> None:
    freeze(tmp_path, "first", ONE)
    work = tmp_path / "store" / ".work"
    held = [lease.acquire(work / name, lambda: False) for name in (SHARED.name, "nobodys-12345678")]
    try:
        seen = survey(tmp_path, now=later())
        assert grid(seen, "first").state == "running" and seen.unused == []
        fault = unknown_use(seen)
        assert fault and "nobodys-12345678" in fault
        assert remove(tmp_path, seen.pieces, now=later()) == []
    finally:
        for each in held:
            assert each is not None
            each.release()
    seen = survey(tmp_path, now=later())
    assert grid(seen, "first").state == "stopped" and names(seen.unused) == {".work/nobodys-12345678"}
    assert unknown_use(seen) is None


def test_a_process_of_another_host_computes_while_its_heartbeat_is_younger_than_an_hour(tmp_path: Path) -> None:
    freeze(tmp_path, "first", ONE)
    work = tmp_path / "store" / ".work" / SHARED.name
    work.mkdir(parents=True)
    (work / "lease.1").write_text(json.dumps({"host": "elsewhere", "pid": 1, "start": "1", "attempt": 1}))
    assert grid(survey(tmp_path), "first").state == "running"
    assert grid(survey(tmp_path, now=later()), "first").state == "stopped"


def test_states_rows_and_launch_of_grids(tmp_path: Path) -> None:
    computed(tmp_path, "complete", ONE, SHARED)
    failed, reported = freeze(tmp_path, "failed", TWO), computed(tmp_path, "reported", ONE)
    record_failure(failure_file(failed, TWO.name), "no")
    record_failure(failure_file(reported, "report"), "no")
    freeze(tmp_path, "stopped", TWO)
    (tmp_path / "grids" / "bad").mkdir()
    for text in ("{}", "[]", "NaN", "{", '{"steps": [1], "rows": []}'):
        (tmp_path / "grids" / "bad" / "plan.json").write_text(text)
        seen = survey(tmp_path, now=later())
        assert {each.name: each.state for each in seen.grids} == {
            "complete": "complete", "failed": "failed", "reported": "failed", "stopped": "stopped", "bad": "unreadable",
        }  # fmt: skip
        fault = unknown_use(seen)
        assert fault and "clean bad" in fault
    complete = grid(seen, "complete")
    assert (complete.rows, complete.planned, complete.done) == (2, 2, 2)
    assert complete.about["command"] == "python -m src.run name=complete"
    assert (grid(seen, "stopped").done, grid(seen, "stopped").planned) == (1, 2)


# Damage


@pytest.mark.parametrize("text", ["{}", "[]", "NaN", '"text"', "", '{"files": {"a": NaN}}'])
def test_a_damaged_manifest_disables_nothing_and_is_listed(tmp_path: Path, text: str) -> None:
    computed(tmp_path, "first", ONE)
    bad = tmp_path / "store" / "bad-12345678"
    bad.mkdir()
    for folder in (bad, tmp_path / "store" / SHARED.name):
        (folder / "manifest.json").write_text(text)
    seen = survey(tmp_path, now=later())
    assert {piece.step for piece in seen.pieces if piece.fault} == {"bad-12345678", SHARED.name}
    assert all("whole manifest" in piece.fault for piece in seen.pieces if piece.fault)
    assert names(seen.unused) == {"store/bad-12345678"}
    store = Store(tmp_path / "store")
    plan = make_plan([toy_row("one", ONE)], store)
    assert [entry.step for entry in plan.missing()] == [SHARED, ONE]
    assert [manifest["label"] for manifest in store.manifests()] == ["one"]


@pytest.mark.parametrize("text", ["{}", "[]", "NaN", "", '{"number.txt": 1}'])
def test_a_damaged_note_of_checksums_is_read_as_none(tmp_path: Path, text: str) -> None:
    compute(tmp_path, SHARED)
    (tmp_path / "store" / ".verified" / SHARED.name).write_text(text)
    assert Store(tmp_path / "store").lookup(SHARED) is not None


# Sizes


def test_a_file_that_artifacts_share_counts_once_and_is_freed_with_the_last(tmp_path: Path) -> None:
    compute(tmp_path, ONE, TWO)
    store = tmp_path / "store"
    (store / ONE.name / "big").write_bytes(bytes(1000))
    os.link(store / ONE.name / "big", store / TWO.name / "big")
    seen = survey(tmp_path, now=later())
    pieces = {piece.step: piece for piece in seen.pieces}
    everything = {file.stat().st_ino: file.stat().st_size for file in store.glob("*/**/*") if file.is_file()
                  and file.parent.name != ".verified"}  # fmt: skip
    assert usage.size(seen.pieces) == sum(everything.values())
    alone = usage.size([pieces[ONE.name]])
    assert seen.freed([pieces[ONE.name]]) == alone - 1000
    assert seen.freed([pieces[ONE.name], pieces[TWO.name]]) == alone + usage.size([pieces[TWO.name]]) - 1000


# Removal


def test_remove_takes_exactly_the_unused_among_the_chosen(tmp_path: Path) -> None:
    computed(tmp_path, "first", ONE)
    compute(tmp_path, TWO, toy("alone"))
    (tmp_path / "store" / ".damaged" / ONE.name).mkdir(parents=True)
    (tmp_path / "store" / "link-12345678").symlink_to(tmp_path)
    chosen = [piece for piece in survey(tmp_path, now=later()).pieces if piece.step != toy("alone").name]
    removed = remove(tmp_path, chosen, now=later())
    assert names(removed) == {f"store/{TWO.name}", f".damaged/{ONE.name}", "store/link-12345678"}
    store = Store(tmp_path / "store")
    assert all(store.lookup(step) for step in (SHARED, ONE, toy("alone")))
    assert store.lookup(TWO) is None and not (store.root / ".verified" / TWO.name).exists()
    assert list((store.root / ".removed").iterdir()) == [] and tmp_path.exists()


def test_what_a_grid_uses_by_the_time_of_the_answer_stays(tmp_path: Path) -> None:
    compute(tmp_path, ONE)
    chosen = survey(tmp_path, now=later()).unused
    assert len(chosen) == 2
    freeze(tmp_path, "first", SHARED)
    assert [piece.step for piece in remove(tmp_path, chosen, now=later())] == [ONE.name]


def test_what_is_looked_up_while_it_is_moved_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute(tmp_path, SHARED)
    chosen = survey(tmp_path, now=later()).unused
    mark, rename = tmp_path / "store" / ".verified" / SHARED.name, Path.rename

    def looked_up(path: Path, target: Path) -> Path:
        os.utime(mark, (later(), later()))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", looked_up)
    assert remove(tmp_path, chosen, now=later()) == []
    assert Store(tmp_path / "store").lookup(SHARED) is not None


def test_a_removed_grid_is_gone_with_the_link_to_it(tmp_path: Path) -> None:
    folder, other = computed(tmp_path, "first", ONE), computed(tmp_path, "second", TWO)
    latest = tmp_path / "latest"
    latest.symlink_to("grids/first")
    seen = survey(tmp_path)
    remove_grid(grid(seen, "second"))
    assert latest.is_symlink() and not other.exists()
    remove_grid(grid(seen, "first"))
    assert not latest.is_symlink() and not folder.exists()
    assert survey(tmp_path).grids == []


def test_no_store_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no store"):
        survey(tmp_path)
