"""`python -m src.store`: what it shows, asks and removes."""

import builtins
import os
import subprocess
import sys
from pathlib import Path

import pytest

from src import store as command
from src.grid import lease, usage
from src.grid.store import Store
from tests.grid.test_usage import ONE, SHARED, TWO, computed, freeze
from tests.grid.toys import toy

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two grids that share a step, an artifact that no grid uses, a damaged one; all older than an hour."""
    computed(tmp_path, "first", ONE)
    computed(tmp_path, "second", TWO)
    computed(tmp_path, "third", toy("alone"))
    (tmp_path / "grids" / "third" / "plan.json").unlink()
    (tmp_path / "store" / "bad-12345678").mkdir()
    (tmp_path / "store" / "bad-12345678" / "manifest.json").write_text("[]")
    monkeypatch.setattr(usage, "RECENT", -60.0)
    return tmp_path


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> list[str]:
    """Answer questions at a terminal; the questions that were asked."""
    asked: list[str] = []

    def reply(question: str) -> str:
        asked.append(question)
        return text

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(builtins, "input", reply)
    return asked


def artifacts(outputs: Path) -> set[str]:
    return {folder.name for folder in (outputs / "store").iterdir() if not folder.name.startswith(".")}


USED = {SHARED.name, ONE.name, TWO.name}
UNUSED = {toy("alone").name, "bad-12345678"}


def test_it_shows_grids_sizes_the_unused_and_the_damaged(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    freeze(outputs, "fourth", toy("never"))
    plan = outputs / "grids" / "fourth" / "plan.json"
    plan.write_text(plan.read_text().replace('"about"', '"once"'))
    assert command.main(["--outputs", str(outputs)]) == 0
    shown = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if line.strip()}
    launched = ["2026-01-02", "03:04", "python", "-m", "src.run", "name=first"]
    assert lines["first"] == ["first", "1", "2/2", "complete", *launched]
    assert lines["fourth"] == ["fourth", "1", "0/1", "stopped", "unknown", "unknown"]
    assert lines["toy"][:2] == ["toy", "4"] and lines["damaged"][:2] == ["damaged", "1"]
    assert "5 artifacts" in shown and "used by no grid: 2 folders" in shown
    assert lines.keys() >= UNUSED and not USED & lines.keys()
    assert "damaged: bad-12345678: the manifest is not a whole manifest" in shown
    assert artifacts(outputs) == USED | UNUSED


def test_it_removes_the_unused_after_a_yes(
    outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("", "n", "what"):
        asked = answer(monkeypatch, text)
        assert command.main(["clean", "--outputs", str(outputs)]) == 1
        assert len(asked) == 1 and asked[0].startswith("Remove 2 folders of the store (")
        assert asked[0].endswith("[y/N] ")
        assert artifacts(outputs) == USED | UNUSED
    answer(monkeypatch, "y")
    assert command.main(["clean", "--outputs", str(outputs)]) == 0
    assert "Removed 2 folders of the store." in capsys.readouterr().out
    assert artifacts(outputs) == USED
    assert command.main(["clean", "--outputs", str(outputs)]) == 0
    assert "Nothing is unused." in capsys.readouterr().out


def test_without_a_terminal_it_needs_yes(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["clean", "--outputs", str(outputs)]) == 2
    assert "--yes" in capsys.readouterr().err and artifacts(outputs) == USED | UNUSED
    assert command.main(["clean", "--yes", "--outputs", str(outputs)]) == 0
    assert artifacts(outputs) == USED


def test_a_grid_goes_with_what_it_alone_uses(outputs: Path) -> None:
    assert command.main(["clean", "fir", "--yes", "--outputs", str(outputs)]) == 0
    assert not (outputs / "grids" / "first").exists()
    assert artifacts(outputs) == (USED | UNUSED) - {ONE.name}
    assert command.main(["clean", "second", "--yes", "--outputs", str(outputs)]) == 0
    assert artifacts(outputs) == UNUSED


def test_a_running_grid_is_left_alone(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    freeze(outputs, "fourth", toy("slow"))
    held = lease.acquire(outputs / "store" / ".work" / toy("slow").name, lambda: False)
    assert held is not None
    with held:
        assert command.main(["clean", "fourth", "--yes", "--outputs", str(outputs)]) == 2
        assert "fourth is running" in capsys.readouterr().err
        assert command.main(["clean", "--yes", "--outputs", str(outputs)]) == 0
        assert held.held() and artifacts(outputs) == USED


def test_what_was_just_made_is_kept_and_said(
    outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "RECENT", 3600.0)
    assert command.main(["clean", "--yes", "--outputs", str(outputs)]) == 0
    assert "kept for now: 2 folders" in capsys.readouterr().out and artifacts(outputs) == USED | UNUSED


def test_a_plan_that_cannot_be_read_forbids_to_clean(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (outputs / "grids" / "second" / "plan.json").write_text("{}")
    assert command.main(["clean", "--yes", "--outputs", str(outputs)]) == 2
    assert "clean second" in capsys.readouterr().err and artifacts(outputs) == USED | UNUSED
    assert command.main(["clean", "second", "--yes", "--outputs", str(outputs)]) == 0
    assert command.main(["clean", "--yes", "--outputs", str(outputs)]) == 0
    assert artifacts(outputs) == {SHARED.name, ONE.name}


def test_what_is_not_there_is_one_line(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["clean", "nonsense", "--yes", "--outputs", str(outputs)]) == 2
    assert capsys.readouterr().err == "nonsense names no grids; there are: first, second\n"
    assert command.main(["--outputs", str(outputs / "grids")]) == 2
    assert capsys.readouterr().err.startswith(f"there is no store in {outputs / 'grids'}")


def test_a_file_that_cannot_be_removed_is_named(
    outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(usage.shutil, "rmtree", refuse)
    assert command.main(["clean", "--yes", "--outputs", str(outputs)]) == 1
    assert "cannot be removed: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (1_234_567_890, "1.2 GB"),
                        (5_000_000_000_000_000, "5000.0 TB")],
)  # fmt: skip
def test_sizes_have_a_unit(count: int, text: str) -> None:
    assert command.size_text(count) == text


def test_the_command_loads_nothing_heavy_and_is_quick(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    code = f"import sys; from src.store import main; main(['--outputs', {str(tmp_path)!r}]); print(*sys.modules)"
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    after = os.times()
    assert not {"torch", "numpy", "transformers"} & set(done.stdout.split("\n")[-2].split())
    assert after.children_user - before.children_user < 2


def test_an_artifact_that_was_removed_is_computed_again(outputs: Path) -> None:
    command.main(["clean", "first", "--yes", "--outputs", str(outputs)])
    computed(outputs, "first", ONE)
    assert Store(outputs / "store").lookup(ONE) is not None
