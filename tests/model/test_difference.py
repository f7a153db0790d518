"""Models as differences: against whole models by PEFT, and against mergekit's merges of whole models."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from src.merge.merge import recipe
from src.merge.methods import METHODS
from src.model import adapter, difference
from src.model.checkpoint import Checkpoint
from src.model.settings import Adapter
from src.model.text_part import write as write_backbone
from src.model.vocabulary import extend
from tests.conftest import TINY_ADAPTER
from tests.model.folding import folded, save_folded
from tests.model.test_text_part import load_all, plain_model

ROOT = Path(__file__).parents[2]
STAGES = ("asr", "tts", "sqa")
LAYERS = 3
DISCOUNTED = 1.5
CHANGED = {
    "lm_head.weight",
    "model.embed_tokens.weight",
    *(f"model.layers.{i}.self_attn.{p}_proj.weight" for i in range(LAYERS) for p in "qkv"),
}


def make_store(folder: Path, kind: str = "llama", dtype: torch.dtype = torch.float32) -> Path:
    """A store with a base with unit tokens, three stages on it, each of them (`whole-...`) as PEFT folds it in, and a
    stage with its adapter discounted."""
    plain_model(folder / "source", kind, dtype)
    write_backbone(folder / "source", folder / "plain", shard_bytes=30_000)
    extend(folder / "plain", folder / "base" / "model", 20, shard_bytes=30_000)
    for seed, name in enumerate(STAGES):
        model = adapter.trainable(folder / "base", None, Adapter(**TINY_ADAPTER), seed)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        (folder / name).mkdir()
        adapter.save(model, folder / name)
        save_folded(folder / "base", folder / name, folder / f"whole-{name}")
    discounted = folder / "discounted"
    shutil.copytree(folder / "sqa", discounted)
    file = discounted / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lora_alpha": DISCOUNTED}))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("store"))


def test_changed_are_what_lora_and_full_modules_train(store: Path) -> None:
    assert difference.changed_keys(store / "base", store / "asr") == sorted(CHANGED)
    base, whole = load_all(store / "base" / "model"), load_all(store / "whole-asr")
    assert {name for name in base if not torch.equal(base[name], whole[name])} == CHANGED


def test_a_tensor_that_the_base_has_not_is_named(store: Path, tmp_path: Path) -> None:
    plain_model(tmp_path / "other" / "model", "llama", num_hidden_layers=2)
    with pytest.raises(ValueError, match=r"has changed model\.layers\.2\."):
        difference.changed_keys(tmp_path / "other", store / "asr")


def test_what_bears_no_model_is_named(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"corpus has neither adapter/ nor merged/, and is not the base model .*base"):
        difference.load(store / "base", tmp_path / "corpus")


@pytest.mark.parametrize(("name", "alpha"), [("sqa", None), ("discounted", DISCOUNTED)])
def test_materialized_is_what_peft_folds_in_to_the_bit(
    name: str, alpha: float | None, store: Path, tmp_path: Path
) -> None:
    difference.materialize(store / "base", store / name, tmp_path / "model")
    expected = folded(store / "base", store / "sqa", alpha).state_dict()
    made = load_all(tmp_path / "model")
    assert made.keys() == expected.keys()
    assert all(torch.equal(made[key], expected[key]) for key in made)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(plain[key], expected[key]) for key in plain)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "model")) == 320


@pytest.mark.parametrize("linked", [True, False])
def test_materialized_shares_what_was_not_trained_or_is_a_copy(linked: bool, store: Path, tmp_path: Path) -> None:
    difference.materialize(store / "base", store / "sqa", tmp_path / "model", linked=linked)
    shared = {file.stat().st_ino for file in (store / "base" / "model").glob("*.safetensors")}
    own = [f for f in (tmp_path / "model").glob("*.safetensors") if f.stat().st_ino not in shared]
    held = {name for file in own for name in Checkpoint(tmp_path / "model").by_file()[file.name]}
    assert held == (CHANGED if linked else load_all(store / "base" / "model").keys())
    assert linked or all(file.stat().st_nlink == 1 for file in own)


KINDS = ("base", "sqa", "discounted", "merged")


@pytest.fixture(scope="module", params=[("llama", torch.float32), ("llama", torch.bfloat16), ("qwen2", torch.bfloat16)])
def several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of two types, of which the last one's embeddings are its head, with a merge."""
    folder = make_store(tmp_path_factory.mktemp("several"), *request.param)
    merge_parts(folder, CONFIGS["linear"], folder / "parts").rename(folder / "merged")
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", KINDS)
def test_loaded_is_the_model_of_float32_tensors_rounded_once(
    name: str, dtype: torch.dtype, several: Path, tmp_path: Path
) -> None:
    files = {file: file.read_bytes() for file in several.rglob("*") if file.is_file()}
    model = difference.load(several / "base", several / name, dtype)
    difference.materialize(several / "base", several / name, tmp_path / "model", torch.float32)
    expected: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=dtype)
    assert model.dtype == expected.dtype and not model.training
    loaded, whole = model.state_dict(), expected.state_dict()
    assert loaded.keys() == whole.keys()
    assert all(loaded[key].dtype == whole[key].dtype and torch.equal(loaded[key], whole[key]) for key in whole)
    ids = torch.arange(300, 320)[None]
    assert torch.equal(model(ids).logits, expected(ids).logits)
    assert model.generation_config.to_dict() == expected.generation_config.to_dict()
    tied: Any = model
    assert (tied.lm_head.weight is tied.model.embed_tokens.weight) is model.config.tie_word_embeddings
    assert {file: file.read_bytes() for file in several.rglob("*") if file.is_file()} == files


@pytest.mark.slow
def test_a_model_takes_a_few_tensors_more_than_itself(tmp_path: Path) -> None:
    """Peak memory of a fresh process that loads a stage with 100 MB of trained modules, and of one with its base."""
    sizes = {"hidden_size": 1024, "intermediate_size": 1024, "num_hidden_layers": 8, "num_key_value_heads": 4}
    plain_model(tmp_path / "base" / "model", "llama", torch.float32, **sizes)
    config = Adapter(**TINY_ADAPTER | {"full_last_layers": 8})
    (tmp_path / "stage").mkdir()
    adapter.save(adapter.trainable(tmp_path / "base", None, config, 0), tmp_path / "stage")
    alone, loaded = (float(run_apart(PEAK, tmp_path / "base", tmp_path / name)) for name in ("base", "stage"))
    assert loaded - alone < 25e6 < 100e6 < (tmp_path / "stage" / "full.safetensors").stat().st_size


PEAK = """
import resource, sys
from pathlib import Path
from src.model import difference
model = difference.load(Path(sys.argv[1]), Path(sys.argv[2]))
sum(float(parameter.sum()) for parameter in model.parameters())  # what is mapped is read
print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def run_apart(code: str, *arguments: Path) -> str:
    """What a fresh process prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_bytes_of_a_stage_are_those_of_what_it_trained(store: Path) -> None:
    """Against the whole copy that it replaces: LoRA's factors and the modules trained in full, and headers."""
    files = [file for file in (store / "asr").rglob("*") if file.is_file()]
    trained = [p.nbytes for p in adapter.trainable(
        store / "base", None, Adapter(**TINY_ADAPTER), 0).parameters() if p.requires_grad]  # fmt: skip
    whole = sum(tensor.nbytes for tensor in load_all(store / "whole-asr").values())
    size = sum(file.stat().st_size for file in files)
    assert sum(trained) < size < sum(trained) + 10_000 < whole


def test_bfloat16_base_gives_a_bfloat16_model_and_a_float32_difference(tmp_path: Path) -> None:
    store = make_store(tmp_path, "qwen2", torch.bfloat16)
    difference.materialize(store / "base", store / "sqa", tmp_path / "model")
    expected = folded(store / "base", store / "sqa").state_dict()
    made = load_all(tmp_path / "model")
    assert "lm_head.weight" not in made  # tied
    assert all(torch.equal(made[name], expected[name].bfloat16()) for name in made)
    difference.write(store / "base", store / "sqa", tmp_path / "difference")
    written = load_all(tmp_path / "difference")
    assert sorted(written) == difference.changed_keys(store / "base", store / "sqa")
    assert any(name.endswith("q_proj.bias") for name in written)  # trained in full in the last layer
    assert all(torch.equal(written[name], expected[name]) for name in written)


# Merges

WEIGHTS = {"asr": 0.04, "tts": 0.06, "sqa": 0.9}


UNWEIGHTED = ("slerp", "karcher", "model_stock", "nearswap", "arcee_fusion", "sce", "passthrough", "ram", "ramplus_tl")


def config(
    method: str, base: str | None = "base", stages: Sequence[str] = STAGES, times: float | None = None, **settings: Any
) -> dict[str, Any]:
    """A merge as its step is configured; `times` is the parameter lambda."""
    own = {k: v for k, v in settings.items() if k in ("density", "gamma", "epsilon", "scale")}
    models = {role: own if method in UNWEIGHTED else {"weight": WEIGHTS[role], **own} for role in stages}
    shared = {k: v for k, v in settings.items() if k not in own} | ({} if times is None else {"lambda": times})
    return {"method": method, "models": models, "base_model": base, "parameters": shared, "dtype": "float32"}


LINEAR = {"base": {"weight": 0.02}, "asr": {"weight": 0.03}, "tts": {"weight": 0.05}, "sqa": {"weight": 0.9}}
ONE, TWO = ("sqa",), ("tts", "sqa")
CONFIGS: dict[str, dict[str, Any]] = {
    "linear": config("linear", None) | {"models": LINEAR},
    "ties": config("ties", density=0.9, normalize=True, times=1.0),
    "dare_ties": config("dare_ties", density=0.91, normalize=True),
    "dare_linear": config("dare_linear", density=0.7),
    "della": config("della", density=0.7, epsilon=0.1, normalize=False, times=1.1),
    "della_linear": config("della_linear", density=0.6, epsilon=0.2),
    "breadcrumbs": config("breadcrumbs", density=0.8, gamma=0.05),
    "breadcrumbs_ties": config("breadcrumbs_ties", density=0.8, gamma=0.05),
    "task_arithmetic": config("task_arithmetic", times=0.8),
    "slerp": config("slerp", stages=ONE, t=[0.2, 0.9]),  # a gradient over the layers
    "nuslerp": config("nuslerp", stages=TWO),
    "multislerp": config("multislerp", None),
    "karcher": config("karcher", None),
    "model_stock": config("model_stock"),
    "nearswap": config("nearswap", stages=ONE, t=0.01),
    "arcee_fusion": config("arcee_fusion", stages=ONE),
    "sce": config("sce", select_topk=0.5),
    "ram": config("ram"),
    "ramplus_tl": config("ramplus_tl"),
    "passthrough": config("passthrough", None, stages=ONE),
    # densities that differ by layer and by model: other tensors draw nothing, one or two numbers an element
    "dare_gradient": config("dare_ties", density=[1.0, 0.5, 1.0])
    | {"models": {"asr": {"weight": 0.5, "density": [1.0, 0.5]}, "sqa": {"weight": 0.5, "density": 0.9}}},
    "dare_bfloat16": config("dare_ties", density=0.5) | {"dtype": "bfloat16"},
}
SEED = 3
WHOLE_BY_COMMAND = """
import sys
from mergekit.scripts.run_yaml import main
for name in sys.argv[3:]:
    options = ["--random-seed", sys.argv[2], "--no-write-model-card"]
    main([f"{sys.argv[1]}/{name}.yaml", f"{sys.argv[1]}/{name}", *options], standalone_mode=False)
"""


def whole_merge(described: dict[str, Any], out: Path, seed: int = SEED) -> dict[str, torch.Tensor]:
    """mergekit's merge of whole models, in this process."""
    from mergekit.config import MergeConfiguration
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    options = MergeOptions(random_seed=seed, quiet=True, write_model_card=False)
    with torch.random.fork_rng():
        run_merge(MergeConfiguration.model_validate(described), str(out), options=options)
    LoaderCache.loaders.clear()
    return load_all(out)


def test_every_method_of_mergekit_is_tried() -> None:
    assert {config["method"] for config in CONFIGS.values()} == set(METHODS)


@pytest.fixture(scope="module")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `mergekit-yaml` makes of the whole models, for every configuration."""
    out = tmp_path_factory.mktemp("whole")
    paths = {"base": str(store / "base" / "model")} | {s: str(store / f"whole-{s}") for s in STAGES}
    for name, settings in CONFIGS.items():
        (out / f"{name}.yaml").write_text(yaml.safe_dump(recipe(settings, paths)))
    command = [sys.executable, "-c", WHOLE_BY_COMMAND, str(out), str(SEED), *CONFIGS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def merge_parts(
    store: Path, settings: dict[str, Any], folder: Path, seed: int = SEED
) -> Path:  # fmt: skip
    """The same merge from the stages' differences, as an artifact."""
    base, stages = store / "base", {role: store / role for role in settings["models"] if role != "base"}
    names = {name for stage in stages.values() for name in difference.changed_keys(base, stage)}
    paths = {"base": str(base / "model")}
    for role, stage in stages.items():
        difference.write(base, stage, folder / role, names)
        paths[role] = str(folder / role)
    difference.merge(recipe(settings, paths), base, names, folder / "artifact" / "merged", seed)
    return folder / "artifact"


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_mergekit_on_whole_models(name: str, store: Path, whole: Path, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    artifact = merge_parts(store, CONFIGS[name], tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)
    ours, theirs, base = load_all(artifact / "merged"), load_all(whole / name), load_all(store / "base" / "model")
    assert ours.keys() == CHANGED == set(difference.changed_keys(store / "base", artifact))
    for key, tensor in ours.items():
        assert tensor.dtype == theirs[key].dtype and torch.equal(tensor, theirs[key]), key
        assert not torch.equal(tensor.float(), base[key]), key
    tolerance = 1e-2 if "bfloat16" in name else 1e-6
    assert theirs.keys() == base.keys()
    for key in base.keys() - CHANGED:
        torch.testing.assert_close(base[key], theirs[key].float(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["dare_ties", "della", "arcee_fusion"])
def test_random_methods_depend_on_the_seed(
    name: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mergekit.merge_methods.arcee_fusion._QUANTILE_SAMPLE_SIZE", 50)
    first, again, other = (
        load_all(merge_parts(store, CONFIGS[name], tmp_path / str(i), seed) / "merged")
        for i, seed in enumerate((7, 7, 8))
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in CHANGED)


def test_the_draws_of_arcee_fusion_for_tensors_that_are_left_out(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It samples tensors of more than a million elements, as here those of more than fifty."""
    monkeypatch.setattr("mergekit.merge_methods.arcee_fusion._QUANTILE_SAMPLE_SIZE", 50)
    settings = CONFIGS["arcee_fusion"]
    paths = {"base": str(store / "base" / "model"), "sqa": str(store / "whole-sqa")}
    theirs = whole_merge(recipe(settings, paths), tmp_path / "whole")
    ours = load_all(merge_parts(store, settings, tmp_path / "ours") / "merged")
    assert all(torch.equal(ours[key], theirs[key]) for key in CHANGED)


def test_a_merge_is_materialized_with_the_base_s_untouched_files(store: Path, tmp_path: Path) -> None:
    artifact, out = merge_parts(store, CONFIGS["ties"], tmp_path), tmp_path / "model"
    difference.materialize(store / "base", artifact, out)
    made = load_all(out)
    shared = {file.stat().st_ino for file in (store / "base" / "model").glob("*.safetensors")}
    linked = [file for file in out.glob("*.safetensors") if file.stat().st_ino in shared]
    held = Checkpoint(out).by_file()
    assert {name for file in linked for name in held[file.name]} == made.keys() - CHANGED
    assert all(torch.equal(made[name], tensor) for name, tensor in load_all(artifact / "merged").items())
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.float32
    assert AutoTokenizer.from_pretrained(out).convert_tokens_to_ids("<|19|>") == 319


def test_mergekit_reads_no_other_tensor(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mergekit.io.lazy_tensor_loader import LazyTensorLoader

    read: list[str] = []
    original = LazyTensorLoader.get_tensor

    def watched(self: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        read.append(key)
        return original(self, key, *args, **kwargs)

    monkeypatch.setattr(LazyTensorLoader, "get_tensor", watched)
    merge_parts(store, CONFIGS["dare_ties"], tmp_path)
    assert set(read) == CHANGED


def test_a_merge_on_a_bfloat16_base_is_rounded_where_it_is_exported_alone(tmp_path: Path) -> None:
    """The result is in float32; a whole model of it has the base's own type throughout, as mergekit gives it."""
    store = make_store(tmp_path / "store", "qwen2", torch.bfloat16)
    settings = CONFIGS["dare_ties"]
    paths = {"base": str(store / "base" / "model")} | {role: str(store / f"whole-{role}") for role in STAGES}
    theirs = whole_merge(recipe(settings, paths) | {"out_dtype": "bfloat16"}, tmp_path / "whole")
    artifact = merge_parts(store, settings, tmp_path / "ours")
    assert {tensor.dtype for tensor in load_all(artifact / "merged").values()} == {torch.float32}
    difference.materialize(store / "base", artifact, tmp_path / "model")
    ours = load_all(tmp_path / "model")
    assert ours.keys() == theirs.keys() and {tensor.dtype for tensor in ours.values()} == {torch.bfloat16}
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_stages_that_trained_different_modules(store: Path, tmp_path: Path) -> None:
    """What only one of them has changed, the other has from the base."""
    only_head = TINY_ADAPTER | {"target_modules": ["v_proj"], "full_modules": ["lm_head"], "full_last_layers": 0}
    model = adapter.trainable(store / "base", None, Adapter(**only_head), 5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 if parameter.requires_grad else 0.0)
    (tmp_path / "few").mkdir()
    adapter.save(model, tmp_path / "few")
    keys = difference.changed_keys(store / "base", tmp_path / "few")
    assert keys == ["lm_head.weight", *(f"model.layers.{i}.self_attn.v_proj.weight" for i in range(LAYERS))]
    difference.write(store / "base", tmp_path / "few", tmp_path / "written", CHANGED)
    written, base = load_all(tmp_path / "written"), load_all(store / "base" / "model")
    assert written.keys() == CHANGED
    assert all(torch.equal(written[name], base[name]) for name in CHANGED - set(keys))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (CONFIGS["linear"], False),
        (CONFIGS["linear"] | {"parameters": {"normalize": False}}, False),  # they sum to one
        (config("linear", None, TWO), False),
        (config("linear", None, TWO, normalize=False), True),
        (config("linear", None, TWO, normalize=[False, True]), True),  # by layer
        (config("passthrough", None, ONE, scale=0.5), True),
        (config("multislerp", None, TWO, normalize_weights=False), True),
        (config("multislerp", "base", TWO, normalize_weights=False), False),
        (config("task_arithmetic", times=3.0), False),
    ],
)
def test_a_merge_that_changes_every_tensor_needs_whole_models(
    settings: dict[str, Any], expected: bool, store: Path, tmp_path: Path
) -> None:
    """That `scales` is right is seen in the whole merge."""
    base, paths = store / "base", {"base": str(store / "base" / "model")}
    paths |= {role: str(store / f"whole-{role}") for role in STAGES}
    described = recipe(settings, paths)
    assert difference.scales(described) is expected
    untouched, plain = "model.layers.0.mlp.up_proj.weight", load_all(base / "model")
    theirs = whole_merge(described, tmp_path / "whole")
    assert torch.allclose(theirs[untouched], plain[untouched], rtol=1e-5, atol=1e-7) is not expected
    if expected:
        with pytest.raises(ValueError, match=f"merge.method={settings['method']}: weights that do not sum to one"):
            merge_parts(store, settings, tmp_path / "parts")
        difference.merge(described, base, plain.keys(), tmp_path / "ours", SEED)
        ours = load_all(tmp_path / "ours")
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
