"""Importing this module loads IFEval's checkers: for a fork server, whose processes then have them at once."""

from src.evaluate import checkers

checkers.load()
