"""Merge trained stages and the base with mergekit, by what differs between them.

The artifact holds the tensors that the merge changed, `merged/`, and `mergekit.yaml`, whose models are named by their
roles. `python -m src.export ROW OUT --parts` writes whole models under these names, and there
`mergekit-yaml mergekit.yaml merged --random-seed SEED --no-write-model-card` gives the same tensors, bit for bit.
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


def recipe(config: Mapping[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    """mergekit's own configuration of a merge.

    config: "method", "parameters" (of the merge), "models" (role -> parameters of that model, in the order of merging),
    "base_model" (a role or None), "dtype" (of the arithmetic).
    paths: role -> path of the model folder as mergekit shall see it.
    """
    result: dict[str, Any] = {"merge_method": config["method"], "dtype": config["dtype"]}
    if config["base_model"] is not None:
        result["base_model"] = paths[config["base_model"]]
    if config["parameters"]:
        result["parameters"] = dict(config["parameters"])
    result["models"] = [
        {"model": paths[role], **({"parameters": dict(parameters)} if parameters else {})}
        for role, parameters in config["models"].items()
    ]
    return result


def merge(
    config: Mapping[str, Any], seed: int, base: Path, stages: Mapping[str, Path], out: Path, context: "Context"
) -> dict[str, Any]:
    """Merge the base and trained stages (role -> artifact) into `out/merged`; keep the recipe as `out/mergekit.yaml`.

    config as in `recipe`. seed fixes the masks of the random methods (DARE, DELLA). The result is in the type of the
    arithmetic: in a base's bfloat16 it would lose more than some strategies differ by. Models are written to
    `context.work` meanwhile: what differs between them or, where that is every tensor (`difference.scales`), the whole
    of each.
    Raises ValueError where the method does not take such a configuration.
    """
    import torch

    from src.model import difference
    from src.model.checkpoint import Checkpoint

    config = check(config)
    roles = dict.fromkeys([*config["models"], *([config["base_model"]] if config["base_model"] is not None else [])])
    for role in roles:
        if role != "base" and role not in stages:
            raise ValueError(f"merge: no model with the role {role!r}; there are {', '.join(['base', *stages])}")
    stages = {role: stages[role] for role in roles if role != "base"}
    if not stages:
        raise ValueError("merge.models: at least one stage must be among them")
    checkpoint = Checkpoint(base / difference.MODEL)
    names = {name for stage in stages.values() for name in difference.changed_keys(base, stage)}
    kept = recipe(config, {role: role for role in roles})
    (out / "mergekit.yaml").write_text(yaml.safe_dump(kept, sort_keys=False))
    if whole := difference.scales(kept):
        names = set(checkpoint.files)

    scratch = context.work / "models"
    shutil.rmtree(scratch, ignore_errors=True)
    paths = {"base": str(base.resolve() / difference.MODEL)}
    try:
        context.report(done=0, total=len(names))
        for role, stage in stages.items():
            if whole:
                difference.materialize(base, stage, scratch / role, dtype=torch.float32)
            else:
                difference.write(base, stage, scratch / role, names)
            paths[role] = str((scratch / role).resolve())
        difference.merge(
            recipe(config, paths), base, names, out / difference.MERGED, seed,
            progress=lambda done: context.report(done=done, total=len(names)),
        )  # fmt: skip
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {"method": config["method"], "models": list(config["models"]), "tensors": len(names), "whole": whole}
