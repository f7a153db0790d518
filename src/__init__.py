"""Palimpsest. Importing any part of it fixes the instructions of the numerical libraries (src/grid/instructions.py)."""

from src.grid import instructions

instructions.fix()
