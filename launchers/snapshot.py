"""The copy of the source that submitted jobs run."""

import shutil
from pathlib import Path

from src.grid.store import COMMIT, git_commit

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("src", "launchers", "conf")


def snapshot(target: Path) -> Path:
    """Copy the source tree, without what Python made of it, and note its commit."""
    for name in COPIED:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    (target / COMMIT).write_text(git_commit() or "", encoding="utf-8")
    return target
