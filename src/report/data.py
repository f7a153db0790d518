"""What the steps kept of their data, and what they dropped and why, from the summaries in their manifests.

A step that keeps or drops examples has in its summary
"data": {list: {"kept": examples, "dropped": {reason: examples}}}, with "share_of_loss" where the list is an origin of a
stage's examples, and "hours" of audio by list where it counts them.
"""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from src.grid.plan import Plan

SHARDS = "utterances"
"""Shards of a list: the step that gathers them has their sum."""


def collect(plan: Plan, manifests: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The counts of each list of each step that is done: {"step", "list", "kept", "dropped", "reasons", "hours",
    "share"}.

    Steps that differ in their seed, say, but not in what they kept and dropped are one line, by their label, with the
    mean of their shares; those that differ in it are told apart by name. `reasons` has the most frequent one first;
    `hours`, and `share`, that of the stage's loss, are None where not counted.
    """
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for name, entry in plan.entries.items():
        if name not in manifests or entry.step.kind == SHARDS:
            continue
        summary = manifests[name]["summary"]
        hours = summary.get("hours")
        for listed, counts in summary.get("data", {}).items():
            reasons = sorted(counts["dropped"].items(), key=lambda reason: (-reason[1], reason[0]))
            found.setdefault((entry.step.label, listed), {})[name] = {
                "list": listed,
                "kept": counts["kept"],
                "dropped": sum(counts["dropped"].values()),
                "reasons": [(reason, number) for reason, number in reasons if number],
                "share": counts.get("share_of_loss"),
                "hours": hours.get(listed) if isinstance(hours, dict) else None,
            }
    lines = []
    for (label, _), steps in found.items():
        first, *others = steps.values()
        alike = all({**other, "share": first["share"]} == first for other in others)
        known = [each["share"] for each in steps.values() if each["share"] is not None]
        shown = {label: first | {"share": fmean(known) if known else None}} if alike else steps
        lines += [{"step": step, **counts} for step, counts in shown.items()]
    return lines
