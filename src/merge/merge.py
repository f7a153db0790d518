"""Merge model artifacts with mergekit: a step body, and its YAML as `mergekit-yaml` takes it.

The artifact keeps `mergekit.yaml`, whose model paths are relative to the store. From the store's folder,
`mergekit-yaml NAME/mergekit.yaml OUT --random-seed SEED --no-write-model-card` gives the same tensors, bit for bit.
(To write its card, mergekit asks the Hugging Face hub about each path.)
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from src.merge.methods import check

if TYPE_CHECKING:
    from src.grid.context import Context

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
)


ORDER = ("base", "asr", "tts", "sqa")


def recipe(config: Mapping[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    """mergekit's own configuration of a merge.

    config: "method", "parameters" (of the merge), "models" (role -> parameters of that model), "base_model" (a role or
    None), "dtype" (of the arithmetic and of the result).
    paths: role -> path of the model folder as mergekit shall see it.
    """
    result: dict[str, Any] = {"merge_method": config["method"], "dtype": config["dtype"]}
    if config["base_model"] is not None:
        result["base_model"] = paths[config["base_model"]]
    if config["parameters"]:
        result["parameters"] = dict(config["parameters"])
    result["models"] = [
        {"model": paths[role], **({"parameters": dict(parameters)} if parameters else {})}
        for role, parameters in sorted(config["models"].items(), key=lambda item: _rank(item[0]))
    ]
    return result


def _rank(role: str) -> tuple[int, str]:
    """Models are merged in the order of training, not in that of the settings, which no fingerprint holds."""
    return (ORDER.index(role) if role in ORDER else len(ORDER), role)


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, context: "Context") -> dict[str, Any]:
    """Merge `inputs` (role -> artifact folder with `model/`) into `out/model`; keep the recipe as `out/mergekit.yaml`.

    config as in `recipe`, and "seed", which fixes the masks of the random methods (DARE, DELLA).
    Tokenizer and generation settings are the base model's (without one: the first model's).
    Raises ValueError where the method does not take such a configuration.
    """
    check(config)
    roles = [*config["models"], *([config["base_model"]] if config["base_model"] is not None else [])]
    for role in roles:
        if role not in inputs:
            raise ValueError(f"merge: no model with the role {role!r}; there are {', '.join(inputs)}")
    relative = recipe(config, {role: f"{inputs[role].name}/model" for role in roles})
    (out / "mergekit.yaml").write_text(yaml.safe_dump(relative, sort_keys=False))
    # Full paths, so that the working directory does not matter, and as mappings, which mergekit does not search for
    # "+" (adapter) and "@" (revision).
    absolute = recipe(config, {role: str(inputs[role].resolve() / "model") for role in roles})
    donor = inputs[config["base_model"] or ("base" if "base" in inputs else roles[0])] / "model"
    context.report(done=0, total=1)
    _merge(absolute, donor, out / "model", config["seed"])
    context.report(done=1, total=1)
    return {"method": config["method"], "models": list(config["models"])}


def _merge(recipe: dict[str, Any], donor: Path, target: Path, seed: int) -> None:
    from mergekit.config import MergeConfiguration
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions
    from transformers import AutoConfig

    def reference(path: str) -> dict[str, Any]:
        return {"model": {"path": path}}

    described = {**recipe, "models": [{**model, "model": reference(model["model"])} for model in recipe["models"]]}
    if "base_model" in recipe:
        described["base_model"] = reference(recipe["base_model"])
    options = MergeOptions(random_seed=seed, quiet=True, write_model_card=False, copy_tokenizer=False)
    try:
        run_merge(MergeConfiguration.model_validate(described), str(target), options=options)
    finally:
        LoaderCache.loaders.clear()  # mergekit keeps opened checkpoints, by path, for the life of the process
    # Without a base model mergekit copies the configuration of whichever model its set yields first.
    configuration = AutoConfig.from_pretrained(donor)
    configuration.dtype = recipe["dtype"]
    configuration.save_pretrained(target)
    for name in TOKENIZER_FILES:
        if (donor / name).is_file():
            shutil.copyfile(donor / name, target / name)
