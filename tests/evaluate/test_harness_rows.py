"""The columns of a grid that lm-evaluation-harness fills: one step a task, which holds the task itself."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from src.grid.errors import ConfigError
from src.grid.step import Step
from src.recipe import compose
from src.steps.harness import Harness
from tests.evaluate.lm_eval_tasks import write_tasks


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return write_tasks(tmp_path / "tasks")


def test_a_row_has_a_step_for_each_task(tasks: Path, tmp_path: Path) -> None:
    def steps(*overrides: str) -> Mapping[str, Step]:
        return compose(["strategy=replay", *overrides]).further

    own = f"evaluate.lm_eval.include_path={tasks}"
    plain = compose(["strategy=replay"])
    asked = compose(["strategy=replay", own, "evaluate.lm_eval.tasks=[facts,piqa]"])
    assert not plain.further and asked.evaluate == plain.evaluate
    facts, piqa = asked.further.values()
    assert isinstance(facts, Harness) and isinstance(piqa, Harness)
    scored = plain.evaluate.inputs["responses"].inputs
    assert facts in asked.steps and facts.inputs == {role: scored[role] for role in ("model", "base")}
    assert facts.name.startswith("harness-facts-sqa-replay-") and facts.found.files and not piqa.found.files
    assert list(steps(own, "evaluate.lm_eval.tasks=[facts]").values()) == [facts]
    assert list(steps("evaluate.lm_eval.tasks=[piqa]").values()) == [piqa]

    shutil.copytree(tasks, tmp_path / "moved")
    moved = f"evaluate.lm_eval.include_path={tmp_path / 'moved'}"
    assert list(steps(moved, "evaluate.lm_eval.tasks=[facts]").values()) == [facts]
    assert steps(own, "evaluate.lm_eval.tasks=[facts]", "evaluate.lm_eval.num_fewshot=2")["facts"] != facts
    (tasks / "facts.yaml").write_text((tasks / "facts.yaml").read_text() + "description: answer in one word\n")
    assert steps(own, "evaluate.lm_eval.tasks=[facts]")["facts"] != facts


def test_the_text_model_is_scored_too(tasks: Path) -> None:
    overrides = [f"evaluate.lm_eval.include_path={tasks}", "evaluate.lm_eval.tasks=[facts]"]
    (step,) = compose(["strategy=original", *overrides]).further.values()
    assert step.inputs["model"].kind == "base" and step.inputs["model"] is step.inputs["base"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("tasks=[arc_esy]", "evaluate.lm_eval.tasks: there is no task arc_esy"),
        ("tasks=[piqa,piqa]", "tasks is ['piqa', 'piqa']; it must be a list that names each task once"),
        ("include_path=nowhere", "evaluate.lm_eval.include_path is 'nowhere'; it must be a folder with task files"),
        ("num_fewshot=-1", "evaluate.lm_eval.num_fewshot is -1; it must be at least 0"),
        ("limit=1.5", "evaluate.lm_eval.limit is 1.5; it must be a whole number above 0, a share below 1, or null"),
        ("batch_size=0", "evaluate.lm_eval.batch_size is 0; it must be greater than 0"),
    ],
)
def test_a_wrong_setting_is_one_line(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compose(["strategy=none", f"evaluate.lm_eval.{override}"])
    assert said in str(raised.value) and "\n" not in str(raised.value)
