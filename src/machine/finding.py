"""What was found out about one thing."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "no", "unknown", "note"]


@dataclass(frozen=True)
class Finding:
    """One line of the answer."""

    state: State
    """no: the profile needs it, and it is missing. unknown: it cannot be told from here. note: good to know."""
    text: str
    remedy: str = ""
    """What to do about it; every `no` has one."""


def ok(text: str) -> Finding:
    return Finding("ok", text)


def no(text: str, remedy: str) -> Finding:
    return Finding("no", text, remedy)


def unknown(text: str, remedy: str = "") -> Finding:
    return Finding("unknown", text, remedy)


def note(text: str) -> Finding:
    return Finding("note", text)


def lines(title: str, findings: Iterable[Finding]) -> list[str]:
    """A section as it is printed."""
    told = [title]
    for each in findings:
        told.append(f"  {each.state:<8} {each.text}")
        if each.remedy:
            told.append(f"  {'':<8}   -> {each.remedy}")
    return told
