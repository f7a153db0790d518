"""wandb: where runs would go, and whether there is a key for it. No key is read here."""

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from src.machine.finding import Finding, no, ok


def wandb(tracker: Mapping[str, Any]) -> list[Finding]:
    """tracker: the cell's settings."""
    mode = resolve_mode(tracker["mode"])
    if mode == "online" and not has_key():
        return [no("tracker.mode=online, and wandb has no key", "wandb login, or tracker.mode=offline")]
    if mode == "online":
        return [ok(f"wandb: a key is configured, runs go to {tracker['entity'] or 'your account'}")]
    later = "; `wandb sync` sends them later" if mode == "offline" else ""
    return [ok(f"wandb: {mode}{later}")]


def resolve_mode(mode: str) -> str:
    """One of online, offline and disabled. auto: WANDB_MODE where it is set, else online where a key is configured."""
    if mode == "auto":
        asked = os.environ.get("WANDB_MODE", "")
        mode = asked or ("online" if has_key() else "offline")
    return {"dryrun": "offline", "run": "online", "shared": "online"}.get(mode, mode)


def has_key() -> bool:
    """Whether wandb would find an API key: in WANDB_API_KEY, or in a netrc file for its host."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    named = os.environ.get("NETRC")
    for path in [Path(named).expanduser()] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if netrc.netrc(path).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
