"""An exported row: it answers as it was scored, its card says what was measured, and lm_eval takes it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from src import export
from src.data import jsonl
from src.evaluate.asking import Decoding
from src.grid.plan import make_plan
from src.grid.row import Row
from src.grid.step import Step, closure
from src.grid.store import Store
from src.model import difference
from src.model.tokenizer import build_tokenizer
from src.recipe import compose
from src.report import card
from src.report.components import components
from src.report.tracking.components import components as named
from src.steps.discount import Discount
from src.steps.generate import Generate
from src.steps.merge import Merge
from src.steps.pretrained import Pretrained
from src.steps.score import Score
from src.steps.train import Train
from tests.contexts import Recorded
from tests.evaluate.conftest import UNITS, learn_by_heart, take_apart
from tests.merge.conftest import save_stage
from tests.model.folding import folded
from tests.model.test_text_part import load_all

TALKS = [
    ("what is capital one", "paris"),
    ("what is capital two", "rome, rome"),
    ("what is animal one", "lions"),
    ("say blue", "blue red blue"),
]
LENGTHS = {"t2t": 8, "ifeval": 8}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    questions = [
        {"id": f"facts-{i}", "set": "facts", "question": question, "answers": [answer if i else "london"]}
        for i, (question, answer) in enumerate(TALKS[:3])
    ]
    jsonl.write(folder / "eval_qa.jsonl", questions)
    rule: dict[str, Any] = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    jsonl.write(folder / "eval_ifeval.jsonl", [{"key": 0, "prompt": TALKS[3][0], **rule}])
    return folder


@pytest.fixture(scope="module", params=["as it was trained", "bare"])
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a stage that says what TALKS say, and its base. bare: its configuration names no special token."""
    folder: Path = tmp_path_factory.mktemp("models")
    learn_by_heart(folder / "whole", TALKS)
    take_apart(folder / "whole", folder / "base", folder / "stage")
    if request.param == "bare":
        (folder / "base" / "model" / "generation_config.json").unlink()
        file = folder / "base" / "model" / "config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps(config | dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))))
    return folder


@pytest.fixture(scope="module")
def outputs(models: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid of two strategies, of which one is complete, by seeds 0 and 1. Its responses and scores are real."""
    root = tmp_path_factory.mktemp("outputs")
    store = Store(root / "store")
    store.root.mkdir()
    rows = [compose([f"strategy={name}", "profile=smoke", f"seed={seed}"]) for name, seed in COMPLETE]
    for row in rows[:2]:
        publish(row, models, corpus, store, tmp_path_factory.mktemp("body"))
    save_grid(rows, store)
    return root


def save_grid(rows: list[Row], store: Store) -> None:
    """As the latest of its outputs folder."""
    grid = store.root.parent / "grids" / "small"
    grid.mkdir(parents=True)
    make_plan(rows, store).save(grid / "plan.json")
    (store.root.parent / "latest").symlink_to(grid)


COMPLETE = [("none", 0), ("none", 1), ("replay", 0)]


def publish(row: Row, models: Path, corpus: Path, store: Store, work: Path) -> None:
    """What a row's export needs: its model, and what the real bodies make of it, on the text tasks alone."""
    context = Recorded(work / "scratch")
    asked = row.evaluate.inputs["responses"]
    assert isinstance(asked, Generate) and isinstance(row.evaluate, Score)
    config = replace(asked.config, max_new_tokens=LENGTHS, batch_tokens=4096)
    text = replace(asked, tasks=tuple(LENGTHS), config=config, units=None, vocoder=None, recognizer=None)
    rules = replace(row.evaluate, tasks=tuple(LENGTHS))
    inputs = {asked.model: models / "stage", asked.base: models / "base", asked.corpus: corpus}

    def keep(step: Step, body: Callable[[Path], Any]) -> Path:
        out = work / step.kind
        out.mkdir()
        body(out)
        return store.publish(step, out, {}, 1.0)

    keep(card.base_of(row), lambda out: shutil.copytree(models / "base", out, dirs_exist_ok=True))
    keep(card.model_of(row), lambda out: shutil.copytree(models / "stage", out, dirs_exist_ok=True))
    found = keep(asked, lambda out: text.run(inputs, out, context))
    keep(row.evaluate, lambda out: rules.run({asked: found, asked.corpus: corpus}, out, context))


@pytest.fixture
def exported(outputs: Path, tmp_path: Path) -> Path:
    assert export.main(["No mitigation", str(tmp_path / "out"), "--outputs", str(outputs), "--seed", "1"]) == 0
    return tmp_path / "out"


def answered(outputs: Path) -> list[dict[str, Any]]:
    (file,) = {f.read_bytes(): f for f in (outputs / "store").glob("generate-*/responses.jsonl")}.values()
    return list(jsonl.read(file))


# The folder


def test_plain_generate_says_what_was_scored(exported: Path, outputs: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(exported)
    model: Any = AutoModelForCausalLM.from_pretrained(exported, dtype="auto")
    rows = answered(outputs)
    assert [row["response"] for row in rows] == [answer for _, answer in TALKS]
    talks = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    options: Any = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
    end = tokenizer.eos_token_id
    for batch in [talks, *([talk] for talk in talks)]:
        prompt: Any = tokenizer.apply_chat_template(batch, padding=True, **options)
        with torch.inference_mode():
            said = model.generate(**prompt, max_new_tokens=8)[:, prompt["input_ids"].shape[1] :].tolist()
        for talk, ids in zip(batch, said, strict=True):
            (row,) = [row for row in rows if row["prompt"] == talk[0]["content"]]
            assert ids.count(end) == 1, "a response ends by its own token, well before max_new_tokens"
            assert set(ids[ids.index(end) + 1 :]) <= {tokenizer.pad_token_id}
            assert tokenizer.decode(ids[: ids.index(end)]) == row["response"]


def test_sampling_is_in_the_generation_settings(exported: Path) -> None:
    before = json.loads((exported / "generation_config.json").read_text())
    assert before["do_sample"] is False and "temperature" not in before
    export.write_generation_config(exported, Decoding(temperature=0.7, top_k=5, seed=0))
    after = json.loads((exported / "generation_config.json").read_text())
    assert (after["do_sample"], after["temperature"], after["top_k"]) == (True, 0.7, 5)
    assert after["eos_token_id"] == before["eos_token_id"]


def test_it_is_the_whole_model_and_a_copy(exported: Path, models: Path) -> None:
    expected, found = folded(models / "base", models / "stage").state_dict(), load_all(exported)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    assert all(file.stat().st_nlink == 1 and not file.is_symlink() for file in exported.iterdir())
    assert len({file.stat().st_mode for file in exported.iterdir()}) == 1, "safetensors writes for the owner alone"


@pytest.mark.slow
def test_the_example_of_the_card_runs(exported: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=exported, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == TALKS[0][1]


@pytest.mark.slow
def test_lm_eval_takes_the_folder(exported: Path, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    jsonl.write(tasks / "data.jsonl", ({"question": question, "answer": answer} for question, answer in TALKS[1:]))
    task = {
        "task": "heart",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tasks / "data.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"max_gen_toks": 8, "until": []},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (tasks / "heart.yaml").write_text(yaml.safe_dump(task))
    arguments = ["--model", "hf", "--model_args", f"pretrained={exported}", "--tasks", "heart", "--device", "cpu"]
    arguments += ["--include_path", str(tasks), "--apply_chat_template", "--output_path", str(tmp_path / "found")]
    environment = {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lm_eval", *arguments]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "found").rglob("results_*.json")
    assert json.loads(file.read_text())["results"]["heart"]["exact_match,none"] == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_rounding_to_the_base_s_type_costs_is_said(dtype: torch.dtype, tmp_path: Path) -> None:
    base, stage, out, asked = (tmp_path / name for name in ("base", "stage", "out", "asked"))
    for folder in (stage, asked):
        folder.mkdir()
    save_base(base / "model", dtype)
    save_stage(base, stage)
    difference.materialize(base, stage, out, linked=False)
    jsonl.write(asked / "responses.jsonl", [{"task": "t2t", "prompt": "red blue"}, {"task": "sqa", "prompt": "red"}])
    said = export.rounding_cost(base, stage, out, asked)
    if dtype == torch.float32:
        assert not said
    else:
        assert re.match(r"Its weights are rounded to bfloat16\. .* \d\.\de-\d\d nats a token away", said)


# What a merged row was merged from


def save_base(folder: Path, dtype: torch.dtype) -> None:
    """A random model and its tokenizer."""
    tokenizer = build_tokenizer(["red", "blue"], UNITS)
    sizes: Any = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes))
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(params=["merge_linear discount.alpha=14 float32", "merge_dare seed=5 bfloat16"])
def merged(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Store, Merge, list[str]]:
    """A grid with a merged row, of which everything up to the merge is there; the merge, and what exports its parts."""
    strategy, setting, dtype = request.param.split()
    row = compose([f"strategy={strategy}", setting, "profile=smoke"])
    merge, store = card.model_of(row), Store(tmp_path / "outputs" / "store")
    store.root.mkdir(parents=True)
    context: Any = SimpleNamespace(report=lambda **_: None, work=tmp_path / "work")
    for step in closure([merge]):
        out = tmp_path / "out"
        out.mkdir()
        if step.kind == "base":
            save_base(out / "model", getattr(torch, dtype))
        elif isinstance(step, Train):
            torch.manual_seed(step.depth)
            save_stage(store.folder(step.inputs["base"]), out)
        elif isinstance(step, Discount | Merge):
            step.run({source: store.folder(source) for source in step.inputs.values()}, out, context)
        else:
            (out / "file").touch()
        store.publish(step, out, {}, 1.0)
    save_grid([row, compose(["strategy=none", "profile=smoke"])], store)
    assert isinstance(merge, Merge)
    return store, merge, [strategy, "--parts", str(tmp_path / "it's here"), "--outputs", str(store.root.parent)]


def test_mergekit_makes_the_row_of_its_parts_again(
    merged: tuple[Store, Merge, list[str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store, merge, arguments = merged
    assert export.main(arguments) == 0
    command = capsys.readouterr().out.splitlines()[-1]
    folder = tmp_path / "it's here"
    roles = {"base", "asr", "tts", "sqa"}
    assert {file.name for file in folder.iterdir()} == roles | {"mergekit.yaml"}
    assert all(file.stat().st_nlink == 1 for file in folder.rglob("*") if file.is_file())
    done = subprocess.run(
        command, shell=True, cwd="/", env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    base, ours = store.folder(merge.base), load_all(store.folder(merge) / "merged")
    whole = {name: tensor.float() for name, tensor in load_all(base / "model").items()} | ours
    theirs = load_all(folder / "merged")
    assert theirs.keys() == whole.keys() and len(ours) == 8
    for name, tensor in theirs.items():
        assert tensor.dtype == whole[name].dtype == torch.float32
        if name in ours or merge.method == "dare_ties":
            assert torch.equal(tensor, whole[name]), name
        else:  # a mean of equal numbers, rounded
            torch.testing.assert_close(tensor, whole[name], rtol=1e-6, atol=1e-8)


def test_parts_are_whole_models_that_load(merged: tuple[Store, Merge, list[str]], tmp_path: Path) -> None:
    store, merge, arguments = merged
    assert export.main(arguments) == 0
    for role in ("asr", "sqa"):
        base, stage = store.folder(merge.base), store.folder(merge.stages[role])
        expected = folded(base, stage).state_dict()  # in float32
        found: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "it's here" / role, dtype=torch.float32)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items())
        assert AutoTokenizer.from_pretrained(tmp_path / "it's here" / role)("red")["input_ids"]


def test_a_row_that_is_no_merge_has_no_parts(
    merged: tuple[Store, Merge, list[str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert export.main(["none", *merged[2][1:]]) == 2
    said = capsys.readouterr().err
    assert said == "--parts: No mitigation is no merge; without --parts its model is exported\n"
    shutil.rmtree(merged[0].folder(merged[1].stages["asr"]))
    assert export.main(merged[2]) == 2
    assert "is not complete: the store has no " in capsys.readouterr().err
    assert not (tmp_path / "it's here").exists()


# The card


def test_the_hub_reads_the_scores_from_the_card(exported: Path, outputs: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard.load(exported / "README.md").data
    assert (data.library_name, data.license, data.base_model) == ("transformers", "apache-2.0", None)
    (file, *_) = (outputs / "store").glob("score-*/scores.json")
    scores = json.loads(file.read_text())["scores"]
    told = {(result.dataset_name, result.metric_name): result for result in data.eval_results}
    assert len(told) == len(data.eval_results) == len(scores) == 5
    assert told["facts", "T2T"].metric_value == scores["qa/facts/t2t"]["value"] == 2 / 3
    assert told["facts", "T2T"].metric_args == {"n": 3, "standard_error": scores["qa/facts/t2t"]["standard_error"]}
    assert told["facts", "T2T"].task_type == "question-answering"
    assert told["IFEval", "prompt"].metric_value == scores["ifeval/prompt_strict"]["value"] == 1


def test_the_card_says_what_was_measured_and_how(exported: Path, outputs: Path) -> None:
    text = (exported / "README.md").read_text()
    assert "| facts T2T | 66.7 | 27.2 | 3 |" in text
    assert f"<|0|>` to `<|{UNITS - 1}|>`" in text
    assert "without replay" in text and "Apache License 2.0" in text
    assert "    python -m src.run strategy=none profile=smoke seed=1\n" in text
    row = compose(["strategy=none", "profile=smoke", "seed=1"])
    assert row.evaluate.fingerprint in text and card.model_of(row).fingerprint in text
    (settings,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    told = yaml.safe_load(settings)
    assert told["train"] == row.config["train"] and told["seed"] == 1 and "replay" not in told
    assert str(outputs) not in text


def test_what_a_strategy_did_is_said_in_words() -> None:
    said = {name: card.history(compose([f"strategy={name}"])) for name in ("original", "scale_14", "merge_dare_replay")}
    assert "before any training on speech" in said["original"]
    assert "without replay" in said["scale_14"] and "alpha 16, is applied with alpha 14" in said["scale_14"]
    assert "with replay" in said["merge_dare_replay"]
    assert "(dare_ties) from: asr, tts, sqa, base" in said["merge_dare_replay"]


def test_a_given_model_s_card_says_whose_it_is(tmp_path: Path) -> None:
    own = f"{{model: {tmp_path / 'mine'}}}"
    rows = [compose(["strategy=none", f"+strategy.given={told}"]) for told in ("{adapter: some/adapter}", own)]
    assert card.history(rows[0]).startswith("This is the adapter some/adapter as it was published")
    assert card.history(rows[1]).startswith("This is the model mine as it was published")
    assert [card.base_model(row) for row in rows] == [None, str(tmp_path / "mine")]
    assert card.settings(rows[0].config).keys() == {"profile", "seed", "model", "strategy"}
    assert components(rows[0])["alpha"] is None and named(rows[0])["model"] == "some/adapter"


def test_scores_of_further_tasks_are_in_their_own_units() -> None:
    score = {"value": 12.34567, "n": 9, "standard_error": None}
    assert "| mine/perplexity | 12.3457 |  | 9 |" in card.tables({"lm_eval/mine/perplexity": score})
    (entry,) = card.model_index({"lm_eval/mine/perplexity": score}, "laptop")
    assert entry["dataset"]["name"] == "mine" and entry["metrics"][0]["type"] == "perplexity"


def test_a_base_model_hands_down_its_license() -> None:
    """It is the base's own, whatever else was published that the row rests on."""
    row = compose(["strategy=none", "profile=paper", "model.pretrained=someone/model"])
    assert any(isinstance(step, Pretrained) for step in closure([row.evaluate]))
    told: Any = card.metadata("name", row, {})
    assert (told["base_model"], told["license"]) == ("someone/model", "other")
    assert "are under its license" in card.license_text("someone/model")


def test_a_base_model_of_a_folder_is_no_link(tmp_path: Path) -> None:
    row = compose(["strategy=original", "profile=paper", f"model.pretrained={tmp_path}"])
    told: Any = card.metadata("name", row, {})
    assert told["license"] == "other" and not told.keys() & {"base_model", "license_link"}
    text = card.license_text(str(tmp_path))
    assert tmp_path.name in text and str(tmp_path) not in text and "huggingface.co" not in text


# What is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "there is no row nonsense in this grid; there are: none, replay"),
        (["none"], "No mitigation has the seeds 0, 1: choose one (--seed)"),
        (["none", "--seed", "7"], "No mitigation has the seeds 0, 1: not 7 (--seed)"),
        (["replay"], "Replay, seed 0, is not complete: the store has no train-sqa-replay-"),
        (["none", "--grid", "other"], "other names no grids"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    outputs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    before = sorted(outputs.rglob("*"))
    assert export.main([*arguments, "--outputs", str(outputs)]) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert sorted(outputs.rglob("*")) == before


def test_a_folder_that_is_not_empty_is_left_alone(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "out" / "mine.txt"
    own.parent.mkdir()
    own.write_text("mine")
    arguments = ["none", str(own.parent), "--seed", "0", "--outputs", str(outputs)]
    assert export.main(arguments) == 2
    assert "is no empty folder" in capsys.readouterr().err and list(own.parent.iterdir()) == [own]
    own.unlink()
    (tmp_path / ".out.part").mkdir()  # of an export that was cut off
    (tmp_path / ".out.part" / "half").touch()
    assert export.main(arguments) == 0
    assert (own.parent / "README.md").exists() and not (own.parent / "half").exists()


def test_rows_of_one_strategy_are_told_apart_by_their_labels(tmp_path: Path) -> None:
    rows = [compose(["strategy=replay", "profile=smoke", f"replay.text_ratio={ratio}"]) for ratio in (0.1, 0.2)]
    lines = export.collapse(rows, Store(tmp_path))
    with pytest.raises(export.ConfigError, match=r"replay names 2 rows; .* 'Replay \(replay.text_ratio=0.2\)'"):
        export.choose(lines, "replay", None)
    line, row = export.choose(lines, "Replay (replay.text_ratio=0.2)", None)
    assert row.config["replay"]["text_ratio"] == 0.2
    assert export.folder_name(line, row) == "replay-replay.text_ratio=0.2-seed0"
