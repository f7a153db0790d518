"""How much room answers get: few long slots, or many short ones. Imports no torch: a plan counts with it."""

WANTED = 64
"""Rows below which answers get less room at first. A GPU reads its weights once for all rows: with so many, reading
them is no longer all that a step does."""
LEAST = 64
"""Tokens of an answer that there is always room for."""
CPU_ROWS = 128
"""Most rows on a CPU, whose caches hold no more."""
READ_AT_ONCE = 1024
"""Most tokens of prompts that are read together, padding included; a single prompt may be longer."""


def room(longest: int, said: int, left: int, budget: int, rows: int) -> int:
    """Tokens that a slot has for what will be said, beside the longest of the rows.

    All that may come where `budget` tokens have as many slots as are wanted, else a half of it, a quarter ...; but no
    less than LEAST, nor than the longest answer that was given already, which so at least doubles. longest: tokens of
    the longest prompt with what was answered to it. said: of the longest answer so far. left: most that may come.
    rows: that there are.
    """
    least = min(left, max(LEAST, said))
    found = left
    while found > least and budget // (longest + found) < min(WANTED, rows):
        found = max(least, found // 2)
    return found
