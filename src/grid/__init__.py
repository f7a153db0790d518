"""Cells, steps, plan, store and execution of a grid. Light: nothing here imports torch."""
