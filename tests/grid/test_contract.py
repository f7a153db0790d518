"""What holds for every kind of step in src/steps, and for the steps of the shipped grids."""

import importlib
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from src.grid.step import Step, closure, read
from src.recipe import compose
from src.steps import kinds
from src.steps.merge import Merge
from tests.conftest import ROOT
from tests.grid.toys import posing
from tests.steps.makers import train_step

PROFILES = ("laptop", "smoke", "paper", "single_gpu")
STRATEGIES = sorted(
    file.relative_to(ROOT / "conf" / "strategy").with_suffix("").as_posix()
    for file in (ROOT / "conf" / "strategy").rglob("*.yaml")
)
FINGERPRINTS = Path(__file__).with_name("fingerprints.json")
RENEW = "python -m tests.grid.test_contract"
RARE = {"given", "kmeans", "harness", "questions", "ready"}
"""Kinds that no shipped grid has without an override."""
HEAVY = {"torch", "numpy", "transformers", "datasets", "peft", "deepspeed", "mergekit", "sklearn", "scipy", "librosa"}


def classes(kind: str) -> list[type[Step]]:
    """The classes of steps that the file of a kind defines."""
    module = importlib.import_module(f"src.steps.{kind}")
    found = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Step)]
    return [each for each in found if each.__module__ == module.__name__]


@cache
def steps_of(profile: str) -> dict[str, Step]:
    """Name -> step of all strategies of a profile, inputs before what reads them."""
    rows = [compose([f"strategy={name}", f"profile={profile}"]) for name in STRATEGIES]
    return {step.name: step for step in closure(step for row in rows for step in row.steps)}


@pytest.mark.parametrize("kind", kinds())
def test_a_file_has_the_kind_of_its_name(kind: str) -> None:
    made = classes(kind)
    assert made, "a file of src/steps has a step"
    assert made[0].__name__.lower() == kind and all(each.__name__.startswith(made[0].__name__) for each in made)
    for each in made:
        assert each.__doc__ and "run" in {name for base in each.__mro__ if base is not Step for name in vars(base)}
        assert each.version >= 1 and isinstance(each.needs, tuple) and isinstance(each.gpu, bool)
        assert each.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_planning_imports_nothing_heavy() -> None:
    modules = ", ".join(f"src.steps.{kind}" for kind in kinds())
    code = f"import sys, {modules}, src.recipe, launchers.grid; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize("profile", PROFILES)
def test_steps_come_back_from_their_records(profile: str) -> None:
    known: dict[str, Step] = {}
    for name, step in steps_of(profile).items():
        again = read(json.loads(json.dumps(step.record())), known)
        assert (type(again), again.fingerprint, again.label, again.ranks, again.plugins) == (
            type(step), step.fingerprint, step.label, step.ranks, step.plugins,
        )  # fmt: skip
        assert again.record() == step.record()
        known[name] = again


def test_the_shipped_grids_have_every_kind_but_the_rare() -> None:
    found = {step.kind for profile in PROFILES for step in steps_of(profile).values()}
    assert found | RARE == set(kinds()) and not found & RARE


def fingerprints() -> dict[str, str]:
    """Fingerprint of each step of the laptop's grid -> its kind and label."""
    told = {step.fingerprint: f"{step.kind} {step.label}" for step in steps_of("laptop").values()}
    return dict(sorted(told.items(), key=lambda each: (each[1], each[0])))


def test_the_shipped_grid_keeps_its_artifacts() -> None:
    """A change here makes every user's artifacts of these kinds stale. Where that is meant, write the file anew."""
    now, then = fingerprints(), json.loads(FINGERPRINTS.read_text(encoding="utf-8"))
    changed = sorted({told.split()[0] for _, told in then.items() ^ now.items()})
    assert now == then, f"other artifacts of {', '.join(changed)}; where that is meant: {RENEW}"


@pytest.mark.parametrize(("base", "alone"), [("backbone", True), ("base", False)])
def test_merges_of_a_published_model_alone_fill_the_memory(base: str, alone: bool) -> None:
    merge = Merge(
        method="linear", models={"base": {"weight": 1}, "asr": {"weight": 1}}, base=posing(base, "base"),
        stages={"asr": train_step()},
    )  # fmt: skip
    assert merge.alone == alone


if __name__ == "__main__":
    FINGERPRINTS.write_text(json.dumps(fingerprints(), indent=1) + "\n", encoding="utf-8")
