"""The SLURM launcher: every missing step becomes a job, dependencies between jobs replace the driver.

What is submitted is frozen: the plan, and a copy of the source, are kept in `<grid>/submissions/N/`. A dependent waits
with `afterok` and is cancelled by SLURM if its step cannot be computed any more; the report waits with `afterany`. A
step that a job of another grid is computing is waited for, and then found in the store.
"""

import io
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from launchers import scheduler
from launchers.bundles import Bundle, bundles
from launchers.grid import Grid, GridLauncher, freeze, named_gpu, point_latest, write_report
from launchers.resources import REPORT, Resources, Settings
from launchers.view import duration, plan_table, run_name, shards
from src.config import typed
from src.grid.bodies import BODIES
from src.grid.errors import ConfigError
from src.grid.execute import failure_file
from src.grid.job import REQUEUE, WARNING, Job, jobs_folder
from src.grid.plan import Plan
from src.grid.step import canonical
from src.grid.store import COMMIT, Store, git_commit
from src.report.stream import streamed

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("src", "launchers", "conf")
PATIENCE = 180.0
"""Seconds for which a controller that is away is asked again."""
LONGEST_ARRAY = 1000
"""SLURM's default MaxArraySize is 1001."""


@dataclass(frozen=True)
class Sent:
    """A submitted job."""

    job: str
    """`12`, or `12_3` for an element of an array."""
    steps: tuple[str, ...]
    submission: int
    others: Mapping[str, str] = field(default_factory=dict)
    """Step -> the job of another grid that this one waits for, because it computes the step."""


class SlurmLauncher(GridLauncher):
    """`hydra/launcher=slurm`"""

    def __init__(self, **settings: Any) -> None:
        self.given = settings

    def check(self) -> None:
        """The settings of the site."""
        self.settings = typed(Settings, OmegaConf.to_container(OmegaConf.create(self.given)), "hydra.launcher")
        self.gpu = named_gpu(self.settings.gpu)

    def fault(self, grid: Grid) -> str | None:
        """Jobs that compute with a model for which a GPU is named, and get none."""
        kinds = dict.fromkeys(entry.step.kind for entry in grid.plan.missing() if BODIES[entry.step.kind].gpu)
        without = [kind for kind in kinds if not self.settings.of_kind(kind).gpus_per_node]
        if not without or not any(row.config.get("gpu") for row in grid.plan.rows):
            return None
        return (f"the plan is for a GPU (gpu), and jobs of {', '.join(without)} have none: take "
                "hydra/launcher=slurm_gpu, or set hydra.launcher.resources.KIND.gpus_per_node; gpu=null computes "
                "without")  # fmt: skip

    def show(self, grid: Grid, console: Console) -> None:
        """The plan, and the jobs that it would become."""
        console.print(plan_table(grid.plan, 1, grid.store.damaged))
        missing = [entry.step.name for entry in grid.plan.missing()]
        console.print()
        console.print(jobs_table(bundles(grid.plan, missing, 60 * self.settings.pack_minutes), self.settings))

    def run(self, grid: Grid, console: Console) -> None:
        """Submit what is missing; exits as follow() does where it waits."""
        sent = submit(grid.plan, grid.store, grid.folder, self.settings, console)
        if self.settings.wait and (sent or read_sent(grid.folder)):
            from launchers.states import follow

            sys.exit(follow(grid.folder.resolve(), console))


def submit(plan: Plan, store: Store, folder: Path, settings: Settings, console: Console) -> list[Sent]:
    """Submit the plan's missing steps and the report. Raises ConfigError, and cancels what it submitted, if SLURM
    refuses a job."""
    for command in ("sbatch", "srun", "squeue", "scancel"):
        if shutil.which(command) is None:
            raise ConfigError(f"hydra/launcher=slurm needs {command} on the PATH: run it on a login node, or use "
                              "hydra/launcher=local")  # fmt: skip
    store, folder = Store(store.root.absolute()), folder.absolute()
    alive = living(store, folder, plan)
    missing = [e.step.name for e in plan.missing() if e.step.name not in alive.own]
    made = bundles(plan, missing, 60 * settings.pack_minutes)
    for bundle in made:
        settings.of(bundle)  # raises before anything is written
    _ = settings.of_report
    closed = [work for work in (_claim(store, name).parent for name in missing) if not _writable(work)]
    if closed:
        raise ConfigError(f"{closed[0]} cannot be written: a store that several users share needs a common group "
                          "(chgrp -R, chmod -R g+rws on its folders, and umask 002 for all)")  # fmt: skip
    if not missing and alive.own and alive.report:
        jobs = ranges(dict.fromkeys(sent.job for sent in alive.own.values()))
        console.print(f"All that is missing was already submitted, with the settings of then: jobs {jobs}. "
                      f"To submit it anew: src.cancel {folder.name}", highlight=False, soft_wrap=True)  # fmt: skip
        return []
    freeze(plan, store, folder, [*missing, REPORT])
    if not missing and not alive.own:
        point_latest(folder)
        written, text = write_report(plan, store, folder)
        console.print("Nothing is left to compute.", highlight=False)
        print(text)
        if not written:
            sys.exit(1)
        return []
    submission = Submission(plan, store, folder, settings, _number(folder), dict(alive.own), alive.others)
    try:
        submission.send(made)
    except BaseException as error:
        left = [sent.job for sent in submission.sent]
        try:
            scheduler.cancel(left, PATIENCE)
        except (scheduler.Unreachable, subprocess.CalledProcessError) as fault:
            raise ConfigError(f"{error}; but they could not be cancelled ({fault}): scancel {' '.join(left)}") from None
        raise
    point_latest(folder)
    if alive.report:  # the new one waits for everything
        scheduler.cancel([alive.report], PATIENCE)
    _tell(plan, folder, settings, made, submission, alive, console)
    return submission.sent


def _tell(
    plan: Plan, folder: Path, settings: Settings, made: Sequence[Bundle], submission: "Submission", alive: "Living",
    console: Console,
) -> None:  # fmt: skip
    """What was submitted, what it will cost, and how to go on."""
    total, missing = len(plan.entries), sum(len(bundle.entries) for bundle in made)
    kept = [f"{total - missing - len(alive.own)} cached"]
    kept += [f"{len(alive.own)} already submitted"] if alive.own else []
    kept += [f"{len(alive.others)} of them for a job of another grid to compute"] if alive.others else []
    jobs = [sent.job for sent in submission.sent]
    gpu, core = cost(made, settings)
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    outputs = folder.parents[1]
    elsewhere = "" if outputs == Path("outputs").absolute() else f" --outputs {shlex.quote(str(outputs))}"
    lines = [
        f"{counted(len(plan.rows), 'row')}, {counted(total, 'step')}: {missing} submitted as "
        f"{counted(len(jobs) - 1, 'job')} and the report, " + ", ".join(kept),
        f"jobs     {ranges(jobs)}",
        f"cost     about {gpu:.1f} GPU-hours, {core:.1f} core-hours (estimated)",
        f"folder   {shown}",
        f"next     python -m src.status {folder.name}{elsewhere}  (also src.logs, src.retry, src.cancel)",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Living:
    """Steps for which there is a job that is queued or runs, by name: of this grid, and of others."""

    own: Mapping[str, Sent]
    others: Mapping[str, str]
    report: str | None
    """The job of this grid's report, if it is alive."""


def living(store: Store, folder: Path, plan: Plan) -> Living:
    """Ask SLURM which of the jobs that were submitted for the plan's missing steps are alive."""
    missing = [entry.step for entry in plan.missing()]
    everything = {name: sent for sent in read_sent(folder) for name in sent.steps}
    own = {name: sent for name, sent in everything.items() if name in {step.name for step in missing}}
    report = everything[REPORT].job if REPORT in everything else None
    others: dict[str, str] = {}
    for step in missing:
        try:
            record = json.loads(_claim(store, step.name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if record["grid"] != str(folder):
            others[step.name] = record["job"]
    asked = [*(sent.job for sent in own.values()), *others.values(), *([report] if report else [])]
    if not asked:
        return Living({}, {}, None)
    known = _asked(partial(scheduler.queue, asked, PATIENCE))
    alive = {job for job, queued in known.items() if queued.alive}
    return Living(
        {name: sent for name, sent in own.items() if sent.job in alive},
        {name: job for name, job in others.items() if job in alive and not (name in own and own[name].job in alive)},
        report if report in alive else None,
    )


@dataclass
class Submission:
    """One call of sbatch after the other, each job's id being what the next ones wait for."""

    plan: Plan
    store: Store
    folder: Path
    settings: Settings
    number: int
    jobs: dict[str, Sent]
    """Step -> the job of this grid that computes it."""
    others: Mapping[str, str]
    """Step -> a job of another grid that computes it."""
    sent: list[Sent] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "submissions" / str(self.number)

    def send(self, made: Sequence[Bundle]) -> None:
        """Freeze plan and source, then submit all bundles and the report."""
        self.plan.save(self.home / "plan.json")
        (self.home / "launcher.json").write_text(json.dumps(asdict(self.settings), indent=1), encoding="utf-8")
        code = snapshot(self.home / "code") if self.settings.snapshot else ROOT
        plan, seconds = self.home / "plan.json", 60 * self.settings.checkpoint_minutes
        watch = partial(streamed, self.store.root, self.folder, self.plan.rows[0].config.get("tracker"))
        earlier = dict(self.jobs)
        for group in _arrays(made, self.settings, self.others):
            jobs = [Job(plan, self.store.root, self.folder, bundle.names, seconds, watch) for bundle in group]
            resources, dependency = self.settings.of(group[0]), self._dependency(group[0], earlier)
            name = group[0].names[0] if len(group) == 1 else f"{'-'.join(group[0].kinds)}-x{len(group)}"
            ids = self._sbatch(jobs, name, resources, group[0].ranks, dependency, code)
            for job, bundle in zip(ids, group, strict=True):
                self._note(job, bundle.names)
        everything = dict.fromkeys(sent.job for sent in [*self.jobs.values(), *self.sent])
        report = partial(write_report_job, plan, self.store.root, self.folder)
        after = "afterany:" + ":".join(everything)
        (job,) = self._sbatch([report], f"report-{self.folder.name}", self.settings.of_report, 1, after, code)
        self._note(job, (REPORT,))

    def _dependency(self, bundle: Bundle, earlier: Mapping[str, Sent]) -> str | None:
        """afterok: the job's only step is what is waited for; afterany: of several, or of another grid's job, after
        which this one looks into the store. `earlier`: jobs of an earlier submission that are alive."""
        ok: list[str] = []
        anyway = [self.others[name] for name in bundle.names if name in self.others]
        for name in sorted(bundle.after | (_inputs(bundle) & earlier.keys())):
            (ok if len(self.jobs[name].steps) == 1 else anyway).append(self.jobs[name].job)
        parts = [f"{how}:{':'.join(dict.fromkeys(j))}" for how, j in (("afterok", ok), ("afterany", anyway)) if j]
        return ",".join(parts) or None

    def _note(self, job: str, names: tuple[str, ...]) -> None:
        """Keep who computes what, for this grid's commands and for other grids."""
        sent = Sent(job, names, self.number, {name: self.others[name] for name in names if name in self.others})
        self.sent.append(sent)
        with (self.folder / "jobs.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(sent)) + "\n")
        for name in names:
            if name != REPORT:
                self.jobs[name] = sent
                claim = _claim(self.store, name)
                claim.parent.mkdir(parents=True, exist_ok=True)
                claim.write_text(json.dumps({"job": job, "grid": str(self.folder)}), encoding="utf-8")

    def _sbatch(
        self, functions: Sequence[Any], name: str, resources: Resources, ranks: int, dependency: str | None, code: Path
    ) -> list[str]:
        """Submit one job, or an array, by submitit; the ids. Raises ConfigError with sbatch's own words."""
        from submitit.core.utils import FailedJobError
        from submitit.slurm.slurm import SlurmExecutor

        settings = self.settings
        executor = SlurmExecutor(jobs_folder(self.folder), python=settings.python)
        places = {
            "partition": resources.partition or settings.partition,
            "account": settings.account,
            "qos": settings.qos,
            "constraint": settings.constraint,
            "dependency": dependency,
            "gpus_per_node": resources.gpus_per_node or None,
        }
        chosen = {name: value for name, value in places.items() if value is not None}
        lead = min(settings.warning_seconds, 15 * resources.minutes)
        options = {
            "requeue": True,
            "kill-on-invalid-dep": "yes",
            "signal": f"{WARNING.name.removeprefix('SIG')}@{lead}",
            **settings.sbatch,
            **resources.sbatch,
        }
        if options["requeue"] is False:
            options["no-requeue"] = True
        executor.update_parameters(
            job_name=name,
            nodes=resources.nodes,
            ntasks_per_node=ranks // resources.nodes,
            cpus_per_task=resources.cpus_per_task,
            mem=f"{math.ceil(1024 * resources.mem_gb)}M",
            time=resources.minutes,
            array_parallelism=settings.array_parallelism,
            stderr_to_stdout=True,
            wckey=None,
            comment=f"palimpsest {self.folder.name}",
            setup=[*settings.setup, *script_lines(code, self.folder, name if ranks > 1 else None)],
            srun_args=["--kill-on-bad-exit=1", f"--cpus-per-task={resources.cpus_per_task}", *settings.srun],
            additional_parameters={name: v for name, v in options.items() if v is not None and v is not False},
            **chosen,
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                # submitit prints what it also raises
                with _outside_of_a_job(set(chosen)), redirect_stderr(io.StringIO()):
                    return [job.job_id for job in executor.submit_array(functions)]
            except FailedJobError as error:
                said = " ".join(line.removeprefix("sbatch: error: ") for line in str(error).splitlines() if line)
                if not scheduler.AWAY.search(said):
                    asked = ", ".join(f"{key}={value}" for key, value in self._chosen(resources).items())
                    undone = f"; {counted(len(self.sent), 'job')} of this grid cancelled again" if self.sent else ""
                    raise ConfigError(f"sbatch refused {name}: {said} (hydra.launcher: {asked}){undone}") from None
                if time.monotonic() > deadline:
                    raise ConfigError(f"SLURM's controller cannot be reached: {said}") from None
                print(f"SLURM's controller is away, asking again: {said}", file=sys.stderr)
                time.sleep(scheduler.PAUSE)

    def _chosen(self, resources: Resources) -> dict[str, Any]:
        """The settings that a site is most likely to have to mend."""
        places = {name: getattr(self.settings, name) for name in ("partition", "account", "qos", "constraint")}
        places["partition"] = resources.partition or places["partition"]
        return asdict(resources) | places | {"sbatch": self.settings.sbatch | resources.sbatch}


def script_lines(code: Path, grid: Path, step: str | None) -> list[str]:
    """Lines of the job's script: where the source is, and what follows when srun ends.

    A job that is still RUNNING then, was not ended by SLURM: it is put back into the queue if it asks for that, or if
    one of its processes was killed by a signal (128 + N; 255 is srun's own trouble); not if a rank of `step` (several
    ranks end each other) left a traceback, and not if it was killed three times before it could note its start.
    """
    failed = f"[ -e {shlex.quote(str(failure_file(grid, step)))} ]" if step else "false"
    return [
        f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}} PYTHONSAFEPATH=1 OMP_NUM_THREADS=1",
        "palimpsest_end() {",
        "  code=$?",
        "  trap - EXIT",
        f"  if {failed} || {{ [ $code -ne {REQUEUE} ] && {{ [ $code -le 128 ] || [ $code -gt 192 ]; }}; }}; then",
        "    exit $code",
        "  fi",
        "  job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}",
        "  job=${job:-$SLURM_JOB_ID} refused=0",
        "  command -v squeue >/dev/null || exit $code",
        f'  starts=$(grep -cs reached {shlex.quote(str(jobs_folder(grid)))}/attempts-"$job"-0.jsonl || true)',
        "  [ ${SLURM_RESTART_COUNT:-0} -lt $((${starts:-0} + 3)) ] || exit $code",
        "  for try in $(seq 60); do",
        '    state=$(squeue -h -j "$job" -o %T 2>/dev/null) || state=UNKNOWN',
        '    if [ "$state" = RUNNING ]; then',
        '      echo "srun ended with $code: back into the queue"',
        '      scontrol requeue "$job" && sleep 60',
        "      refused=$((refused + 1))",
        "      [ $refused -lt 3 ] || exit $code",
        '    elif [ "$state" != UNKNOWN ]; then exit $code; fi',
        "    sleep 5",
        "  done",
        "  exit $code",
        "}",
        "trap palimpsest_end EXIT",
    ]


def write_report_job(plan: Path, store: Path, folder: Path) -> None:
    """Body of the report's job."""
    written, text = write_report(Plan.load(plan), Store(store), folder)
    print(text)
    if not written:
        sys.exit(1)


def _arrays(made: Sequence[Bundle], settings: Settings, others: Mapping[str, str]) -> Iterator[list[Bundle]]:
    """Bundles that ask for the same and wait for the same go out together. Every group comes after what it needs."""
    groups: dict[Any, list[Bundle]] = {}
    for bundle in made:
        alone = bundle.names if bundle.ranks > 1 or any(name in others for name in bundle.names) else ()
        key = (canonical(asdict(settings.of(bundle))), bundle.after, _inputs(bundle), bundle.kinds, alone)
        groups.setdefault(key, []).append(bundle)
    for group in groups.values():
        yield from (group[i : i + LONGEST_ARRAY] for i in range(0, len(group), LONGEST_ARRAY))


def _inputs(bundle: Bundle) -> frozenset[str]:
    """What the bundle reads and does not make itself."""
    return frozenset(s.name for e in bundle.entries for s in e.step.inputs.values() if s.name not in bundle.names)


def snapshot(target: Path) -> Path:
    """Copy the source tree, without what Python made of it, and note its commit."""
    for name in COPIED:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    (target / COMMIT).write_text(git_commit() or "", encoding="utf-8")
    return target


def read_sent(folder: Path) -> list[Sent]:
    """The jobs that were submitted for a grid, oldest first."""
    try:
        lines = (folder / "jobs.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    records = [json.loads(line) for line in lines]
    return [Sent(**record | {"steps": tuple(record["steps"])}) for record in records]


def cost(made: Iterable[Bundle], settings: Settings) -> tuple[float, float]:
    """Estimated GPU-hours and core-hours of what the jobs ask for."""
    gpu = core = 0.0
    for bundle in made:
        resources = settings.of(bundle)
        gpu += bundle.seconds * resources.nodes * resources.gpus_per_node / 3600
        core += bundle.seconds * bundle.ranks * resources.cpus_per_task / 3600
    return gpu, core


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


def counted(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`"""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def ranges(jobs: Iterable[str]) -> str:
    """`12-15, 17, 20_0-20_3` from the ids of jobs."""
    runs: list[list[str]] = []
    for job in jobs:
        if runs and _follows(runs[-1][-1], job):
            runs[-1].append(job)
        else:
            runs.append([job])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _follows(before: str, job: str) -> bool:
    (base, _, index), (next_base, _, next_index) = before.partition("_"), job.partition("_")
    if index and next_index:
        return base == next_base and int(next_index) == int(index) + 1
    return not index and not next_index and int(next_base) == int(base) + 1


def _number(folder: Path) -> int:
    """The number of a new submission, whose folder is made here: two at once get two."""
    number = 1 + len(list(folder.glob("submissions/*")))
    while True:
        try:
            (folder / "submissions" / str(number)).mkdir(parents=True)
            return number
        except FileExistsError:
            number += 1


def _claim(store: Store, name: str) -> Path:
    """The note, beside the step's lease, of the job that is to compute it."""
    return store.root / ".work" / name / "job.json"


def _writable(folder: Path) -> bool:
    """Whether this user can write there, or make it."""
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK)


def _asked(question: Any) -> Any:
    """The answer of SLURM, or one line that says that there is none."""
    try:
        return question()
    except scheduler.Unreachable as error:
        raise ConfigError(f"SLURM's controller cannot be reached: {error}") from None
    except subprocess.CalledProcessError as error:
        raise ConfigError(f"{error.cmd[0]} failed: {' '.join(error.stderr.split())}") from None


@contextmanager
def _outside_of_a_job(chosen: set[str]) -> Iterator[None]:
    """Without the variables of the allocation that this process may run in, and without those that go before an option
    of the script; SBATCH_ACCOUNT and its like stay as defaults where nothing is `chosen`."""
    kept = {"SLURM_CONF", "SLURM_JWT", "SLURM_CLUSTERS"}
    kept |= {f"SBATCH_{name.upper()}" for name in ("partition", "account", "qos", "constraint") if name not in chosen}
    inherited = {k: v for k, v in os.environ.items() if k.startswith(("SLURM_", "SRUN_", "SBATCH_")) and k not in kept}
    for name in inherited:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(inherited)
