"""The store: what counts as an artifact, and what happens to one that is damaged."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from src.grid import store as store_module
from src.grid.errors import StepError
from src.grid.execute import execute
from src.grid.instructions import described
from src.grid.step import Step
from src.grid.store import Store, same_work
from tests.grid.toys import toy


@pytest.fixture
def step() -> Step:
    return toy("a", 7)


@pytest.fixture
def folder(tmp_path: Path, step: Step) -> Path:
    return execute(step, Store(tmp_path))


def same_size(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(bytes(data))


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a file is gone": lambda folder: (folder / "number.txt").unlink(),
    "a file in a folder is gone": lambda folder: (folder / "parts" / "twice.txt").unlink(),
    "a file is cut": lambda folder: os.truncate(folder / "number.txt", 1),
    "a byte is changed": lambda folder: same_size(folder / "number.txt"),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "half a manifest": lambda folder: os.truncate(folder / "manifest.json", 100),
    "a manifest of something else": lambda folder: (folder / "manifest.json").write_text("[1, 2]"),
    "a manifest of another step": lambda folder: (folder / "manifest.json").write_text(
        (folder / "manifest.json").read_text().replace('"fingerprint": "', '"fingerprint": "0')
    ),
    "everything but the folder": empty,
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_seen_and_the_step_is_computed_again(what: str, tmp_path: Path, folder: Path, step: Step) -> None:
    assert Store(tmp_path).lookup(step) == folder
    DAMAGE[what](folder)
    store = Store(tmp_path)
    assert store.lookup(step) is None
    assert list(store.damaged) == [step.name]

    assert execute(step, Store(tmp_path)) == folder
    assert Store(tmp_path).lookup(step, rehash=True) == folder
    assert (folder / "number.txt").read_text() == "7\n"
    assert (tmp_path / ".damaged" / step.name).is_dir()


def test_rot_that_leaves_size_and_time_is_found_when_the_file_is_used(tmp_path: Path, folder: Path, step: Step) -> None:
    file = folder / "number.txt"
    time = file.stat().st_mtime_ns
    same_size(file)
    os.utime(file, ns=(time, time))
    assert Store(tmp_path).lookup(step, rehash=True) is None
    assert Store(tmp_path).lookup(step) is None, "once found, it is not forgotten"


def test_an_input_that_is_damaged_stops_a_step(tmp_path: Path, folder: Path, step: Step) -> None:
    same_size(folder / "number.txt")
    with pytest.raises(StepError, match=step.name):
        execute(toy("b", inputs={"a": step}), Store(tmp_path))
    assert not list(tmp_path.glob("b-*"))


def test_checksums_are_read_once(tmp_path: Path, folder: Path, step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(tmp_path / ".verified")
    read, real = [], store_module._sha256

    def counting(file: Path) -> str:
        read.append(file)
        return real(file)

    monkeypatch.setattr(store_module, "_sha256", counting)
    for _ in range(3):
        assert Store(tmp_path).lookup(step) == folder
    assert len(read) == 2


def test_manifest_says_where_the_artifact_comes_from(tmp_path: Path, folder: Path, step: Step) -> None:
    reader = toy("b", 1, {"a": step}, text="é")
    manifest = json.loads((execute(reader, Store(tmp_path)) / "manifest.json").read_text())
    assert manifest["fingerprint"] == reader.fingerprint
    assert manifest["settings"] == {"named": "b", "options": {"number": 1, "text": "é"}}
    (source,) = manifest["inputs"].values()
    assert (source["name"], source["fingerprint"]) == (step.name, step.fingerprint)
    assert source["content"] == Store(tmp_path).content(step)
    assert manifest["summary"] == {"number": 8}
    assert sorted(manifest["files"]) == ["number.txt", "parts/twice.txt"]
    assert manifest["seconds"] >= 0 and manifest["versions"]["python"]
    assert manifest["instructions"] == described()


def test_the_first_of_two_publishers_wins(tmp_path: Path, folder: Path, step: Step) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "number.txt").write_text("8\n")
    assert Store(tmp_path).publish(step, out, {}, 1.0) == folder
    assert not out.exists()
    assert (folder / "number.txt").read_text() == "7\n"


def test_a_step_may_not_write_a_manifest(tmp_path: Path, step: Step) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("{}")
    with pytest.raises(StepError, match=r"manifest\.json"):
        Store(tmp_path).publish(step, tmp_path / "out", {}, 1.0)


def test_an_artifact_made_from_another_input_does_not_count(tmp_path: Path, folder: Path, step: Step) -> None:
    store, reader = Store(tmp_path), toy("b", 1, {"a": step})
    execute(reader, store)
    assert store.lookup(reader) is not None

    store.move_aside(step)
    assert store.lookup(reader) is not None, "its input is only missing"
    execute(step, store)
    assert Store(tmp_path).lookup(reader) is not None, "its input has the same bits again"

    other = tmp_path / "other"
    other.mkdir()
    (other / "number.txt").write_text("8\n")
    store.move_aside(step)
    store.publish(step, other, {}, 1.0)
    later = Store(tmp_path)
    assert later.lookup(reader) is None
    assert "made from another" in later.damaged[reader.name]
    assert (execute(reader, Store(tmp_path)) / "number.txt").read_text() == "9\n"


def test_a_store_can_be_moved(tmp_path: Path, folder: Path, step: Step) -> None:
    shutil.copytree(tmp_path, tmp_path / "elsewhere")
    assert Store(tmp_path / "elsewhere").lookup(step) == tmp_path / "elsewhere" / step.name


def test_measured_times_are_shared_between_seeds() -> None:
    config = {"lr": 1e-3, "seed": 0, "nested": [{"seed": 1, "n": 2}]}
    other = {"lr": 1e-3, "seed": 5, "nested": [{"seed": 6, "n": 2}]}
    assert same_work("train", "a", config) == same_work("train", "a", other)
    assert same_work("train", "a", config) != same_work("train", "a", {**config, "lr": 2e-3})


@pytest.mark.parametrize("umask", [0o002, 0o027])
def test_a_group_reads_what_it_may_by_the_umask(umask: int, tmp_path: Path, step: Step) -> None:
    """safetensors leaves files that their owner alone may read."""
    store, out = Store(tmp_path), tmp_path / "out"
    before = os.umask(umask)
    try:
        (out / "folder").mkdir(parents=True)
        for name in ("one", "folder/two"):
            (out / name).write_text("1")
            (out / name).chmod(0o600)
        folder = store.publish(step, out, {}, 1.0)
    finally:
        os.umask(before)
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) == 3 and {file.stat().st_mode & 0o777 for file in files} == {0o666 & ~umask}
    assert store.lookup(step, rehash=True) == folder
