"""The kinds of steps: one file a kind, named after it (src/grid/step.py says what a step is)."""
