"""Our plugins under the namespace in which Hydra looks for them (no `__init__.py` may stand beside this file)."""

from launchers import cluster, local, sweeper


class LocalLauncher(local.LocalLauncher):
    """`hydra/launcher=local`"""


class GridSweeper(sweeper.GridSweeper):
    """`hydra/sweeper=grid`"""


class SchedulerLauncher(cluster.SchedulerLauncher):
    """`hydra/launcher=NAME` of a scheduler in launchers/NAME"""
