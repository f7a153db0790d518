"""A grid in wandb: a run for each row, for each training step, and for the table, all in one group.

A row's run is of this grid, of this row and of its seed. It is written as soon as the row is scored, and again, into
the same run, when more is known of it. A training's run is of its step, whatever grid asked for it. What was written is
noted in `outputs/wandb/.written`, and only what has changed is written again. A failure is a warning and never the
grid's. No key is read here, only whether there is one.
"""
