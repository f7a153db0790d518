"""`python -m src.grids`: what it lists."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from launchers.grid import freeze
from src import grids
from src.grid.plan import make_plan
from src.grid.store import Store
from tests.grid.test_usage import ONE, TWO, computed
from tests.grid.toys import toy_row


def test_a_line_for_each_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    computed(tmp_path, "first", ONE)
    folder = computed(tmp_path, "second", TWO)
    plan = json.loads((folder / "plan.json").read_text())
    plan["rows"][0]["config"]["profile"] = "smoke"
    (folder / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "grids" / "broken").mkdir()
    (tmp_path / "grids" / "broken" / "plan.json").write_text("[")
    assert grids.main(["--outputs", str(tmp_path)]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["grid"] == ["grid", "rows", "profile", "state", "launched", "size", "command"]
    assert lines["second"][1:6] == ["1", "smoke", "complete", "2026-01-02", "03:04"]
    assert lines["second"][8:] == ["python", "-m", "src.run", "name=second"]
    assert lines["first"][2] == "unknown" and lines["broken"][3] == "unreadable"


def test_no_store_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert grids.main(["--outputs", str(tmp_path)]) == 2
    assert "there is no store" in capsys.readouterr().err
    (tmp_path / "store").mkdir()
    assert grids.main(["--outputs", str(tmp_path)]) == 0
    assert "holds no grid" in capsys.readouterr().out


def test_a_grid_keeps_its_command_and_the_overrides_of_each_row(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    rows = [replace(toy_row(step.label, step), overrides=(f"strategy={step.label}", "x=[1,2]")) for step in (ONE, TWO)]
    about = {"command": "python -m src.run -m strategy=a,b", "date": "2026-01-02T03:04:05+00:00", "commit": None}
    freeze(replace(make_plan(rows, store), about=about), store, tmp_path / "grids" / "one", [])
    kept = yaml.safe_load((tmp_path / "grids" / "one" / "overrides.yaml").read_text())
    assert kept.pop("rows") == [{"row": r.label, "seed": r.seed, "overrides": list(r.overrides)} for r in rows]
    assert kept == about
