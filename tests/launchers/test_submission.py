"""What is submitted to SLURM, read off the scripts that sbatch was given and off what these do when they run."""

import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from submitit.core.utils import DelayedSubmission

from launchers import snapshot as copying
from launchers import submission
from launchers.sent import read_sent
from launchers.slurm import queue
from launchers.slurm.settings import Settings
from launchers.snapshot import COPIED, ROOT, snapshot
from launchers.view import ranges
from src import status
from src.grid.errors import ConfigError
from src.grid.execute import failure_file
from src.grid.job import Job
from src.grid.store import COMMIT, git_commit
from src.grid.typed import typed
from tests.grid.toys import Ranks, posing, toy, toy_row
from tests.launchers.fakes.grid import Grid, diamond, jobs_of
from tests.launchers.fakes.slurm import Slurm


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    monkeypatch.setattr(queue, "PAUSE", 0.01)
    with Slurm(tmp_path / "slurm", monkeypatch) as made:
        yield made


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A path that a shell would take apart."""
    return tmp_path / "out puts"


# What is asked for


def test_a_kind_gets_its_own_resources_and_the_settings_of_the_site(cluster: Slurm, outputs: Path) -> None:
    corpus = posing("corpus", "corpus")
    train = posing("train", "train-asr", {"corpus": corpus}, processes=4)
    grid = Grid(outputs, posing("discount", "discount-asr", {"model": train}))
    resources: dict[str, Any] = {
        "default": {"cpus_per_task": 2, "mem_gb": 1.5, "minutes": 30},
        "train": {"nodes": 2, "gpus_per_node": 2, "cpus_per_task": 8, "mem_gb": 256, "minutes": 1440},
        "discount": {"gpus_per_node": 1, "minutes": 1, "mem_gb": None},
        "report": {"minutes": 15},
    }
    site: dict[str, Any] = {"partition": "gpu", "account": "speech", "qos": "long", "constraint": "a100|h100"}
    options: dict[str, Any] = {"reservation": "spring", "mail-type": "FAIL", "exclude": "n[7-9]", "exclusive": True}
    grid.submit(resources=resources, sbatch=options, **site)
    names = {step.label: step.name for step in (corpus, train)}

    common = {
        "partition": "gpu", "account": "speech", "qos": "long", "constraint": "a100|h100", "reservation": "spring",
        "mail-type": "FAIL", "exclude": "n[7-9]", "exclusive": True, "requeue": True, "kill-on-invalid-dep": "yes",
        "open-mode": "append", "output": str(grid.folder / "jobs" / "%j_0_log.out"), "comment": "palimpsest toys",
    }  # fmt: skip
    small = {"nodes": "1", "ntasks-per-node": "1", "cpus-per-task": "2", "mem": "1536M"}
    assert cluster.script("12").options == common | small | {
        "job-name": names["corpus"], "time": "30", "signal": "USR2@120",
    }  # fmt: skip
    assert cluster.script("13").options == common | {
        "job-name": names["train-asr"], "dependency": "afterok:12", "nodes": "2", "ntasks-per-node": "2",
        "cpus-per-task": "8", "gpus-per-node": "2", "mem": "262144M", "time": "1440", "signal": "USR2@120",
    }  # fmt: skip
    told = cluster.script("14").options
    assert (told["gpus-per-node"], told["mem"]) == ("1", "1536M")
    assert (told["time"], told["signal"]) == ("1", "USR2@15"), "a quarter of the limit is the longest warning"
    assert cluster.script("15").options == common | small | {
        "job-name": "report-toys", "dependency": "afterany:12:13:14", "time": "15", "signal": "USR2@120",
    }  # fmt: skip


def test_what_a_site_does_not_say_is_left_to_slurm(cluster: Slurm, outputs: Path) -> None:
    Grid(outputs, toy("a")).submit()
    unsaid = {"partition", "account", "qos", "constraint", "gpus-per-node", "dependency", "wckey", "array", "error"}
    assert not unsaid & cluster.script("12").options.keys()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"resources": {"trian": {}}}, ["hydra.launcher.resources", "trian", "score, train"]),
        ({"resources": {"train": {"gpus_per_node": -1}}}, ["resources.train.gpus_per_node is -1", "at least 0"]),
        ({"resources": {"train": {"nodes": 0}}}, ["resources.train.nodes is 0", "at least 1"]),
        ({"resources": {"default": {"mem_gb": 0}}}, ["mem_gb is 0", "greater than 0"]),
        ({"resources": {"merge": {"minutes": "soon"}}}, ["resources.merge.minutes is 'soon'", "a whole number"]),
        ({"resources": {"merge": {"hours": 1}}}, ["resources.merge.hours", "no setting"]),
        pytest.param(
            {"resources": {"train": 5}}, ["hydra.launcher.resources.train", "5"],
        ),
        ({"warning_seconds": 0}, ["hydra.launcher.warning_seconds is 0", "at least 1"]),
        ({"array_parallelism": 0}, ["hydra.launcher.array_parallelism is 0"]),
        ({"pack_minutes": -1}, ["hydra.launcher.pack_minutes is -1"]),
        ({"checkpoint_minutes": "often"}, ["hydra.launcher.checkpoint_minutes", "a number"]),
        ({"snapshot": "perhaps"}, ["hydra.launcher.snapshot is 'perhaps'", "true or false"]),
        ({"setup": "module load cuda"}, ["hydra.launcher.setup"]),
        ({"partiton": "gpu"}, ["hydra.launcher.partiton is no setting"]),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_line(settings: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        typed(Settings, settings, "hydra.launcher")
    told = str(caught.value)
    assert all(text in told for text in said) and "\n" not in told, told


def test_ranks_have_to_fill_the_nodes_evenly(cluster: Slurm, outputs: Path) -> None:
    grid = Grid(outputs, posing("train", "train-asr", processes=3))
    with pytest.raises(ConfigError, match=r"train\.ranks is 3; it must be a multiple of .*resources\.train\.nodes=2"):
        grid.submit(resources={"train": {"nodes": 2}})
    assert not outputs.exists() and not cluster.calls("sbatch"), "nothing was written"


@pytest.mark.parametrize("kind", ["merge", "report"])
def test_what_has_one_task_gets_one_node(cluster: Slurm, outputs: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"resources\.{kind}\.nodes is 2"):
        Grid(outputs, posing("merge", "merge")).submit(resources={kind: {"nodes": 2}})


def test_an_option_of_sbatch_can_be_switched_off(cluster: Slurm, outputs: Path) -> None:
    Grid(outputs, toy("a")).submit(sbatch={"requeue": False, "nice": None})
    assert not {"requeue", "nice"} & cluster.script("12").options.keys()


# The script


def execute(cluster: Slurm, job: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script of a job, as SLURM would, with a srun that only ends."""
    base, _, element = job.partition("_")
    array = {"SLURM_ARRAY_JOB_ID": base, "SLURM_ARRAY_TASK_ID": element} if element else {}
    around = os.environ | array | {"SLURM_JOB_ID": cluster.raw[job]} | environment
    command = ["bash", str(cluster.script(job).file)]
    return subprocess.run(command, env=around, capture_output=True, text=True, check=False, timeout=240)


def test_setup_comes_first_and_python_imports_the_snapshot(cluster: Slurm, outputs: Path) -> None:
    grid = Grid(outputs, toy("a"))
    setup = ['export GREETING="good $DAY"', "export PYTHONPATH=/site/packages"]
    arguments = ["--container-image=/images/torch 2.sqsh", "--mpi=none"]
    grid.submit(snapshot=True, setup=setup, srun=arguments, resources={"default": {"cpus_per_task": 3}})
    done = execute(cluster, "12", DAY="morning")
    assert (done.returncode, done.stderr) == (0, "")
    (ran,) = [call for call in cluster.made if call.name == "srun"]
    assert ran.environment["GREETING"] == "good morning"
    code = grid.folder / "submissions" / "1" / "code"
    assert ran.environment["PYTHONPATH"] == f"{code}:/site/packages"
    assert {"--kill-on-bad-exit=1", "--cpus-per-task=3", *arguments} <= set(ran.arguments)
    command = ran.arguments[ran.arguments.index(sys.executable) :]
    assert command[1:] == ["-u", "-m", "submitit.core._submit", str(grid.folder / "jobs")]

    question = "import src.grid.job, launchers.bundles; print(src.grid.job.__file__, launchers.bundles.__file__)"
    told = subprocess.run([sys.executable, "-c", question], cwd=ROOT, env=ran.environment, capture_output=True)
    assert told.stdout.decode().count(str(code)) == 2, "in spite of the source in the working directory"


def test_python_may_be_a_command(cluster: Slurm, outputs: Path) -> None:
    Grid(outputs, toy("a"), toy("b", 2)).submit(python="apptainer exec --nv image.sif python")
    command = cluster.script("12").command
    assert "array" in cluster.script("12").options
    assert command[command.index("apptainer") :][:6] == ["apptainer", "exec", "--nv", "image.sif", "python", "-u"]


@pytest.mark.parametrize(
    ("code", "word", "again"),
    [
        (0, "RUNNING", False),
        (1, "RUNNING", False),
        (2, "RUNNING", False),
        (75, "RUNNING", True),
        (137, "RUNNING", True),
        (143, "RUNNING", True),
        (75, "COMPLETING", False),
        (143, "CANCELLED", False),
        (137, "TIMEOUT", False),
    ],
)
def test_a_job_that_asks_for_it_or_was_killed_goes_back_into_the_queue(
    cluster: Slurm, outputs: Path, code: int, word: str, again: bool
) -> None:
    grid = Grid(outputs, toy("a"))
    grid.submit(setup=["set -euo pipefail"])
    grid.fail(toy("a"), "of one step of several")
    cluster.put(word, "12")
    cluster.srun = code
    done = execute(cluster, "12")
    assert done.returncode == code
    assert cluster.calls("scontrol") == ([["requeue", "12"]] if again else [])
    assert ("back into the queue" in done.stdout) == again


@pytest.mark.parametrize("failed", [False, True])
def test_ranks_that_end_because_one_failed_do_not_go_back(cluster: Slurm, outputs: Path, failed: bool) -> None:
    step = Ranks(named="train it's", options={"processes": 2})
    grid = Grid(outputs, step)
    grid.submit()
    if failed:
        grid.fail(step)
    cluster.put("RUNNING", "12")
    cluster.srun = 143
    assert execute(cluster, "12").returncode == 143
    assert bool(cluster.calls("scontrol")) != failed


def test_a_requeue_outlives_a_controller_that_is_away(cluster: Slurm, outputs: Path) -> None:
    Grid(outputs, toy("a")).submit()
    cluster.put("RUNNING", "12")
    cluster.srun, cluster.away = 75, {"squeue": 3, "scontrol": 1}
    assert execute(cluster, "12").returncode == 75
    assert len(cluster.calls("scontrol")) == 2
    assert cluster.jobs["12"] == "PENDING"


@pytest.mark.parametrize(
    "element", [0, 2]
)
def test_an_element_of_an_array_goes_back_alone(cluster: Slurm, outputs: Path, element: int) -> None:
    Grid(outputs, *(toy(label, i) for i, label in enumerate("abc"))).submit()
    cluster.put("RUNNING", "12_0", "12_1", "12_2")
    cluster.srun = 75
    execute(cluster, f"12_{element}")
    assert [word for word in cluster.jobs.values()] == [
        "PENDING" if job in (f"12_{element}", "15") else "RUNNING" for job in cluster.jobs
    ]  # fmt: skip


# Dependencies


def test_a_job_waits_for_what_it_reads_and_the_report_for_all(cluster: Slurm, outputs: Path) -> None:
    steps = diamond()
    grid = Grid(outputs, steps["d"], toy("e", 5, {"c": steps["c"]}, light=True))
    sent = jobs_of(grid.submit())
    assert sent == {("a",): "12", ("b",): "13_0", ("c",): "13_1", ("d",): "15", ("e",): "16", ("report",): "17"}
    waits = {job: cluster.script(job).options.get("dependency") for job in sent.values()}
    assert waits == {
        "12": None, "13_0": "afterok:12", "13_1": "afterok:12", "15": "afterok:13_0:13_1", "16": "afterok:13_1",
        "17": "afterany:12:13_0:13_1:15:16",
    }  # fmt: skip
    assert cluster.script("13").options["array"] == "0-1%2"
    told = grid.printed.getvalue()
    assert "2 rows, 5 steps: 5 submitted as 5 jobs and the report, 0 cached" in told
    assert "jobs     12, 13_0-13_1, 15-17" in told


def test_each_job_is_to_run_its_own_steps(cluster: Slurm, outputs: Path) -> None:
    steps = diamond()
    grid = Grid(outputs, steps["d"])
    grid.submit(checkpoint_minutes=3)
    plan = grid.folder / "submissions" / "1" / "plan.json"
    for label, job in {"a": "12", "b": "13_0", "c": "13_1", "d": "15"}.items():
        given = DelayedSubmission.load(grid.folder / "jobs" / f"{job}_submitted.pkl").function
        assert isinstance(given, Job)
        assert (given.plan, given.store, given.grid) == (plan, grid.store.root, grid.folder)
        assert (given.steps, given.checkpoint_seconds) == ((steps[label].name,), 180.0)
    assert all(one.submission == 1 for one in read_sent(grid.folder))


def test_what_is_in_the_store_is_neither_submitted_nor_waited_for(cluster: Slurm, outputs: Path) -> None:
    steps = diamond()
    grid = Grid(outputs, steps["d"])
    grid.compute(steps["b"])
    assert jobs_of(grid.submit()) == {("c",): "12", ("d",): "13", ("report",): "14"}
    assert "dependency" not in cluster.script("12").options
    assert cluster.script("13").options["dependency"] == "afterok:12"
    assert "1 row, 4 steps: 2 submitted as 2 jobs and the report, 2 cached" in grid.printed.getvalue()


def test_small_last_steps_share_a_job(cluster: Slurm, outputs: Path) -> None:
    base = posing("train", "base")
    ends = [posing("merge", f"merge-{n}", {"base": base}) for n in range(3)]
    seconds: dict[str, Any] = {"base": 3600.0, "merge": 20.0, "discount": 60.0}
    discounted = [posing("discount", f"discounted-{n}", {"model": end}) for n, end in enumerate(ends)]
    grid = Grid(outputs, *discounted, **seconds)
    sent = jobs_of(grid.submit(pack_minutes=3, resources={"merge": {"mem_gb": 9}, "discount": {"gpus_per_node": 1}}))
    bundles = list(sent)
    assert [len(bundle) for bundle in bundles] == [1, 2, 4, 1]
    assert cluster.script(sent[bundles[2]]).options["dependency"] == "afterok:12"
    told = cluster.script(sent[bundles[2]]).options
    assert (told["mem"], told["gpus-per-node"]) == ("9216M", "1"), "enough for both kinds"


def test_an_array_runs_no_more_at_a_time_than_is_allowed(cluster: Slurm, outputs: Path) -> None:
    Grid(outputs, *(toy(f"t{number}", number) for number in range(5))).submit(array_parallelism=2)
    assert cluster.script("12").options["array"] == "0-4%2"
    assert cluster.script("12").options["job-name"] == "toy-x5"
    assert cluster.script("12").options["output"].endswith("/jobs/%A_%a_0_log.out")  # type: ignore[union-attr]


def test_steps_of_several_ranks_are_in_no_array(cluster: Slurm, outputs: Path) -> None:
    """The script of each names the traceback of its own step."""
    ends = [Ranks(named=f"r{number}", options={"processes": 2}) for number in range(2)]
    Grid(outputs, *ends).submit()
    for job, step in zip(("12", "13"), ends, strict=True):
        assert f"/failures/{step.name}.txt" in cluster.script(job).text
        assert cluster.script(job).options["ntasks-per-node"] == "2"


# Once more


def test_what_is_on_its_way_is_not_submitted_again(cluster: Slurm, outputs: Path) -> None:
    grid = Grid(outputs, diamond()["d"])
    grid.submit()
    assert grid.submit() == []
    assert "already submitted, with the settings of then: jobs 12, 13_0-13_1, 15" in grid.printed.getvalue()
    assert len(cluster.calls("sbatch")) == 4


def test_what_failed_is_submitted_again_beside_what_goes_on(cluster: Slurm, outputs: Path) -> None:
    steps = diamond()
    grid = Grid(outputs, steps["d"])
    grid.submit()
    grid.compute(steps["a"])
    grid.fail(steps["b"])
    cluster.put("COMPLETED", "12")
    cluster.put("FAILED", "13_0")
    cluster.put("RUNNING", "13_1")
    cluster.put("CANCELLED", "15")
    assert jobs_of(grid.submit()) == {("b",): "17", ("d",): "18", ("report",): "19"}
    assert cluster.script("18").options["dependency"] == "afterok:17:13_1"
    assert cluster.script("19").options["dependency"] == "afterany:13_1:17:18"
    assert not failure_file(grid.folder, steps["b"].name).exists()
    assert [one.submission for one in read_sent(grid.folder)] == [1] * 5 + [2] * 3
    assert "1 already submitted" in grid.printed.getvalue()


def test_a_job_of_several_steps_is_waited_for_however_it_ends(cluster: Slurm, outputs: Path) -> None:
    """It ends with an error if any of its steps failed, and that need not be the one that is read."""
    a = toy("a")
    grid = Grid(outputs, toy("b", 1, {"a": a}))
    assert jobs_of(grid.submit(pack_minutes=10)) == {("a", "b"): "12", ("report",): "13"}
    grid.rows.append(toy_row("c", toy("c", 2, {"a": a})))
    assert jobs_of(grid.submit()) == {("c",): "14", ("report",): "15"}
    assert cluster.script("14").options["dependency"] == "afterany:12"


def test_without_accounting_and_without_memory_of_the_jobs(cluster: Slurm, outputs: Path) -> None:
    grid = Grid(outputs, toy("a"))
    grid.submit()
    cluster.accounted = None
    cluster.forget()
    assert jobs_of(grid.submit()) == {("a",): "14", ("report",): "15"}


def test_the_report_of_the_last_submission_is_the_only_one(cluster: Slurm, outputs: Path) -> None:
    steps = diamond()
    grid = Grid(outputs, steps["d"])
    grid.submit()
    cluster.put("FAILED", "13_0")
    cluster.put("CANCELLED", "15")
    grid.submit()
    assert cluster.jobs["16"] == "CANCELLED" and cluster.jobs["19"] == "PENDING"


def test_a_report_that_was_cancelled_is_submitted_again(cluster: Slurm, outputs: Path) -> None:
    grid = Grid(outputs, diamond()["d"])
    grid.submit()
    cluster.put("CANCELLED", "16")
    assert jobs_of(grid.submit()) == {("report",): "17"}
    assert cluster.script("17").options["dependency"] == "afterany:12:13_0:13_1:15"


def test_a_step_that_another_grid_computes_is_waited_for(cluster: Slurm, outputs: Path) -> None:
    a = toy("a")
    first, second = Grid(outputs, toy("b", 1, {"a": a}), name="one"), Grid(outputs, toy("c", 2, {"a": a}), name="two")
    first.submit()
    sent = jobs_of(second.submit())
    assert sent == {("a",): "15", ("c",): "16", ("report",): "17"}
    assert cluster.script("15").options["dependency"] == "afterany:12"
    assert cluster.script("16").options["dependency"] == "afterok:15"
    assert "1 of them for a job of another grid to compute" in second.printed.getvalue()
    cluster.put("FAILED", "12", "15")
    third = Grid(outputs, toy("d", 3, {"a": a}), name="three")
    assert "dependency" not in cluster.script(jobs_of(third.submit())[("a",)]).options


def test_nothing_is_submitted_when_all_is_there(
    cluster: Slurm, outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = diamond()
    grid = Grid(outputs, steps["d"])
    grid.compute(steps["d"])
    report = types.SimpleNamespace(write=lambda rows, plan, store, folder: f"the table of {len(rows)} row")
    monkeypatch.setitem(sys.modules, "src.report.report", report)  # type: ignore[arg-type]
    assert grid.submit() == []
    assert "the table of 1 row" in capsys.readouterr().out
    assert not cluster.calls("sbatch")


# What can go wrong


def test_a_refusal_is_one_line_and_nothing_is_left(cluster: Slurm, outputs: Path) -> None:
    steps = diamond()
    grid = Grid(outputs, steps["d"])
    reason = "Requested node configuration is not available"
    cluster.refused = {f"--job-name={steps['d'].name}": f"{reason}\nsbatch: error: ask for less"}
    with pytest.raises(ConfigError) as caught:
        grid.submit(partition="gpu", resources={"default": {"gpus_per_node": 99}})
    said = str(caught.value)
    assert "\n" not in said and f"sbatch refused {steps['d'].name}: " in said and f"{reason} ask for less" in said
    assert "partition=gpu" in said and "gpus_per_node=99" in said
    assert "sbatch: error" not in said and "3 jobs of this grid cancelled again" in said
    assert cluster.jobs == {"12": "CANCELLED", "13_0": "CANCELLED", "13_1": "CANCELLED"}


@pytest.mark.parametrize("refused", ["--job-name=a", "--job-name=report"])
def test_after_a_refusal_the_mended_command_goes_through(cluster: Slurm, outputs: Path, refused: str) -> None:
    grid = Grid(outputs, toy("a"))
    cluster.refused = {refused: "Invalid account or account/partition combination specified"}
    with pytest.raises(ConfigError, match="Invalid account"):
        grid.submit(snapshot=True)
    cluster.refused = {}
    sent = grid.submit(snapshot=True, account="mine")
    assert [one.submission for one in sent] == [2, 2]
    assert {cluster.jobs[one.job] for one in sent} == {"PENDING"}


def test_a_refusal_is_told_even_if_nothing_can_be_cancelled(
    cluster: Slurm, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "PATIENCE", 0.0)
    cluster.refused, cluster.away = {"--job-name=report": "Invalid qos specification"}, {"scancel": 1000}
    with pytest.raises(ConfigError, match="Invalid qos specification"):
        Grid(outputs, toy("a")).submit()


def test_a_controller_that_is_away_at_first(
    cluster: Slurm, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.away = {"sbatch": 2}
    assert jobs_of(Grid(outputs, toy("a")).submit()) == {("a",): "12", ("report",): "13"}
    assert len(cluster.calls("sbatch")) == 4
    assert capsys.readouterr().err.count("SLURM's controller is away") == 2


def test_a_controller_that_stays_away(cluster: Slurm, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "PATIENCE", 0.0)
    grid = Grid(outputs, toy("a"))
    cluster.away = {"sbatch": 1000}
    with pytest.raises(ConfigError, match=r"SLURM cannot be asked: .*Unable to contact slurm controller") as caught:
        grid.submit()
    assert "\n" not in str(caught.value)
    cluster.away = {"squeue": 1000}
    grid.submit()
    with pytest.raises(ConfigError, match="SLURM cannot be asked"):
        grid.submit()
    assert set(cluster.jobs.values()) == {"PENDING"}, "what is on its way is left alone"


def test_where_there_is_no_slurm(outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"needs sbatch on the PATH: .*hydra/launcher=local") as caught:
        Grid(outputs, toy("a")).submit()
    assert "\n" not in str(caught.value) and not outputs.exists()


def test_where_half_of_slurm_is_missing(cluster: Slurm, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cluster.bin / "srun").unlink()
    monkeypatch.setenv("PATH", str(cluster.bin))
    with pytest.raises(ConfigError, match="srun"):
        Grid(outputs, toy("a")).submit()


def test_an_allocation_does_not_leak_into_what_is_submitted_from_it(
    cluster: Slurm, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    around = {
        "SLURM_JOB_ID": "7", "SLURM_NTASKS": "32", "SLURM_MEM_PER_NODE": "1", "SRUN_CPUS_PER_TASK": "5",
        "SLURM_CONF": "/etc/here.conf",
    }  # fmt: skip
    for name, value in around.items():
        monkeypatch.setenv(name, value)
    Grid(outputs, toy("a")).submit()
    seen = cluster.script("12").environment
    assert {name: seen[name] for name in around if name in seen} == {"SLURM_CONF": "/etc/here.conf"}
    assert around.items() <= os.environ.items(), "and this process keeps them"


def test_settings_go_before_the_defaults_of_the_shell(
    cluster: Slurm, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "debug")
    Grid(outputs, toy("a")).submit(partition="gpu")
    assert "SBATCH_PARTITION" not in cluster.script("12").environment


# The rest


def test_the_snapshot_is_the_source_and_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = [f"{name}/{file}" for name in COPIED for file in ("one.py", "deep/er/two.yaml")]
    for file in [*source, "src/__pycache__/one.pyc", "src/deep/__pycache__/two.pyc", "outputs/large", "tests/three.py"]:
        (tmp_path / "checkout" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "checkout" / file).write_text(f"this is {file}")
    monkeypatch.setattr(copying, "ROOT", tmp_path / "checkout")
    made = snapshot(tmp_path / "code")
    assert {str(file.relative_to(made)) for file in made.rglob("*") if file.is_file()} == {*source, COMMIT}
    assert all((made / file).read_text() == f"this is {file}" for file in source)
    assert (made / COMMIT).read_text() == (git_commit() or "")


@pytest.mark.parametrize(
    ("jobs", "text"),
    [
        ([], ""),
        (["12"], "12"),
        (["12", "13", "14", "16"], "12-14, 16"),
        (["12", "13_0", "13_1", "13_2", "16"], "12, 13_0-13_2, 16"),
        (["13_0", "14_1", "15"], "13_0, 14_1, 15"),
        (["job-8", "job-9", "job-10", "mail", "mail"], "job-8-job-10, mail, mail"),
    ],
)
def test_ranges(jobs: list[str], text: str) -> None:
    assert ranges(jobs) == text


# The command line


def command(outputs: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "src.run", "-m", *overrides, f"outputs={outputs}"]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)


def test_a_plan_names_the_jobs_and_submits_nothing(cluster: Slurm, outputs: Path) -> None:
    overrides = ["strategy=none,replay", "profile=smoke", "hydra/launcher=slurm_gpu", "train.ranks=4"]
    done = command(outputs, *overrides, "plan_only=true")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (first,) = [i for i, line in enumerate(lines) if "GPU-hours" in line]
    table = {line.split()[0].rpartition("-")[0]: line for line in lines[first + 2 :] if line.strip()}
    row = re.escape(next(line.split()[0] for line in lines if line.startswith("train-asr-")))
    assert re.search(rf"{row} +1 x 4 +4 +256 GB +24 h 00 min ", table["train-tts"])
    assert re.search(r" 1 x 1 +0 +32 GB +4 h 00 min ", table["corpus"])
    assert not outputs.exists() and not cluster.calls("sbatch")


def test_a_wrong_setting_of_the_command_is_one_line(cluster: Slurm, outputs: Path) -> None:
    setting = "hydra.launcher.resources.train.nodes=3"
    done = command(outputs, "strategy=none", "profile=smoke", "hydra/launcher=slurm", setting)
    told = [line for line in done.stderr.splitlines() if line and "HYDRA_FULL_ERROR" not in line]
    assert done.returncode == 1 and len(told) == 1, done.stderr
    assert "train.ranks is 1; it must be a multiple of" in told[0] and setting in told[0]
    assert not outputs.exists() and not cluster.calls("sbatch")


def test_the_next_command_that_is_named_finds_the_grid(cluster: Slurm, outputs: Path) -> None:
    grid = Grid(outputs, toy("a"))
    grid.submit()
    (line,) = [line for line in grid.printed.getvalue().splitlines() if line.startswith("next ")]
    assert status.main(shlex.split(line.partition("python -m src.status ")[2].partition("  (")[0])) == 0
