"""Space on the disk: whether a step has enough, and whether it ended for want of it."""

import errno
import shutil
from pathlib import Path

from src.grid.files import there

LEAST = 1.0
"""Megabytes: with less free space a disk counts as full."""


def free_megabytes(path: Path) -> float:
    """Free space, for this user, where the path is or would be."""
    return shutil.disk_usage(there(path)).free / 1e6


def full(path: Path, more: str = "") -> str:
    """The line on a full disk, and what to do. more: figures."""
    return f"no space left in {path}{more}; make room, and the same command goes on from what is complete"


def lacking(path: Path, megabytes: float = 0.0) -> str | None:
    """One line if fewer megabytes are free there; None if there is enough."""
    free = free_megabytes(path)
    if free >= max(megabytes, LEAST):
        return None
    more = f": {free:.0f} MB are free, some {megabytes:.0f} MB are needed" if megabytes > LEAST else ""
    return full(path, more)


def is_full(error: BaseException | None, path: Path) -> bool:
    """Whether an error came of a full disk or an exhausted quota. PyTorch's own errors do not say so: there the free
    space at `path` does."""
    if free_megabytes(path) < LEAST:
        return True
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):  # safetensors tells it in words alone
            return True
        error = error.__cause__ or error.__context__
    return False
