"""`python -m src.dashboard`: a workspace in a project, and the same as a file."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from src.dashboard import main
from src.machine import services
from src.report.report import write
from tests.report.fakegrid import FakeGrid
from tests.report.standin import ENTITY, StandIn

pytestmark = pytest.mark.usefixtures("undrawn")
KEY = "0123456789abcdef" * 2 + "01234567"


def grid(fake: FakeGrid, seeds: tuple[int, ...] = (0,)) -> FakeGrid:
    fake.add(["original", "none", "replay"], seeds=seeds)
    write(fake.rows, fake.plan(), fake.store, fake.grid)
    for row in fake.rows:
        row.config["tracker"] = {"mode": "auto", "project": None, "entity": None}
    fake.plan().save(fake.grid / "plan.json")
    return fake


def panels(spec: dict[str, Any], section: str) -> list[dict[str, Any]]:
    (found,) = [one for one in spec["section"]["panelBankConfig"]["sections"] if one["name"].startswith(section)]
    return [panel["config"] for panel in found["panels"]]


def check(spec: dict[str, Any], fake: FakeGrid) -> None:
    (runs,) = spec["section"]["runSets"]
    group, trainings = runs["filters"]["filters"]
    assert (group["key"]["name"], group["value"]) == ("group", "fake")
    trained = {file.parent.name for file in fake.store.root.glob("*/metrics.jsonl")}
    assert trainings["connector"] == "OR" and set(trainings["value"]) == trained
    assert [key["name"] for key in runs["grouping"]] == ["label.value"]
    (coordinates,) = panels(spec, "Components and scores")
    seen = [column["accessor"] for column in coordinates["columns"]]
    assert {"config:replay.value", "config:merge.value", "summary:mean/s2s", "summary:forgetting/t2t"} <= set(seen)
    assert {panel["xAxis"] for panel in panels(spec, "Forgetting by stage")} == {"stage/number"}
    assert ["loss"] in [panel["metrics"] for panel in panels(spec, "Training")]
    assert panels(spec, "Spoken answers")[0]["mediaKeys"] == ["spoken answers"]
    table = json.loads((fake.grid / "table.json").read_text())
    main_columns = [column["key"] for column in table["columns"] if column["table"] == "main"]
    shown = [key for panel in panels(spec, "Every score") for key in panel["metrics"]]
    assert set(main_columns) <= set(shown)


def test_a_file_where_the_runs_are_kept_offline(fake: FakeGrid, capsys: pytest.CaptureFixture[str]) -> None:
    grid(fake)
    assert main(["fake", "--outputs", str(fake.root)]) == 0
    told = capsys.readouterr().out
    assert "workspace.json: the runs are kept offline" in told and "wandb leet" in told
    spec = json.loads((fake.grid / "workspace.json").read_text())["spec"]
    check(spec, fake)
    bars = panels(spec, "Abilities: low, value and high")
    assert ["mean/t2t/low", "mean/t2t", "mean/t2t/high"] in [panel["metrics"] for panel in bars]


def test_a_file_where_no_runs_are_written(
    fake: FakeGrid, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid(fake)
    monkeypatch.setattr(services, "resolve_mode", lambda mode: "disabled")
    assert main(["fake", "--outputs", str(fake.root)]) == 0
    told = capsys.readouterr().out
    assert "workspace.json: no runs are written" in told and "wandb leet" not in told
    assert json.loads((fake.grid / "workspace.json").read_text())["spec"]


def test_several_seeds_are_averaged(fake: FakeGrid, capsys: pytest.CaptureFixture[str]) -> None:
    grid(fake, (0, 1, 2))
    assert main(["fake", "--outputs", str(fake.root)]) == 0
    spec = json.loads((fake.grid / "workspace.json").read_text())["spec"]
    for panel in panels(spec, "Abilities: mean and deviation over 3 seeds"):
        assert (panel["groupBy"], panel["groupAgg"], panel["groupArea"]) == ("label.value", "mean", "stddev")


def test_saved_in_the_project_and_replaced(
    fake: FakeGrid, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid(fake)
    with StandIn() as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_PROJECT", "ours")
        for _ in range(2):
            assert main(["fake", "--outputs", str(fake.root)]) == 0
        assert not server.unknown
    address = capsys.readouterr().out.splitlines()
    assert len(set(address)) == 1 and re.fullmatch(rf"http://127.0.0.1:\d+/{ENTITY}/ours\?nw=\w+", address[0])
    first, second = server.views
    assert (first["entityName"], first["projectName"], first["displayName"]) == (ENTITY, "ours", "fake")
    assert "id" not in first and second["id"] == "view-1" and second["name"] == first["name"]
    check(json.loads(second["spec"]), fake)


def test_a_server_that_does_not_answer(
    fake: FakeGrid, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid(fake)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    with monkeypatch.context() as patch:
        patch.setattr("wandb_workspaces.workspaces.Workspace.save", _refused)
        assert main(["fake", "--outputs", str(fake.root)]) == 1
    assert "the server did not take it (refused)" in capsys.readouterr().out
    assert json.loads((fake.grid / "workspace.json").read_text())["entity"] == "team"


def _refused(_: object) -> None:
    raise ConnectionError("refused")


@pytest.mark.parametrize(("name", "told"), [("other", "other names no grids"), ("fake", "fake has no report yet")])
def test_no_grid_or_no_report(
    fake: FakeGrid, name: str, told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake.add(["none"])
    fake.grid.mkdir(parents=True)
    fake.plan().save(fake.grid / "plan.json")
    assert main([name, "--outputs", str(fake.root)]) == 2
    assert told in capsys.readouterr().err
