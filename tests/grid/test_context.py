"""What a body is handed: progress, checkpoints, and the wish that it end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from src.grid import context
from src.grid.context import STOPPED, Context, checkpoint_step, latest_checkpoint, reached, read_progress
from tests.conftest import ROOT


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that stands still until a test moves it."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(context, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def test_the_time_left_is_that_of_the_rest_at_the_pace_so_far(tmp_path: Path, clock: SimpleNamespace) -> None:
    made = Context(tmp_path, "a")
    made.report(done=40, total=100, loss=2.5)  # after a resume: what was done before says nothing about the pace
    assert read_progress(tmp_path) == {"done": 40, "total": 100, "loss": 2.5}
    clock.seconds += 10
    made.report(done=60)
    assert read_progress(tmp_path) == {"done": 60, "total": 100, "loss": 2.5, "seconds_left": 20.0}
    clock.seconds += 30
    made.report(done=80, loss=1.5)
    assert read_progress(tmp_path)["seconds_left"] == 40 * 20 / 40


def test_progress_is_written_four_times_a_second_at_most_and_keeps_what_was_said_between(
    tmp_path: Path, clock: SimpleNamespace
) -> None:
    made = Context(tmp_path, "a")
    made.report(done=1)
    clock.seconds += 0.1
    made.report(done=2, stage="late")
    assert read_progress(tmp_path) == {"done": 1}
    clock.seconds += 0.2
    made.report(done=3)
    assert read_progress(tmp_path) == {"done": 3, "stage": "late"}


def test_other_ranks_are_silent(tmp_path: Path) -> None:
    Context(tmp_path, "a", silent=True).report(done=1, total=2)
    assert read_progress(tmp_path) == {} and not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", '{"done": 1', "\0"])
def test_progress_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "progress.json").write_text(text)
    assert read_progress(tmp_path) == {}


def checkpoint(work: Path, attempt: int, step: int, complete: bool = True) -> Path:
    """What DeepSpeed leaves: a folder, and its name in `latest` once it is complete."""
    folder = Context(work, "a", attempt=attempt).checkpoints / f"step-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_text(str(step))
    if complete:
        (folder.parent / "latest").write_text(f"{folder.name}\n")
    return folder


def test_the_latest_checkpoint_is_the_furthest_complete_one_of_any_attempt(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None and checkpoint_step(None) == 0
    checkpoint(tmp_path, 1, 90)
    best = checkpoint(tmp_path, 1, 100)
    assert latest_checkpoint(tmp_path) == best
    checkpoint(tmp_path, 2, 99)  # an attempt that began again from further back
    checkpoint(tmp_path, 2, 120, complete=False)
    assert latest_checkpoint(tmp_path) == best and checkpoint_step(best) == 100
    (tmp_path / "checkpoints" / "3").mkdir()
    (tmp_path / "checkpoints" / "3" / "latest").write_text("step-500")  # its folder is gone
    assert latest_checkpoint(tmp_path) == best


def test_a_new_checkpoint_replaces_all_others(tmp_path: Path) -> None:
    for attempt, step in ((1, 10), (2, 20), (2, 25)):
        checkpoint(tmp_path, attempt, step)
    kept = checkpoint(tmp_path, 3, 30)
    Context(tmp_path, "a", attempt=3).keep_only(kept)
    assert latest_checkpoint(tmp_path) == kept
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("step-*")} == {"checkpoints/3/step-30"}
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["3"]


STEP = """
import sys, time
from pathlib import Path
from src.grid.context import Context, deferred_stop, listen_for_stop

listen_for_stop()
context = Context(Path(sys.argv[1]), "a")
try:
    if sys.argv[2] == "deferred":
        with deferred_stop():
            print("ready", flush=True)
            while not context.stop_requested:
                time.sleep(0.01)
            print("saved", flush=True)
            context.stop()
    print("ready", flush=True)
    time.sleep(60)
    print("went on", flush=True)
finally:
    print("releasing", flush=True)
    if sys.argv[2] == "twice":
        time.sleep(0.5)
    print("released", flush=True)
"""


@pytest.mark.parametrize(
    ("when", "says"),
    [("deferred", ["ready", "saved", "releasing", "released"]), ("at once", ["ready", "releasing", "released"])],
)
def test_sigterm_ends_a_body_when_it_is_ready_to(tmp_path: Path, when: str, says: list[str]) -> None:
    command = [sys.executable, "-c", STEP, str(tmp_path), when]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        first = process.stdout.readline().strip()
        os.kill(process.pid, signal.SIGTERM)
        rest, _ = process.communicate(timeout=240)
    assert [first, *rest.split()] == says
    assert process.returncode == STOPPED


def test_a_body_that_is_ending_is_not_interrupted_again(tmp_path: Path) -> None:
    """SLURM signals every process of a job, and the job hands the signal on."""
    command = [sys.executable, "-c", STEP, str(tmp_path), "twice"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.readline() == "releasing\n"
        process.terminate()
        assert process.communicate(timeout=240)[0] == "released\n"
    assert process.returncode == STOPPED


def test_reports_are_whole_at_any_moment(tmp_path: Path, clock: SimpleNamespace) -> None:
    """The file is replaced, not written into: who has opened it reads the old numbers to their end."""
    made = Context(tmp_path, "a")
    made.report(done=1)
    with (tmp_path / "progress.json").open() as stream:
        clock.seconds += 1
        made.report(done=2)
        assert json.load(stream) == {"done": 1} and read_progress(tmp_path) == {"done": 2}


def test_what_a_step_has_reached_counts_checkpoints_and_whole_chunks(tmp_path: Path) -> None:
    context = Context(tmp_path, "utterances-asr-000")
    assert reached(tmp_path) == 0
    for name in ("0-512", "512-1024"):
        context.chunk(name, lambda folder: (folder / "a").touch())
    with pytest.raises(ZeroDivisionError):
        context.chunk("1024-1536", lambda folder: print(1 / 0))
    assert reached(tmp_path) == 2
    (context.checkpoints / "step-7").mkdir(parents=True)
    (context.checkpoints / "latest").write_text("step-7")
    assert reached(tmp_path) == 7


def test_a_chunk_is_made_once_and_whole(tmp_path: Path) -> None:
    first, second = (Context(tmp_path, "utterances-asr-000", attempt=attempt) for attempt in (1, 2))

    def taken_over(folder: Path) -> None:
        """While the first attempt is at it, another one takes the step over, and is done before."""
        (folder / "half").touch()
        assert second.chunk("0-512", lambda own: (own / "whole").touch())[1]
        (folder / "whole").write_text("late")

    folder, made = first.chunk("0-512", taken_over)
    assert made and [file.name for file in folder.iterdir()] == ["whole"] and not (folder / "whole").read_text()
    assert [chunk.name for chunk in folder.parent.iterdir()] == ["0-512"]
    assert first.chunk("0-512", lambda _: pytest.fail("it is there")) == (folder, False)
    with pytest.raises(ZeroDivisionError):
        first.chunk("0-1024", lambda _: print(1 / 0))
    assert second.chunks("0-") == [folder] and not second.chunks("[0-9]")
