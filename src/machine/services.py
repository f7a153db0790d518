"""wandb."""

import os
from collections.abc import Mapping
from typing import Any

from src.machine.finding import Finding, no, ok
from src.report.track import has_key


def wandb(tracker: Mapping[str, Any]) -> list[Finding]:
    """tracker: the cell's settings."""
    mode = tracker["mode"]
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    if mode == "online" and not has_key():
        return [no("tracker.mode=online, and wandb has no key", "wandb login, or tracker.mode=offline")]
    if mode == "online":
        return [ok(f"wandb: a key is configured, runs go to {tracker['entity'] or 'your account'}")]
    later = "; `wandb sync` sends them later" if mode == "offline" else ""
    return [ok(f"wandb: {mode}{later}")]
