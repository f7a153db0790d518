"""The source that can reach a step, and what the store says of artifacts that other source made."""

import hashlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launchers.grid import made_by_other_code
from src.grid import source
from src.grid.execute import execute
from src.grid.plan import make_plan
from src.grid.source import reaching
from src.grid.step import Inputs, Step
from src.grid.store import Store
from src.steps.corpus import Corpus
from src.steps.train import Train
from tests.conftest import ROOT
from tests.grid.toys import posing, toy, toy_row
from tests.steps.makers import train_step

FILES = {
    "src/__init__.py": "",
    "src/grid/__init__.py": "",
    "src/grid/engine.py": "from src.lib import unseen\n",
    "src/lib/__init__.py": "",
    "src/lib/direct.py": "import json\nfrom src.lib import indirect\nfrom src.grid import engine\n",
    "src/lib/indirect.py": "def f():\n    import src.lib.late\n    from src.lib.direct import x\n",
    "src/lib/late.py": "late = 1\n",
    "src/lib/unseen.py": "",
    "src/lib/plugin.py": "import src.lib.late\n",
    "src/mine.py": "from src.lib.direct import x\n",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A source tree of which src/mine.py is to be followed; what was read of other trees is forgotten."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(source, "ROOT", tmp_path)
    forget()
    yield tmp_path
    monkeypatch.undo()
    forget()


def forget() -> None:
    source._closure.cache_clear()
    source._read.cache_clear()


class Mine(Step):
    """A step whose module is src.mine."""

    plugged: tuple[str, ...] = ()

    @property
    def plugins(self) -> tuple[str, ...]:
        return self.plugged

    def run(self, inputs: Inputs, out: Path, context: Any) -> dict[str, Any]:
        raise AssertionError("this step is never run")


Mine.__module__ = "src.mine"


def test_imports_are_followed_however_deep_and_into_functions_but_not_into_the_engine(project: Path) -> None:
    expected = {"src/mine.py", "src/lib/__init__.py", "src/lib/direct.py", "src/lib/indirect.py", "src/lib/late.py"}
    assert reaching(Mine()).keys() == expected
    digests = {name: hashlib.sha256(FILES[name].encode()).hexdigest()[:16] for name in expected}
    assert reaching(Mine()) == digests


def test_what_is_found_by_name_is_followed_too(project: Path) -> None:
    step = Mine()
    object.__setattr__(step, "plugged", ("src.lib.plugin",))
    assert reaching(step).keys() - reaching(Mine()).keys() == {"src/lib/plugin.py"}


def test_the_source_of_a_real_step_is_what_python_imports() -> None:
    """Every module that is loaded once the step's own imports are made is among its files: but the engine's, and what
    makes a folder a package."""
    code = "import sys, src.steps.corpus, src.data.corpus; print(*(m for m in sys.modules if m.startswith('src.')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    files = {importlib.util.find_spec(name).origin for name in done.stdout.split()}  # type: ignore[union-attr]
    loaded = {str(Path(file).relative_to(ROOT)) for file in files if file}
    outside = {file for file in loaded if not file.startswith("src/grid/") and Path(file).name != "__init__.py"}
    assert len(outside) > 5 and outside <= _of(Corpus)


def test_a_method_reaches_the_training_that_uses_it_alone() -> None:
    l2 = "src/train/methods/l2.py"
    assert l2 in reaching(train_step(method={"name": "l2"})) and l2 not in reaching(train_step())


def test_training_does_not_reach_the_corpus() -> None:
    assert "src/train/loop.py" in reaching(train_step())
    assert not any(file.startswith("src/train/") for file in _of(Corpus))
    assert "src/steps/train.py" in _of(Train)


def _of(kind: type[Step]) -> frozenset[str]:
    return source._closure(kind.__module__)


# What the store says


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    """Label of a toy -> its source. It can be edited."""
    told: dict[str, dict[str, str]] = {}

    def reached(step: Step) -> dict[str, str]:
        return told.get(step.label, {"src/a.py": "1"})

    for module in ("src.grid.store", "src.grid.execute"):
        monkeypatch.setattr(f"{module}.reaching", reached)
    return told


def computed(root: Path, *steps: Step) -> Store:
    for step in steps:
        execute(step, Store(root))
    return Store(root)


def test_artifacts_of_other_code_are_used_and_named(tmp_path: Path, edited: dict[str, dict[str, str]]) -> None:
    base = toy("base")
    trained = [posing("train", f"train-{name}", {"base": base}) for name in ("asr", "tts")]
    store = computed(tmp_path, base, *trained)
    rows = [toy_row(each.label, each) for each in trained]
    assert made_by_other_code(make_plan(rows, store), store) == []

    edited["train-asr"] = {"src/a.py": "2"}
    plan = make_plan(rows, store)
    assert not plan.missing(), "they are used"
    line = "1 artifact train was made by other code (src/a.py): recompute=train makes it anew"
    assert made_by_other_code(plan, store) == [line]

    edited["train-tts"] = {f"src/{name}.py": "2" for name in "abcde"}  # four files more than then
    edited["base"] = {}  # one file less
    assert made_by_other_code(make_plan(rows, store), store) == [
        "1 artifact toy was made by other code (src/a.py): recompute=toy makes it anew",
        "2 artifacts train were made by other code (src/a.py, src/b.py, src/c.py and 2 other files): "
        "recompute=train makes them anew",
    ]


def test_what_is_to_be_computed_is_not_named(tmp_path: Path, edited: dict[str, dict[str, str]]) -> None:
    base = toy("base")
    top = posing("train", "top", {"base": base})
    store = computed(tmp_path, base, top)
    edited["top"] = {"src/a.py": "2"}
    assert made_by_other_code(make_plan([toy_row("r", top)], store, ["train"]), store) == []


def test_a_manifest_has_the_source(tmp_path: Path, edited: dict[str, dict[str, str]]) -> None:
    step = toy("a")
    store = computed(tmp_path, step)
    assert store.manifest(step)["source"] == {"src/a.py": "1"} and store.other_code(step) == []
