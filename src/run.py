"""The entry point: `python -m src.run strategy=replay`, `python -m src.run -m 'strategy=glob(**)'`.

Globs in the overrides are written out first (src/globs.py).
Hydra composes one cell for each combination of the overrides and hands all of them to the launcher at once
(`hydra.mode` is MULTIRUN, so that a single cell goes the same way). The launcher, in `launchers/`,

1. checks every cell and turns it into a row of steps    (src/recipe.py)
2. joins the rows into a plan of distinct steps          (src/grid/plan.py); `plan_only=true` prints it and stops
3. freezes the plan in the grid's folder and runs it     (src/grid/execute.py, launchers/local.py)
4. writes the report                                     (src/report/report.py)
"""

import os
import sys
from functools import partial
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import src.settings_files  # noqa: F401  before Hydra's own
from src.globs import expand
from src.one_line import CONF, one_line, settings_without

FULL = "HYDRA_FULL_ERROR"
"""Hydra's variable: 1 shows where an error comes from."""

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "launchers"))  # where Hydra discovers the launchers


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def main(config: DictConfig) -> None:
    """Reached only where Hydra was told to run the cell by itself, without one of our launchers."""
    sys.exit("hydra.mode has to be MULTIRUN and hydra/launcher one of those in conf/hydra/launcher")


if __name__ == "__main__":
    whole = os.environ.setdefault(FULL, "0") == "1"
    os.environ[FULL] = "1"  # Hydra then raises its errors, and they are one line here
    try:
        sys.argv[1:] = expand(sys.argv[1:], CONF)
        main()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        line = one_line(error, sys.argv[1:], partial(settings_without, sys.argv[1:]))
        if whole or line is None:
            raise
        sys.exit(line)
