"""Merges against `mergekit-yaml` on the kept YAML, and against closed forms."""

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
from transformers import AutoModelForCausalLM, AutoTokenizer

from src.merge.merge import run

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
}


def merge(store: Path, config: dict, inputs: dict, context, name: str) -> Path:
    out = store / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    run(config, inputs, out, context)
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
for name, seed in zip(sys.argv[2::2], sys.argv[3::2]):
    options = ["--random-seed", seed, "--no-write-model-card"]
    main([f"merge-{name}/mergekit.yaml", f"{sys.argv[1]}/{name}", *options], standalone_mode=False)
"""


@pytest.fixture(scope="module")
def by_mergekit(store, tmp_path_factory) -> Path:
    """What the command `mergekit-yaml` makes of every kept recipe, in one fresh process in the store's folder."""
    out = tmp_path_factory.mktemp("cli")
    inputs = {name.split("-")[0]: store / name for name in ("base-0", "asr-1", "tts-2", "sqa-3")}
    context = SimpleNamespace(report=lambda **numbers: None)
    for name, config in CONFIGS.items():
        merge(store, config, inputs, context, f"merge-{name}")
    seeds = [argument for name, config in CONFIGS.items() for argument in (name, str(config["seed"]))]
    subprocess.run([sys.executable, "-c", CLI_FOR_ALL, out, *seeds], cwd=store, check=True, capture_output=True)
    return out


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_mergekit_yaml_on_the_kept_recipe(name, store, by_mergekit):
    ours = tensors(store / f"merge-{name}" / "model")
    assert_same_bits(ours, tensors(by_mergekit / name))
    assert all(tensor.dtype == torch.float32 for tensor in ours.values())


def test_linear_is_the_weighted_mean(store, inputs, context):
    merged = tensors(merge(store, LINEAR, inputs, context, "merge-mean") / "model")
    models = {role: tensors(folder / "model") for role, folder in inputs.items()}
    for name, tensor in merged.items():
        mean = sum(p["weight"] * models[role][name].double() for role, p in LINEAR["models"].items())
        torch.testing.assert_close(tensor.double(), mean, rtol=0, atol=1e-6)


def test_ties_with_everything_kept_and_one_model_is_that_model(store, inputs, context):
    config = {**deltas("ties", 1.0, normalize=True), "models": {"sqa": {"weight": 0.3, "density": 1.0}}}
    merged = tensors(merge(store, config, inputs, context, "merge-one") / "model")
    for name, tensor in tensors(inputs["sqa"] / "model").items():
        torch.testing.assert_close(merged[name], tensor, rtol=0, atol=1e-6)


def test_seed_decides_the_random_mask(store, inputs, context):
    config = {**CONFIGS["dare_ties"], "seed": 7}
    first, again = (tensors(merge(store, config, inputs, context, name) / "model") for name in ("dare-a", "dare-b"))
    assert_same_bits(first, again)
    other = tensors(merge(store, {**config, "seed": 8}, inputs, context, "dare-c") / "model")
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_result_is_a_plain_folder_with_the_tokenizer_of_the_base(store, inputs, context):
    out = merge(store, LINEAR, inputs, context, "merge-plain")
    assert AutoModelForCausalLM.from_pretrained(out / "model").dtype == torch.float32
    assert AutoTokenizer.from_pretrained(out / "model")("w3 w1")["input_ids"] == [7, 5]
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        assert (out / "model" / name).read_bytes() == (inputs["base"] / "model" / name).read_bytes()
    assert sorted(path.name for path in out.iterdir()) == ["mergekit.yaml", "model"]
    again = merge(store, LINEAR, inputs, context, "merge-plain-again")
    for path in (out / "model").iterdir():
        assert path.read_bytes() == (again / "model" / path.name).read_bytes(), path.name


def test_paths_in_the_recipe_are_relative_to_the_store(store, inputs, context):
    out = merge(store, CONFIGS["ties"], inputs, context, "merge-paths")
    recipe = yaml.safe_load((out / "mergekit.yaml").read_text())
    assert recipe["base_model"] == "base-0/model"
    assert [model["model"] for model in recipe["models"]] == ["asr-1/model", "tts-2/model", "sqa-3/model"]
    assert recipe["models"][2]["parameters"] == {"weight": 0.9, "density": 0.9}


def test_store_may_have_any_name(store, inputs, context, tmp_path):
    moved = tmp_path / "c++ @home" / "store"
    shutil.copytree(store, moved)
    there = {role: moved / folder.name for role, folder in inputs.items()}
    here = merge(store, CONFIGS["ties"], inputs, context, "merge-here")
    assert_same_bits(tensors(here / "model"), tensors(merge(moved, CONFIGS["ties"], there, context, "x") / "model"))


def test_missing_role_is_named(store, inputs, context, tmp_path):
    with pytest.raises(ValueError, match="'tts'"):
        run(LINEAR, {role: inputs[role] for role in ("base", "asr", "sqa")}, tmp_path, context)
