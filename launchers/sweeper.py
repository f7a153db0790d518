"""Hydra's basic sweeper, less what a grid does not want of it.

The basic sweeper composes every cell once for a check and leaves the launcher to compose it again, and it writes
`multirun.yaml` before anything is checked. Here the launcher composes and checks all cells before anything is written.
"""

from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf.errors import OmegaConfBaseException

from src.globs import expand
from src.grid.errors import ConfigError


class GridSweeper(BasicSweeper):
    """`hydra/sweeper=grid`"""

    def setup(self, **arguments: Any) -> None:
        """Called by Hydra before sweep(); it makes the launcher."""
        try:
            super().setup(**arguments)
        except OmegaConfBaseException as error:
            said = str(error).splitlines()[0]
            hint = "a variable of the shell is written $NAME, without braces"
            raise ConfigError(f"hydra.launcher: {said} ({hint})") from None

    def sweep(self, arguments: list[str]) -> Any:
        """Launch all combinations of the overrides together."""
        assert self.hydra_context is not None and self.launcher is not None
        loader = self.hydra_context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        folders = [Path(each.path.removeprefix("file://")) for each in loader.get_search_path().get_path()]
        named = expand([f"{key}={value}" for key, value in (self.params or {}).items()], *folders)
        (cells,) = self.split_arguments(parser.parse_overrides([*named, *arguments]), None)
        results = self.launcher.launch(cells, initial_job_idx=0)
        for result in results:
            _ = result.return_value  # raises what a cell raised
        return [results]
