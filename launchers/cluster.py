"""The launcher of every scheduler of jobs, and what src.doctor says of schedulers."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from launchers.base import scheduler, scheduler_names
from launchers.bundles import Bundle, bundles
from launchers.grid import Grid, GridLauncher, named_gpu
from launchers.resources import Settings, cost
from launchers.sent import read_sent
from launchers.submission import submit
from launchers.view import counted, duration, plan_table, run_name, shards
from src.grid.typed import typed
from src.machine.finding import Finding, no, note, ok


class SchedulerLauncher(GridLauncher):
    """`hydra/launcher=NAME` of a scheduler in launchers/NAME."""

    def __init__(self, scheduler: str, **settings: Any) -> None:
        self.name, self.given = scheduler, settings

    def check(self) -> None:
        """The settings of the site."""
        self.scheduler = scheduler(self.name)
        given = OmegaConf.to_container(OmegaConf.create(self.given))
        self.settings: Settings = typed(self.scheduler.settings, given, "hydra.launcher")
        self.gpu = named_gpu(self.settings.gpu)

    def fault(self, grid: Grid) -> str | None:
        """Jobs that compute with a model for which a GPU is named, and get none."""
        kinds = dict.fromkeys(entry.step.kind for entry in grid.plan.missing() if entry.step.gpu)
        without = [kind for kind in kinds if not self.settings.of_kind(kind).gpus_per_node]
        if not without or not any(row.config.get("gpu") for row in grid.plan.rows):
            return None
        return (f"the plan is for a GPU (gpu), and jobs of {', '.join(without)} have none: "
                "take a hydra/launcher that asks for some, or set hydra.launcher.resources.KIND.gpus_per_node; "
                "gpu=null computes without")  # fmt: skip

    def show(self, grid: Grid, console: Console) -> None:
        """The plan, and the jobs that it would become."""
        console.print(plan_table(grid.plan, 1, grid.store.damaged))
        missing = [entry.step.name for entry in grid.plan.missing()]
        console.print()
        console.print(jobs_table(bundles(grid.plan, missing, 60 * self.settings.pack_minutes), self.settings))

    def run(self, grid: Grid, console: Console) -> None:
        """Submit what is missing; exits as follow() does where it waits."""
        sent = submit(grid.plan, grid.store, grid.folder, self.scheduler, self.settings, console)
        if self.settings.wait and (sent or read_sent(grid.folder)):
            from launchers.states import follow

            sys.exit(follow(grid.folder.resolve(), console))


def jobs_table(made: Sequence[Bundle], settings: Settings) -> Table:
    """The jobs as they would be submitted."""
    gpu, core = cost(made, settings)
    title = f"{counted(len(made), 'job')} and the report: about {gpu:.1f} GPU-hours, {core:.1f} core-hours"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for header in ("job", "after", "nodes x tasks", "GPUs a node", "memory", "limit", "estimate"):
        table.add_column(header, no_wrap=header != "after")
    alone = shards(bundle.entries[0].step for bundle in made if len(bundle.names) == 1)
    run_of = {run[0].name: run for run in alone}
    told = {step.name for run in alone for step in run[1:]}
    names = {step.name: run_name(run) for run in alone for step in run if len(run) > 1}
    for bundle in made:
        if bundle.names[0] in told:
            continue
        own = settings.of(bundle)
        more = f" and {len(bundle.names) - 1} more" if len(bundle.names) > 1 else ""
        name = run_name(run_of[bundle.names[0]]) if bundle.names[0] in run_of else bundle.names[0] + more
        after = dict.fromkeys(names.get(name, name) for name in sorted(bundle.after))
        table.add_row(
            name, ", ".join(after), f"{own.nodes} x {bundle.ranks // own.nodes}",
            str(own.gpus_per_node), f"{own.mem_gb:g} GB", duration(60 * own.minutes), duration(bundle.seconds),
        )  # fmt: skip
    return table


def findings(launcher: Mapping[str, Any]) -> list[Finding]:
    """Whether jobs can be submitted from here. launcher: the composed hydra.launcher."""
    if "scheduler" not in launcher:
        known = [scheduler(name) for name in scheduler_names()]
        hint = "here (hydra/launcher={} hands the plan to it)"
        return [note(f"{each.title}: {'not here' if each.lacking() else hint.format(each.name)}") for each in known]
    asked = scheduler(launcher["scheduler"])
    if lacking := asked.lacking():
        remedy = "run it on a login node of the cluster, or use hydra/launcher=local"
        return [no(f"{', '.join(lacking)} on the PATH", remedy)]
    found = [ok(f"{asked.commands[0]} and its like are on the PATH")] if asked.commands else []
    return [*found, *asked.findings(launcher)]
