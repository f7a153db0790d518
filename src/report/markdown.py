"""Text and tables in Markdown."""

import re
from collections.abc import Sequence

SPECIAL = re.compile(r"[\\`*<>\[\]|~$]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown (that of GitHub) would not show as it is. An underscore within a word is harmless."""


def escape(text: str) -> str:
    """The text as Markdown that shows it as it is, on one line."""
    return SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def piped(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table; the first column to the left, the others to the right."""
    rule = [":--", *("--:" for _ in head[1:])]
    lines = [list(map(escape, head)), rule, *(list(map(escape, line)) for line in body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
