"""Whether this machine is ready for a profile: `python -m src.doctor profile=paper`.

Takes the overrides of src.run, looks at the steps of one cell, and says line by line what is there (ok), what the
profile needs and is missing (no, with what to do about it), and what cannot be told from here (unknown). Nothing is
downloaded, computed or written. Of a sweep (strategy=glob(*), seed=0,1) one value is looked at.

Exit code: 0 if nothing that is needed is missing, 1 if something is, 2 if the overrides are wrong.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf

from launchers import cluster
from src import config
from src.globs import expand
from src.grid.arguments import command_parser
from src.grid.errors import ConfigError
from src.grid.plan import make_plan
from src.grid.row import Row
from src.grid.store import Store
from src.machine import hub
from src.machine.finding import Finding, lines, note
from src.machine.gpus import gpus
from src.machine.loads import loads
from src.machine.requirements import answers, requirements
from src.machine.services import wandb
from src.machine.settings import Gpu
from src.machine.software import software
from src.machine.sources import sources
from src.machine.storage import storage
from src.recipe import CONF, row


def examine(composed: Row, launcher: dict[str, Any]) -> dict[str, list[Finding]]:
    """Title -> what was found, of everything that the row needs. launcher: the composed hydra.launcher."""
    cell = composed.config
    store = Store(Path(cell["outputs"]) / "store")
    plan = make_plan([composed], store)
    named = Gpu.of(launcher.get("gpu"), cell.get("gpu"))
    gpu = launcher.get("gpu")
    needed, asked, others = requirements(plan, store, gpu), answers(plan, gpu), loads(plan, gpu)
    wanted = sources(cell)
    found, gigabytes = hub.downloads(wanted, plan)
    cache = hub.cache_folder() if gigabytes else None
    return {
        "software": software(cell, named != Gpu()),
        "GPUs": gpus(cell, named, needed, asked, others, elsewhere="scheduler" in launcher),
        "data and models": found or [note("nothing is downloaded")],
        "disk": storage(plan, store.root, needed, cache, gigabytes),
        "cluster": cluster.findings(launcher),
        "tracking": wandb(cell["tracker"]),
    }


def compose(overrides: Sequence[str]) -> tuple[Row, dict[str, Any]]:
    """The row, and the composed hydra.launcher. Raises HydraException for what is wrong."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        load = partial(hydra.compose, "config", return_hydra_config=True)
        composed = config.compose(lambda given: load(overrides=given), overrides)
        HydraConfig.instance().set_config(composed)
        launcher: Any = OmegaConf.to_container(composed.hydra.launcher)
        return row(composed), launcher


def single(overrides: Sequence[str]) -> list[str]:
    """The overrides of one cell of the sweep: the first of listed values, the default where a range stands."""
    parsed = OverridesParser.create().parse_overrides([each for each in overrides if each not in ("-m", "--multirun")])
    kept = []
    for each in parsed:
        line = each.input_line or ""
        if not each.is_sweep_override():
            kept.append(line)
        elif isinstance(each.value(), ChoiceSweep):
            kept.append(f"{line.partition('=')[0]}={next(each.sweep_string_iterator())}")
    return kept


def main(arguments: list[str]) -> int:
    """Print what was found; the exit code."""
    parser = command_parser("src.doctor", __doc__)
    parser.add_argument("overrides", metavar="OVERRIDE", nargs="*", help="as of src.run: profile=paper train.ranks=8")
    parser.add_argument("-m", "--multirun", action="store_true", help="may stand here as before src.run's overrides")
    asked = parser.parse_intermixed_args(arguments).overrides
    try:
        overrides = single(expand(asked, CONF))
        composed, launcher = compose(overrides)
    except HydraException as error:
        print(error, file=sys.stderr)
        return 2
    print(f"profile={composed.config['profile']} strategy={composed.name}" + _left_out(asked, overrides))
    try:
        found = examine(composed, launcher)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    for title, findings in found.items():
        print("\n".join(["", *lines(title, findings)]))
    missing = [each for findings in found.values() for each in findings if each.state == "no"]
    print(f"\nnot ready: {len(missing)} of these are missing" if missing else "\nready")
    return 1 if missing else 0


def _left_out(asked: Sequence[str], taken: Sequence[str]) -> str:
    swept = [each for each in asked if each not in taken and each not in ("-m", "--multirun")]
    return f", one cell of {' '.join(swept)}" if swept else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
