"""Tasks of lm-evaluation-harness on a model whose answers are known, and what a plan holds of a task."""

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from src.data import jsonl
from src.evaluate import harness, task_files
from src.evaluate.settings import HarnessOptions
from src.grid.step import read
from src.model.chat import Chat
from src.steps.harness import Harness
from tests.evaluate.conftest import Given
from tests.evaluate.lm_eval_tasks import FILTERED, QUESTIONS, write_tasks
from tests.model.families import FAMILIES, prepared, save_family
from tests.model.folding import folded

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tasks of one's own. What `datasets` makes of their data stays in this test's folder."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return write_tasks(tmp_path / "tasks")


def config(name: str, folder: Path | None, **options: Any) -> dict[str, Any]:
    """Settings of the step, as a plan makes them."""
    found = task_files.find(name, str(folder) if folder else None)
    return {"task": name, "found": found, "options": HarnessOptions(**{"batch_size": 3, **options})}


@pytest.fixture
def scored(artifacts: Mapping[str, Path], tmp_path: Path) -> Any:
    """Run the step; its scores, its samples and what it reported."""

    def run(settings: Mapping[str, Any]) -> SimpleNamespace:
        out, reports = tmp_path / "out", list[dict]()
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        context: Any = SimpleNamespace(work=tmp_path / "work", report=lambda **numbers: reports.append(numbers))
        model, base = Given(role="model"), Given(role="base")
        step = Harness(**settings, model=model, base=base)
        summary = step.run({model: artifacts["model"], base: artifacts["base"]}, out, context)
        written = json.loads((out / "scores.json").read_text())
        assert summary == {key: score["value"] for key, score in written["scores"].items()}
        samples = list(jsonl.read(out / "samples.jsonl"))
        return SimpleNamespace(**written, samples=samples, reports=reports, bytes=(out / "samples.jsonl").read_bytes())

    return run


# Scores


def test_answers_in_the_chat_format_and_their_score(tasks: Path, scored: Any) -> None:
    found = scored(config("facts", tasks))
    assert [sample["filtered_resps"] for sample in found.samples] == [["paris"], ["rome"], ["lions"], ["bears"]]
    (score,) = found.scores.values()
    error = math.sqrt(0.75 * 0.25 / 3)  # of a mean of four zeros and ones, by the sample's deviation
    assert found.scores["lm_eval/facts/exact_match"] == score
    assert score == {
        "value": 0.75, "n": 4, "standard_error": pytest.approx(error), "interval": None, "higher_is_better": True
    }  # fmt: skip
    asked = {"num_fewshot": None, "limit": None, "batch_size": 3, "apply_chat_template": True}
    told = {"n-shot": {"facts": 0}, "versions": {"facts": 3}}
    assert found.settings == {"task": "facts", **asked, "dtype": "float32", "seeds": harness.SEEDS, **told}
    assert found.reports[-1] == {"done": 4}


def test_the_same_settings_give_the_same_bytes(tasks: Path, scored: Any) -> None:
    assert scored(config("facts", tasks)).bytes == scored(config("facts", tasks)).bytes


def test_choices_by_their_likelihood(tasks: Path, scored: Any, artifacts: Mapping[str, Path]) -> None:
    found = scored(config("choices", tasks, apply_chat_template=False))
    model = folded(artifacts["base"], artifacts["model"])
    tokenizer = AutoTokenizer.from_pretrained(artifacts["base"] / "model")
    right = 0
    for (question, _), sample in zip(QUESTIONS, found.samples, strict=True):
        likelihoods = []
        for choice, (likelihood, _) in zip(CHOICES, (resps[0] for resps in sample["resps"]), strict=True):
            asked, said = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (question, choice))
            with torch.inference_mode():
                chances = model(input_ids=torch.tensor([asked + said])).logits[0].log_softmax(-1)
            ours = sum(float(chances[len(asked) + i - 1, token]) for i, token in enumerate(said))
            assert float(likelihood) == pytest.approx(ours, abs=1e-4)
            likelihoods.append(ours)
        right += likelihoods.index(max(likelihoods)) == sample["target"]
    assert found.scores["lm_eval/choices/acc"]["value"] == right / 4


CHOICES = ["paris", "rome", "lions", "red blue"]


def test_earlier_turns_and_a_limit(tasks: Path, scored: Any) -> None:
    found = scored(config("facts", tasks, num_fewshot=1, limit=2.0))
    assert found.scores["lm_eval/facts/exact_match"]["n"] == 2 == len(found.samples)
    for sample in found.samples:
        assert sample["arguments"][0][0].count("<|start_header_id|>assistant") == 2
    assert found.settings["n-shot"] == {"facts": 1}


def test_a_group_has_its_own_score_and_a_tag_that_of_each_task(tasks: Path, scored: Any) -> None:
    (tasks / "filtered.yaml").write_text(FILTERED.split("filter_list")[0])
    group = scored(config("world", tasks)).scores
    assert list(group) == ["lm_eval/world/exact_match"]
    assert group["lm_eval/world/exact_match"]["value"] == 5 / 6 and group["lm_eval/world/exact_match"]["n"] == 6
    tag = scored(config("lab", tasks, apply_chat_template=False, limit=1.0)).scores
    assert {key.split("/")[1] for key in tag} == {"facts", "choices", "filtered"}


def test_a_task_with_a_filter_of_its_own(tasks: Path, scored: Any) -> None:
    found = scored(config("filtered", tasks))
    assert {key: score["value"] for key, score in found.scores.items()} == {
        "lm_eval/filtered/exact_match,first": 1.0,
        "lm_eval/filtered/exact_match,trimmed": 1.0,
    }
    assert {score["n"] for score in found.scores.values()} == {2}


def test_a_number_that_is_none_is_left_out() -> None:
    numbers = {"acc,none": 0.5, "acc_stderr,none": "N/A", "perplexity,none": math.inf, "bypass,none": "N/A"}
    results = {"results": {"t": {"name": "t", "sample_len": 3, **numbers}}, "higher_is_better": {"t": {"acc": True}}}
    score = {"value": 0.5, "n": 3, "standard_error": None, "interval": None, "higher_is_better": True}
    assert dict(harness.read(results, "t")) == {"lm_eval/t/acc": score}


@pytest.mark.parametrize("family", FAMILIES)
def test_it_asks_with_what_was_trained_on(family: str, tmp_path: Path) -> None:
    """Both ways of lm-evaluation-harness: to generate, and to score choices."""
    tokenizer = prepared(family, save_family(family, tmp_path))
    network = AutoModelForCausalLM.from_pretrained(tmp_path)
    asked = harness.asked_model(network, tmp_path, HarnessOptions())
    talk = [{"role": "user", "content": "name three animals"}, {"role": "assistant", "content": "the answer is short"}]
    (ours,) = Chat(tokenizer).ask([talk[:1]])
    text = asked.apply_chat_template(talk[:1])
    ids, _ = asked.tok_batch_encode([text])
    assert ids[0].tolist() == ours
    (trained,) = Chat(tokenizer).encode([talk])
    before = " " if family.startswith("mistral") else ""
    context, answer = asked._encode_pair(text, before + talk[1]["content"])
    together = context + answer
    assert together == trained.ids[: len(together)] and len(ours) < len(together) < len(trained.ids)


# The task that was planned is the task that is run


def test_tasks_edited_after_the_launch_change_nothing(tasks: Path, scored: Any) -> None:
    planned = config("filtered", tasks)
    before = scored(planned).scores
    for file in [*tasks.rglob("*.yaml"), *tasks.rglob("*.py")]:
        file.unlink()
    assert scored(planned).scores == before


def test_data_edited_after_the_launch_are_refused(tasks: Path, scored: Any) -> None:
    planned = config("facts", tasks)
    with (tasks / "facts.jsonl").open("a") as stream:
        stream.write('{"question": "what is animal one", "answer": "lions"}\n')
    with pytest.raises(ValueError, match=r"facts\.jsonl is not what it was when the grid was launched"):
        scored(planned)


def test_a_task_that_the_harness_does_not_know(scored: Any, tasks: Path) -> None:
    with pytest.raises(ValueError, match=r"lm-evaluation-harness \S+ has no task acc"):
        scored({**config("facts", tasks), "task": "acc"})


def test_a_plan_holds_what_decides_on_the_task_and_nothing_else(tasks: Path) -> None:
    facts, choices, filtered = (task_files.find(name, str(tasks)) for name in ("facts", "choices", "filtered"))
    assert list(choices.files) == ["choices.yaml", "code/helpers.py", "facts.yaml"]
    assert list(facts.data) == [str(tasks / "facts.jsonl")] and not facts.shipped
    world = task_files.find("world", str(tasks))
    assert set(world.files) == {"world.yaml", *facts.files, *filtered.files} and world.data == facts.data

    (tasks / "other.yaml").write_text("task: other\n")
    (tasks / "readme.txt").write_text("of no importance\n")
    assert task_files.find("choices", str(tasks)) == choices
    (tasks / "facts.yaml").write_text((tasks / "facts.yaml").read_text() + "# a word more\n")
    assert task_files.find("choices", str(tasks)) != choices
    before = task_files.find("facts", str(tasks))
    (tasks / "facts.jsonl").write_text("{}\n")
    after = task_files.find("facts", str(tasks))
    assert after.files == before.files and after.data != before.data


def test_a_task_of_ones_own_goes_before_one_that_is_shipped(tasks: Path) -> None:
    assert task_files.find("arc_easy", str(tasks)) == task_files.TaskFiles({}, {}, shipped=True)
    (tasks / "mine.yaml").write_text("task: arc_easy\n")
    assert "mine.yaml" in task_files.find("arc_easy", str(tasks)).files
    (tasks / "mixed.yaml").write_text("group: mixed\ntask: [facts, piqa]\n")
    mixed = task_files.find("mixed", str(tasks))
    assert mixed.shipped and "facts.yaml" in mixed.files


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("fact", None, "no task fact in lm-evaluation-harness or below include_path=.*; similar names: facts"),
        ("x", "task: [", "x.yaml is not a YAML file"),
        ("x", "task: x\ninclude: nowhere.yaml", "x.yaml includes nowhere.yaml, which must be a file below"),
        ("x", "task: x\ninclude: x.yaml", "x.yaml includes x.yaml, which includes it"),
        ("x", "task: x\ndataset_path: json\ndataset_kwargs: {data_files: no.jsonl}", "there is no data file no.jsonl"),
    ],
)
def test_what_is_wrong_with_a_task_is_one_line(tasks: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tasks / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=said) as raised:
        task_files.find(name, str(tasks))
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_every_task_that_is_shipped_is_found_without_importing_it() -> None:
    code = "import sys; from src.evaluate.task_files import find; find('arc_easy', None); print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"lm_eval", "torch", "numpy", "datasets"} & set(done.stdout.split())

    from lm_eval.tasks import TaskManager

    names = TaskManager().all_tasks
    assert len(names) > 10_000
    assert not [name for name in names if not task_files.find(name, None).shipped]
    with pytest.raises(ValueError, match=r"no task arc_esy in .*include_path names no folder; similar names: arc_easy"):
        task_files.find("arc_esy", None)


@pytest.mark.parametrize(("task", "label"), [("facts", "harness-facts-sqa"), ("a b/c", "harness-a_b_c-sqa")])
def test_the_label_names_task_and_model(task: str, label: str) -> None:
    found, base = task_files.TaskFiles({}, {}, shipped=True), Given(role="base")
    step = Harness(task=task, found=found, options=HarnessOptions(), model=Given(role="train-sqa"), base=base)
    assert step.label == label


def test_a_step_is_read_from_its_record(tasks: Path) -> None:
    model, base = Given(role="model"), Given(role="base")
    step = Harness(**config("filtered", tasks, limit=2.0), model=model, base=base)
    assert read(json.loads(json.dumps(step.record())), {one.name: one for one in (model, base)}) == step


def test_the_task_of_the_documentation_runs(
    scored: Any, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "lm_eval.md").read_text()
    blocks = dict(re.findall(r"```(yaml|json)\n(.*?)```", text, re.DOTALL))
    (tasks / "where.yaml").write_text(blocks["yaml"])
    (tasks / "where.jsonl").write_text(blocks["json"])
    monkeypatch.chdir(tmp_path)
    planned = config("where", Path("tasks"))
    assert list(planned["found"].data) == ["tasks/where.jsonl"]
    assert scored(planned).scores["lm_eval/where/exact_match"]["n"] == 3
