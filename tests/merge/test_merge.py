"""Merges against `mergekit-yaml` on whole models and the kept YAML, and against closed forms."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from src.merge import merge as merging
from src.model import difference
from tests.merge.conftest import FULL
from tests.model.folding import folded, save_folded

LINEAR: dict[str, Any] = {
    "method": "linear",
    "parameters": {},
    "models": {"base": {"weight": 0.02}, "asr": {"weight": 0.03}, "tts": {"weight": 0.05}, "sqa": {"weight": 0.9}},
    "base_model": None,
    "dtype": "float32",
    "seed": 0,
}


def deltas(method: str, density: float | None, **parameters) -> dict:
    extra = {} if density is None else {"density": density}
    weights = {"asr": 0.04, "tts": 0.06, "sqa": 0.9}
    models = {role: {"weight": weight, **extra} for role, weight in weights.items()}
    return {**LINEAR, "method": method, "parameters": parameters, "models": models, "base_model": "base"}


SUMMED = {"asr": {"weight": 0.4}, "sqa": {"weight": 0.9}}
ALIKE: dict[str, Any] = {**LINEAR, "models": {"asr": {}, "tts": {}, "sqa": {}}}
CONFIGS = {
    "linear": LINEAR,
    "ties": deltas("ties", 0.9, normalize=True),
    "dare_ties": deltas("dare_ties", 0.91, normalize=True),
    "della": {**deltas("della", 0.7, normalize=False, epsilon=0.1, **{"lambda": 1.1}), "seed": 5},
    "task_arithmetic": deltas("task_arithmetic", None, **{"lambda": 0.8}),
    "slerp": {**ALIKE, "method": "slerp", "models": {"sqa": {}}, "base_model": "base", "parameters": {"t": [0.2, 0.9]}},
    "karcher": {**ALIKE, "method": "karcher"},
    "model_stock": {**ALIKE, "method": "model_stock", "base_model": "base"},
    "by layer and name": {
        **deltas("ties", None),
        "parameters": {"normalize": True, "density": [{"filter": "v_proj", "value": 0.3}, {"value": [0.5, "0.9"]}]},
        "models": {"asr": {"weight": [0.1, 0.6]}, "sqa": {"weight": [{"filter": "q_proj", "value": 1}, {"value": 2}]}},
    },
    "summed": {**LINEAR, "models": SUMMED, "parameters": {"normalize": False}},
    "scaled": {**ALIKE, "method": "passthrough", "models": {"sqa": {"scale": 0.5}}},
}
WHOLE = ("summed", "scaled")
"""These change every tensor."""
CHANGED = {*FULL, *(f"model.layers.{i}.self_attn.{p}_proj.weight" for i in (0, 1) for p in "qkv")}


def run(config: dict, inputs: dict, out: Path, context: Any) -> None:
    stages = {role: folder for role, folder in inputs.items() if role != "base"}
    merging.merge(config, config["seed"], inputs["base"], stages, out, context)


def merge(store: Path, config: dict, inputs: dict, context: Any, name: str) -> Path:
    out = store / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    run(config, inputs, out, context)
    assert not list(context.work.iterdir()), "nothing stays of what was written to be merged"
    return out


def tensors(model: Path) -> dict[str, torch.Tensor]:
    files = sorted(model.glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def assert_same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name], b[name]), name


CLI_FOR_ALL = """
import sys
from mergekit.scripts.run_yaml import main
for name, seed in zip(sys.argv[3::2], sys.argv[4::2]):
    options = ["--random-seed", seed, "--no-write-model-card"]
    main([f"{sys.argv[1]}/merge-{name}/mergekit.yaml", f"{sys.argv[2]}/{name}", *options], standalone_mode=False)
"""


@pytest.fixture(scope="module")
def by_mergekit(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command `mergekit-yaml` makes of every kept recipe, in one fresh process in a folder that has whole
    models of PEFT under the names of their roles."""
    out, parts = tmp_path_factory.mktemp("cli"), tmp_path_factory.mktemp("parts")
    inputs = {name.split("-")[0]: store / name for name in ("base-0", "asr-1", "tts-2", "sqa-3")}
    shutil.copytree(inputs["base"] / "model", parts / "base")
    for role in ("asr", "tts", "sqa"):
        save_folded(inputs["base"], inputs[role], parts / role)
    context = SimpleNamespace(report=lambda **numbers: None, work=tmp_path_factory.mktemp("work"))
    for name, config in CONFIGS.items():
        merge(store, config, inputs, context, f"merge-{name}")
    seeds = [argument for name, config in CONFIGS.items() for argument in (name, str(config["seed"]))]
    command = [sys.executable, "-c", CLI_FOR_ALL, str(store), str(out), *seeds]
    subprocess.run(command, cwd=parts, check=True, capture_output=True)
    return out


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_mergekit_yaml_on_the_kept_recipe(name, store, by_mergekit):
    ours, theirs = tensors(store / f"merge-{name}" / "merged"), tensors(by_mergekit / name)
    assert ours.keys() == (theirs.keys() if name in WHOLE else CHANGED)
    assert_same_bits(ours, {key: theirs[key] for key in ours})
    assert all(tensor.dtype == torch.float32 for tensor in ours.values())
    base = tensors(store / "base-0" / "model")
    for key in theirs.keys() - ours.keys():
        torch.testing.assert_close(base[key], theirs[key], rtol=1e-6, atol=1e-7)


def test_linear_is_the_weighted_mean(store, inputs, context):
    merged = tensors(merge(store, LINEAR, inputs, context, "merge-mean") / "merged")
    models = {role: folded(inputs["base"], inputs[role]).state_dict() for role in ("asr", "tts", "sqa")}
    models["base"] = tensors(inputs["base"] / "model")
    for name, tensor in merged.items():
        mean = sum(p["weight"] * models[role][name].double() for role, p in LINEAR["models"].items())
        torch.testing.assert_close(tensor.double(), mean, rtol=0, atol=1e-6)


def test_ties_with_everything_kept_and_one_model_is_that_model(store, inputs, context):
    config = {**deltas("ties", 1.0, normalize=True), "models": {"sqa": {"weight": 0.3, "density": 1.0}}}
    merged = difference.load(inputs["base"], merge(store, config, inputs, context, "merge-one")).state_dict()
    for name, tensor in folded(inputs["base"], inputs["sqa"]).state_dict().items():
        torch.testing.assert_close(merged[name], tensor, rtol=0, atol=1e-6)


def test_seed_decides_the_random_mask(store, inputs, context):
    config = {**CONFIGS["dare_ties"], "seed": 7}
    first, again = (tensors(merge(store, config, inputs, context, name) / "merged") for name in ("dare-a", "dare-b"))
    assert_same_bits(first, again)
    other = tensors(merge(store, {**config, "seed": 8}, inputs, context, "dare-c") / "merged")
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_result_is_what_the_merge_changed_and_the_same_bytes_again(store, inputs, context):
    out, again = (merge(store, LINEAR, inputs, context, name) for name in ("merge-plain", "merge-plain-again"))
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == ["merged/model.safetensors", "mergekit.yaml"]
    assert all((out / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_the_base_gives_the_rest_where_it_is_not_merged(store, inputs, context):
    """karcher merges three stages; head and tokenizer, say, are still the base's."""
    out = merge(store, CONFIGS["karcher"], inputs, context, "merge-three")
    loaded, base = difference.load(inputs["base"], out).state_dict(), tensors(inputs["base"] / "model")
    assert all(torch.equal(loaded[name], base[name]) for name in base.keys() - CHANGED)
    assert not any(torch.equal(loaded[name], base[name]) for name in CHANGED)


def test_progress_counts_tensors(store, inputs, context):
    merge(store, LINEAR, inputs, context, "merge-progress")
    assert context.reports == [{"done": done, "total": 8} for done in range(9)]


def test_models_are_named_by_their_roles(store, inputs, context):
    out = merge(store, CONFIGS["ties"], inputs, context, "merge-roles")
    recipe = yaml.safe_load((out / "mergekit.yaml").read_text())
    assert recipe["base_model"] == "base" and "out_dtype" not in recipe
    assert [model["model"] for model in recipe["models"]] == ["asr", "tts", "sqa"]
    assert recipe["models"][2]["parameters"] == {"weight": 0.9, "density": 0.9}


def test_the_result_is_in_float32_whatever_the_base_s_type(store, inputs, context, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(inputs["base"] / "model", base / "model")
    AutoModelForCausalLM.from_pretrained(base / "model", dtype=torch.bfloat16).save_pretrained(base / "model")
    for name in ("ties", "summed"):
        out = merge(store, CONFIGS[name], inputs | {"base": base}, context, f"merge-bfloat16-{name}")
        recipe = yaml.safe_load((out / "mergekit.yaml").read_text())
        assert recipe["dtype"] == "float32" and "out_dtype" not in recipe
        assert {tensor.dtype for tensor in tensors(out / "merged").values()} == {torch.float32}


def test_a_merge_that_is_not_finite_names_the_tensor(store, inputs, context):
    """Weights that sum to zero in the last layer alone, which no plan can know."""
    config = {**LINEAR, "models": {"asr": {"weight": 1}, "sqa": {"weight": [1, -1]}}}
    message = r"the merge \(linear\) left 256 of 256 numbers in model\.layers\.1\.self_attn\.k_proj\.weight that"
    with pytest.raises(ValueError, match=message):
        merge(store, config, inputs, context, "merge-broken")
    assert not list(context.work.iterdir())


def test_what_was_written_to_be_merged_is_gone_when_mergekit_fails_too(store, inputs, context, monkeypatch):
    def fails(*_, **__):
        assert list(context.work.rglob("*.safetensors"))
        raise RuntimeError("no more memory")

    monkeypatch.setattr("src.model.difference.merge", fails)
    with pytest.raises(RuntimeError, match="no more memory"):
        merge(store, LINEAR, inputs, context, "merge-fails")
    assert not list(context.work.iterdir())


def test_store_may_have_any_name(store, inputs, context, tmp_path):
    moved = tmp_path / "c++ @home" / "store"
    moved.mkdir(parents=True)
    there = {role: Path(shutil.copytree(folder, moved / folder.name)) for role, folder in inputs.items()}
    work = SimpleNamespace(report=context.report, work=moved / "work")
    work.work.mkdir()
    here = merge(store, CONFIGS["ties"], inputs, context, "merge-here")
    assert_same_bits(tensors(here / "merged"), tensors(merge(moved, CONFIGS["ties"], there, work, "x") / "merged"))


def test_missing_role_is_named(inputs, context, tmp_path):
    with pytest.raises(ValueError, match="'tts'"):
        run(LINEAR, {role: inputs[role] for role in inputs if role != "tts"}, tmp_path, context)


def test_a_merge_of_the_base_alone_is_none(inputs, context, tmp_path):
    config = {**ALIKE, "method": "passthrough", "models": {"base": {"scale": 0.5}}}
    with pytest.raises(ValueError, match=r"merge\.models: at least one stage"):
        run(config, inputs, tmp_path, context)
