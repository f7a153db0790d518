"""Free space against what the plan and its downloads will take."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from src.grid.files import there
from src.grid.plan import Plan
from src.machine.finding import Finding, no, ok
from src.machine.requirements import Requirement

MERGED = 3
"""Trained stages that a merge writes in float32 while it runs, as far as they differ."""


def storage(
    plan: Plan, store: Path, needed: Iterable[Requirement], cache: Path | None, download: float
) -> list[Finding]:
    """download: gigabytes that the hub's `cache` (None: nothing is to be downloaded) will grow by."""
    needed = list(needed)
    training = {each.step.name: each.disk for each in needed if not each.cached}
    artifacts = sum(
        training[name].artifact / 1e9 if name in training else entry.megabytes / 1e3
        for name, entry in plan.entries.items()
        if not entry.cached
    )
    passing = [disk.checkpoint for disk in training.values()]
    if any(entry.step.kind == "merge" and not entry.cached for entry in plan.entries.values()):
        passing += [MERGED * 4 * each.model.changed for each in needed]
    here = artifacts + max(passing, default=0) / 1e9
    wanted = {"store": (there(store.expanduser()), here)}
    if cache is not None:
        wanted["hub's cache"] = (there(cache.expanduser()), download)
    shared = cache is not None and wanted["store"][0].stat().st_dev == wanted["hub's cache"][0].stat().st_dev
    if shared:
        wanted = {"store and hub's cache": (there(store.expanduser()), here + download)}
    return [_enough(what, folder, gigabytes) for what, (folder, gigabytes) in wanted.items()]


def _enough(what: str, folder: Path, gigabytes: float) -> Finding:
    free = shutil.disk_usage(folder).free / 1e9
    told = f"disk for the {what}: about {gigabytes:.1f} GB are needed, {free:.0f} GB are free at {folder}"
    if free < gigabytes:
        other = "HF_HOME=/a/larger/disk" if what == "hub's cache" else "outputs=/a/larger/disk"
        return no(told, f"make room there, or {other}")
    return ok(told)
