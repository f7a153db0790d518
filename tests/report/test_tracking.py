import json
import os
import struct
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2

from src.grid.execute import failure_file
from src.grid.step import closure
from src.machine import services
from src.report.report import write
from src.report.tracking import recording, trainings, writing
from src.report.tracking.rows import run_ids, state_of
from src.report.tracking.writing import Destination
from tests.report.fakegrid import FakeGrid

pytestmark = pytest.mark.usefixtures("undrawn")
KEY = "0123456789abcdef" * 2 + "01234567"


def offline(fake: FakeGrid, **settings: object) -> FakeGrid:
    for row in fake.rows:
        row.config["tracker"] = {"mode": "offline", **settings}
    return fake


def written(fake: FakeGrid) -> list[Path]:
    return sorted((fake.root / "wandb").glob("offline-run-*"))


def records(folder: Path) -> list[Any]:
    """What `wandb sync` would read of a run that was finished. wandb's service writes the end a moment after that."""
    end = time.monotonic() + 60
    while not (found := _records(folder)) or found[-1].WhichOneof("record_type") != "exit":
        assert time.monotonic() < end, f"{folder} has no end"
        time.sleep(0.05)
    return found


def _records(folder: Path) -> list[Any]:
    """LevelDB's log format, in blocks of 32 KiB, of protocol buffers; those that are whole."""
    data = next(folder.glob("run-*.wandb")).read_bytes()
    found: list[Any] = []
    parts, at = b"", 7
    if len(data) < at:
        return found
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no room for a header: the rest of the block is padding
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        if at + 7 + length > len(data):
            break
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            found.append(wandb_internal_pb2.Record.FromString(parts))  # type: ignore[attr-defined]
            parts = b""
    return found


def run_of(folder: Path) -> Any:
    return [record.run for record in records(folder) if record.WhichOneof("record_type") == "run"][-1]


def config_of(run: Any) -> dict[str, Any]:
    return {item.key: json.loads(item.value_json) for item in run.config.update}


def history(folder: Path) -> list[dict[str, Any]]:
    lines = [record.history.item for record in records(folder) if record.HasField("history")]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in line} for line in lines]


def summary(folder: Path) -> dict[str, Any]:
    return {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in records(folder)
        for item in record.summary.update
    }


def by_name(fake: FakeGrid) -> dict[str, Path]:
    return {run_of(folder).display_name: folder for folder in written(fake)}


def test_one_folder_for_each_training_step_row_and_grid(fake: FakeGrid) -> None:
    offline(fake.add(["original", "none", "merge_linear", "replay"]), tags=["mine"], notes="a note")
    text = write(fake.rows, fake.plan(), fake.store, fake.grid)
    runs = {}
    for folder in written(fake):
        run = run_of(folder)
        assert folder.name.endswith(run.run_id) and run.run_id not in runs
        runs[run.run_id] = run
    kinds = [run.job_type for run in runs.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {"train": 7, "row": 4, "grid": 1}
    assert {run.run_group for run in runs.values()} == {fake.grid.name}
    assert {run.project for run in runs.values()} == {"palimpsest"}
    assert {run.notes for run in runs.values()} == {"a note"}
    assert {tuple(run.tags) for run in runs.values() if run.job_type == "row"} == {("mine", "complete")}
    assert "12 runs are kept offline" in text and "wandb leet" in text


def test_a_row_begins_with_its_components_and_leaves_noise_out(fake: FakeGrid) -> None:
    offline(fake.add(["scale_14_replay"], seeds=[3]))
    fake.add(["scale_14_replay"], seeds=[3], replay_ratio=0.2)
    plan = replace(fake.plan(), about={"command": "python -m src.run", "commit": "c0ffee"})
    write(offline(fake).rows, plan, fake.store, fake.grid)
    found = [config_of(run_of(folder)) for folder in written(fake) if run_of(folder).job_type == "row"]
    for config, ratio in zip(sorted(found, key=lambda config: -config["replay"]), (0.4, 0.2), strict=True):
        config.pop("_wandb")
        assert config.pop("artifacts").keys() == {"scores", "model"}
        assert config.pop("label").startswith("Scaling (alpha 14) w/ R (replay.ratio=")
        commit = fake.store.manifest(fake.rows[0].evaluate)["git"]
        assert config == {
            "strategy": "scale_14_replay", "replay": ratio, "merge": "none", "alpha": 14, "method": "none", "seed": 3,
            "profile": "fake", "model": "scratch", "grid": "fake", "command": "python -m src.run", "commit": commit,
            "settings": {"replay": {"ratio": ratio}},
        }  # fmt: skip


def test_every_score_is_logged_once_with_means_forgetting_and_cost(fake: FakeGrid) -> None:
    offline(fake.add(["original", "replay"]))
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    row = fake.rows[1]
    folder = by_name(fake)["Replay, seed 0"]
    lines = history(folder)
    scores = json.loads((fake.store.folder(row.evaluate) / "scores.json").read_text())["scores"]
    for key, score in scores.items():
        assert [line[key] for line in lines if key in line] == [score["value"]]
    told = summary(folder)
    assert {key: told[key] for key in scores} == {key: score["value"] for key, score in scores.items()}
    assert told["qa/animals/t2t/n"] == 20 and told["qa/animals/t2t/low"] == scores["qa/animals/t2t"]["interval"][0]
    mean = sum(scores[f"qa/{name}/t2t"]["value"] for name in fake.sets) / 3
    original = json.loads((fake.store.folder(fake.rows[0].evaluate) / "scores.json").read_text())["scores"]
    before = sum(original[f"qa/{name}/t2t"]["value"] for name in fake.sets) / 3
    assert told["mean/t2t"] == pytest.approx(mean) and told["retention/t2t"] == pytest.approx(mean / before)
    stages = [line for line in lines if "stage/number" in line]
    assert [line["stage/name"] for line in stages] == ["ASR", "TTS", "SQA"]
    assert stages[-1]["stage/forgetting/t2t"] == told["forgetting/t2t"]
    spent = sum(fake.store.manifest(step)["seconds"] for step in closure(row.steps))
    assert told["cost/seconds"] == pytest.approx(spent) and told["cost/training_seconds"] == 3 * 55
    assert len(list(folder.rglob("*.flac"))) == 9


def test_a_training_has_its_own_times(fake: FakeGrid) -> None:
    offline(fake.add(["none"]))
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    step = next(iter(fake.rows[0].curve.values())).inputs["responses"].inputs["model"]
    lines = history(by_name(fake)[step.name])
    assert [line["loss"] for line in lines] == [3 / (i + 1) for i in range(9)]
    points = [{"step": i, "tokens": 100 * i} for i in (1, 2, 3)]
    made = trainings.timed(points, {1: 50, 2: 100, 3: 25}, end=1000.0)
    assert [(point["seconds"], point["_timestamp"]) for point in made] == [(2, 995), (3, 996), (7, 1000)]
    assert all("_timestamp" not in point for point in trainings.timed(points, {1: 50}, end=1000.0))


def test_the_grid_has_the_whole_table(fake: FakeGrid) -> None:
    offline(fake.add(["original", "replay"]))
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    (file,) = by_name(fake)["fake"].rglob("*.table.json")
    table = json.loads(file.read_text())
    told = json.loads((fake.grid / "table.json").read_text())
    names = table["columns"]
    assert len(names) == 1 + 7 + 2 + 4 * len(told["columns"]) and len(set(names)) == len(names)
    original, replay = (dict(zip(names, values, strict=True)) for values in table["data"])
    assert (original["label"], replay["replay"], replay["state"]) == ("Original", 0.4, "complete")
    assert replay["Animals S2S"] == told["rows"][1]["scores"]["qa/animals/s2s"]["mean"]
    assert original["Animals S2S"] is None
    artifacts = [record.artifact for record in records(by_name(fake)["fake"]) if record.HasField("artifact")]
    (report,) = [artifact for artifact in artifacts if artifact.type == "report"]
    files = [entry.path for entry in report.manifest.contents]
    if not files:
        files = list(json.loads(Path(report.manifest.manifest_file_path).read_text())["contents"])
    scores = [f"store/{row.evaluate.name}/manifest.json" for row in fake.rows]
    assert {"index.html", "table.json", *scores} <= set(files)


def test_failed_and_blocked_rows_say_why(fake: FakeGrid) -> None:
    offline(fake.add(["original", "none"]))
    offline(fake.add(["merge_ties", "merge_dare"], publish=False))
    ties, dare = fake.rows[2:]
    broken = ties.evaluate.inputs["responses"]
    merge = dare.evaluate.inputs["responses"].inputs["model"]
    fake.store.move_aside(merge.inputs["stages.tts"])
    for step in (broken, merge.inputs["stages.tts"]):
        failure_file(fake.grid, step.name).parent.mkdir(parents=True, exist_ok=True)
    failure_file(fake.grid, broken.name).write_text("Traceback\nValueError: too long\n")
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    folder = by_name(fake)["Merge (TIES), seed 0"]
    told, run = summary(folder), run_of(folder)
    assert (told["state"], told["failed_step"], told["reason"]) == ("failed", broken.name, "ValueError: too long")
    assert list(run.tags) == ["failed"]
    exits = [record.exit.exit_code for record in records(folder) if record.HasField("exit")]
    assert exits == [1]
    failure_file(fake.grid, merge.inputs["stages.tts"].name).write_text("MemoryError")
    assert state_of(dare, fake.store, fake.grid) == ("blocked", merge.inputs["stages.tts"])
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    assert list(run_of(by_name(fake)["Merge (DARE), seed 0"]).tags) == ["blocked"]


def test_only_what_changed_is_written_again(fake: FakeGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(fake.add(["original", "none"]))
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    before = written(fake)
    with monkeypatch.context() as patch:
        patch.setattr(writing, "_write", None)  # would raise
        again = replace(fake.plan(), about={"command": "another", "commit": "another"})
        assert "wandb" not in write(fake.rows, again, fake.store, fake.grid)
    assert written(fake) == before
    lost = by_name(fake)["No mitigation, seed 0"]
    (lost / "half").touch()  # an attempt that was cut off before its mark
    id = run_of(lost).run_id
    next((fake.root / "wandb" / ".written").rglob(id)).unlink()
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    assert len(written(fake)) == len(before) and not (by_name(fake)["No mitigation, seed 0"] / "half").exists()


def test_ids_are_of_grid_row_and_seed(fake: FakeGrid) -> None:
    fake.add(["none", "replay"], seeds=[0, 1])
    ids = run_ids("one", fake.rows)
    assert len({*ids, *run_ids("two", fake.rows)}) == 8
    twice = [*fake.rows, replace(fake.rows[0], evaluate=fake.rows[1].evaluate)]
    same = replace(fake.rows[0], evaluate=fake.rows[0].curve["sqa"], further={"arc": fake.rows[0].evaluate})
    assert run_ids("one", [same])[0] == ids[0] and len(set(run_ids("one", twice))) == 5


def test_a_job_writes_the_row_that_its_step_has_scored(fake: FakeGrid) -> None:
    offline(fake.add(["original", "none"], publish=False))
    fake.grid.mkdir(parents=True)
    fake.plan().save(fake.grid / "plan.json")
    with recording.watched(fake.grid / "plan.json", fake.store.root, fake.grid, fake.rows[0].evaluate):
        FakeGrid(fake.root).add(["original"])
    assert list(by_name(fake)) == ["Original, seed 0"]


def test_disabled_writes_nothing(fake: FakeGrid) -> None:
    offline(fake.add(["none"]), mode="disabled")
    assert "wandb" not in write(fake.rows, fake.plan(), fake.store, fake.grid)
    assert not (fake.root / "wandb").exists()


def test_a_failure_is_a_warning(fake: FakeGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(fake.add(["none"]))

    def fail(*_: object) -> None:
        raise OSError("disk\nfull")

    monkeypatch.setattr(writing, "_write", fail)
    text = write(fake.rows, fake.plan(), fake.store, fake.grid)
    assert "warning: wandb (offline) gave up after 0 runs of 6: disk full" in text
    assert (fake.grid / "index.html").exists()


def test_a_server_that_does_not_answer_is_a_warning(fake: FakeGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(writing, "PATIENCE", 2.0)
    offline(fake.add(["none"]), mode="auto")
    text = write(fake.rows, fake.plan(), fake.store, fake.grid)
    assert "warning: wandb (online) gave up after 0 runs of 6" in text and KEY not in text
    for folder, _, names in os.walk(fake.root):
        for name in names:
            assert KEY.encode() not in (Path(folder) / name).read_bytes(), name


def test_what_the_tracker_leaves_open_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    open_: dict[str, Any] = {"mode": "offline", "project": None, "entity": None, "tags": [], "notes": None}
    there = Destination.of(open_, tmp_path / "grid")
    assert (there.project, there.entity, there.tags, there.notes) == ("palimpsest", None, (), None)
    for name, value in {"PROJECT": "p", "ENTITY": "e", "TAGS": "a, b", "NOTES": "n"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    there = Destination.of(open_, tmp_path / "grid")
    assert (there.project, there.entity, there.tags, there.notes) == ("p", "e", ("a", "b"), "n")
    there = Destination.of({"mode": "offline", "project": "mine", "tags": ["c"]}, tmp_path / "grid")
    assert (there.project, there.entity, there.tags) == ("mine", "e", ("c",))
    assert Destination.of(None, tmp_path / "grid").mode == "disabled"


def test_mode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert services.resolve_mode("auto") == "offline"
    for fixed in ("online", "offline", "disabled"):
        assert services.resolve_mode(fixed) == fixed
    file = tmp_path / "netrc"
    file.write_text(f"machine example.org login user password {KEY}\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    assert services.resolve_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_BASE_URL", "https://example.org/path")
    assert services.resolve_mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    assert services.resolve_mode("auto") == "offline"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_BASE_URL")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert services.resolve_mode("auto") == "online"


def test_a_run_that_another_process_writes_is_waited_for(fake: FakeGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PATIENCE", 0.3)
    offline(fake.add(["none"]))
    there = Destination.of(fake.rows[0].config["tracker"], fake.grid)
    (id,) = run_ids(fake.grid.name, fake.rows)
    with writing._marked(there.mark(id)):
        text = write(fake.rows, fake.plan(), fake.store, fake.grid)
    assert "another process is writing the same run" in text
    assert "wandb: 6 runs" in write(fake.rows, fake.plan(), fake.store, fake.grid)
    assert recording.PATIENCE > 1, "the limit of the product is not the test's"


def test_no_heavy_import_without_need() -> None:
    import subprocess
    import sys

    code = "import src.report.report, sys; print([m for m in ('torch', 'wandb', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
