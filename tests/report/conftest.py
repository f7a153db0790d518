from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.report.fakegrid import FakeGrid


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No test finds a key of whoever runs it, or a wandb setting of their shell."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    yield


@pytest.fixture
def fake(tmp_path: Path) -> FakeGrid:
    return FakeGrid(tmp_path / "outputs")
