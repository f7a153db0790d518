import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.report.fakegrid import FakeGrid


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No test finds a key of whoever runs it, or a wandb setting of their shell."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    yield


@pytest.fixture(autouse=True, scope="session")
def quick_store() -> Iterator[None]:
    """Publishing hundreds of made-up artifacts need not ask git and pip, or wait for the disk, each time."""
    from src.grid import store

    with pytest.MonkeyPatch.context() as patch:
        commit, versions = store.git_commit(), store._versions()
        patch.setattr(store, "git_commit", lambda: commit)
        patch.setattr(store, "_versions", lambda: versions)
        patch.setattr(store, "_sync", lambda path: None)
        yield


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of other things than the drawings, which take longer than all the rest of a report."""
    for name in ("figure", "tradeoff", "instructions"):
        monkeypatch.setattr(f"src.report.{name}.draw", lambda table, folder: None)


@pytest.fixture
def fake(tmp_path: Path) -> FakeGrid:
    return FakeGrid(tmp_path / "outputs")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 160 columns, whatever the one that the tests run in has: a narrower one shows fewer columns."""
    monkeypatch.setenv("COLUMNS", "160")
