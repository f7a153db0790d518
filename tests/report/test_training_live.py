"""Measurements reach wandb while a step trains: the run is a real one, written offline in the place of a server."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src.grid.context import Context
from src.report.tracking import training_live
from src.report.tracking.training_live import streamed
from src.report.tracking.writing import Destination, start
from tests.report.fakegrid import FakeGrid
from tests.report.test_tracking import records
from tests.steps.makers import train_step


@pytest.fixture
def there(fake: FakeGrid, monkeypatch: pytest.MonkeyPatch) -> Destination:
    def offline(id: str, name: str, kind: str, config: Any, there: Destination, tags: Any) -> Any:
        return start(id, name, kind, config, replace(there, mode="offline"), tags)

    monkeypatch.setattr(training_live, "start", offline)
    monkeypatch.setattr(training_live, "INTERVAL", 0.05)
    monkeypatch.setattr(training_live, "PATIENCE", 120.0)
    return replace(Destination.of({"mode": "offline"}, fake.grid), mode="online")


def points(folder: Path) -> list[tuple[int, float]]:
    found = []
    for record in records(folder):
        if record.HasField("history"):
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            found.append((items["_step"], items["loss"]))
    return found


def test_each_point_is_sent_once_and_a_resumed_step_goes_on(fake: FakeGrid, there: Destination) -> None:
    step = train_step()
    work = fake.store.work(step)
    work.mkdir(parents=True)
    context = Context(work, "train")
    with streamed(fake.store.root, there, step):
        context.begin_metrics([{"step": 10, "loss": 3.0}])
        context.add_metrics({"step": 20, "loss": 2.0})
    time.sleep(1.1)  # offline folders are named by the second
    with streamed(fake.store.root, there, step):  # an attempt that resumes behind step 10
        context.begin_metrics([{"step": 10, "loss": 3.0}])
        context.add_metrics({"step": 20, "loss": 2.0})
        context.add_metrics({"step": 30, "loss": 1.0})
    runs = sorted((fake.root / "wandb").glob(f"offline-run-*-{step.fingerprint[:16]}"))
    told = [points(run) for run in runs]
    assert sorted(set().union(*told)) == [(10, 3.0), (20, 2.0), (30, 1.0)]
    assert all(len(set(one)) == len(one) for one in told)


def test_trouble_with_wandb_is_not_the_steps(
    fake: FakeGrid, there: Destination, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(training_live, "start", fail)
    step = train_step()
    fake.store.work(step).mkdir(parents=True)
    with streamed(fake.store.root, there, step):
        Context(fake.store.work(step), "train").begin_metrics([{"step": 10, "loss": 3.0}])
    assert "no route to host" in caplog.text


def test_offline_nothing_is_sent(fake: FakeGrid) -> None:
    step = train_step()
    with streamed(fake.store.root, Destination.of({"mode": "offline"}, fake.grid), step):
        pass
    assert not (fake.root / "wandb").exists()
