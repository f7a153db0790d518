"""Where the numbers of a grid are from: its steps and what they took, its settings, the versions of its software."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from src.grid.plan import Plan
from src.report.cells import MISSING
from src.report.lines import Line, differing, flatten, plain


def duration(seconds: float) -> str:
    """Seconds for a reader: "42 s", "8 min 20 s", "3 h 12 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def work(plan: Plan, manifests: Mapping[str, Mapping[str, Any]], failures: Mapping[str, str]) -> dict[str, Any]:
    """The steps with what they took (or, where they did not end, are estimated to take), and what sharing saved."""
    took = {name: manifests[name]["seconds"] if name in manifests else e.seconds for name, e in plan.entries.items()}
    total = sum(took.values())
    unshared = sum(took[name] * len(entry.rows) for name, entry in plan.entries.items())
    longest = max(took.values(), default=0.0) or 1.0
    trained = [entry for entry in plan.entries.values() if entry.step.kind == "train"]
    summary = f"{plan.shared().steps} distinct steps did the work of {plan.unshared().steps}"
    if trained:
        summary += f"; {len(trained)} training steps that of {sum(len(entry.rows) for entry in trained)}"
    if total:
        summary += f". Computing took {duration(total)} instead of {duration(unshared)}, counted on one worker"
    steps = []
    for name, entry in plan.entries.items():
        state = "done" if name in manifests else "failed" if name in failures else "missing"
        seconds = f"{took[name]:.1f}" if state == "done" else "failed" if state == "failed" else MISSING
        steps.append(
            {
                "name": name,
                "rows": len(entry.rows),
                "seconds": seconds,
                "state": state,
                "width": 100 * took[name] / longest if state == "done" else 0,
            }
        )
    return {
        "summary": summary + ".",
        "total": duration(total) if total else "",
        "unshared": duration(unshared),
        "share": 100 * total / unshared if unshared else 0.0,
        "steps": steps,
    }


def settings(lines: Sequence[Line]) -> dict[str, Any]:
    """The resolved settings that all rows have in common, as YAML, and a table of those in which they differ."""
    import yaml

    rows = [row for line in lines for row in line.rows]
    flat = [flatten(row.config) for row in rows]
    keys = differing(flat) if flat else []
    common: dict[str, Any] = {}
    for key, value in flat[0].items() if flat else ():
        if key not in keys:
            *path, last = key.split(".")
            inner = common
            for part in path:
                inner = inner.setdefault(part, {})
            inner[last] = value
    several = len({row.seed for row in rows}) > 1
    names = [f"{line.label}, seed {row.seed}" if several else line.label for line in lines for row in line.rows]
    return {
        "common": yaml.safe_dump(json.loads(json.dumps(common, default=str)), sort_keys=False, allow_unicode=True),
        "labels": names,
        "differing": [(key, [plain(one[key]) if key in one else "" for one in flat]) for key in keys],
    }


def versions(manifests: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Commits, instructions and package versions of all artifacts; several where they were not made by the same."""
    found: dict[str, dict[str, None]] = {}
    for manifest in manifests:
        if manifest.get("git"):
            found.setdefault("git commit", {})[manifest["git"]] = None
        if manifest.get("instructions"):
            found.setdefault("instructions", {})[manifest["instructions"]] = None
        for package, version in manifest["versions"].items():
            found.setdefault(package, {})[version] = None
    return [(package, ", ".join(several)) for package, several in found.items()]
