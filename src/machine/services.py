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
        return [ok(f"wandb: a key is configured, runs go to {named(tracker, 'entity') or 'your account'}")]
    later = "; `wandb sync` sends them later" if mode == "offline" else ""
    return [ok(f"wandb: {mode}{later}")]


def resolve_mode(mode: str) -> str:
    """One of online, offline and disabled. auto: WANDB_MODE where it is set, else online where a key is configured."""
    if mode == "auto":
        asked = os.environ.get("WANDB_MODE", "")
        mode = asked or ("online" if has_key() else "offline")
    return {"dryrun": "offline", "run": "online", "shared": "online"}.get(mode, mode)


PROJECT = "palimpsest"
"""Project of runs where none is named."""


def named(tracker: Mapping[str, Any], setting: str) -> str | None:
    """`project`, `entity` or `notes` of the tracker, else what the environment says (WANDB_PROJECT, ...)."""
    return tracker.get(setting) or os.environ.get(f"WANDB_{setting.upper()}") or None


def tags(tracker: Mapping[str, Any]) -> tuple[str, ...]:
    """The tags of every run: `tags` of the tracker, else those of WANDB_TAGS, which have commas between them."""
    given = tracker.get("tags") or [tag.strip() for tag in os.environ.get("WANDB_TAGS", "").split(",")]
    return tuple(filter(None, given))


def host() -> str:
    """The name of wandb's server."""
    return urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""


def has_key() -> bool:
    """Whether wandb would find an API key: in WANDB_API_KEY, or in a netrc file for its host."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    chosen = os.environ.get("NETRC")
    for path in [Path(chosen).expanduser()] if chosen else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if netrc.netrc(path).authenticators(host()):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
