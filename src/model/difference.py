"""What is trained or merged, as its difference to the base: no other tensor is computed, stored or merged.

Three artifacts bear a model. The base has all of it, `model/`. A trained stage, discounted or not, has its adapter and
the modules that it trained in full (`src.model.adapter`). A merge has the tensors that it changed, `merged/`. With the
base each of them gives a model in memory (`load`), a whole folder (`materialize`), or a checkpoint of what differs
(`write`), of which several are merged (`merge`).

Every method of mergekit 0.1.5 computes a tensor from the tensors of that name alone, so that a merge of some gives the
same bits as a merge of all. Two things have to be seen to:

- DARE, DELLA and Arcee Fusion draw from torch's global generator, tensor by tensor in the order of their names. What a
  merge of whole models would have drawn for the tensors that are left out is drawn and thrown away (`_skip`): about
  3.4 ns a number on one core, a minute for three models of 8 B.
- A tensor that is the same in all models comes out of a merge unchanged up to rounding, and is the base's own here. By
  a few configurations it comes out scaled, such as linear with weights that neither sum to one nor are normalized
  (`scales`); these need whole models, and every tensor of theirs is kept.
"""

import json
import math
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from src.model.adapter import ADAPTER, FULL, LORA, PREFIX, SETTINGS
from src.model.checkpoint import SHARD_BYTES, Checkpoint, Writer, copy_settings, replace, require_finite

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MODEL, MERGED = "model", "merged"

BERNOULLI = ("dare_linear", "dare_ties", "della", "della_linear")
"""Methods that draw a number for each element of each model's difference, where that model's density is below 1."""
DRAWN_AT_ONCE = 2**22


def changed_keys(base: Path, artifact: Path) -> list[str]:
    """Sorted names of the base's tensors that the artifact has others of; none where it is the base itself.

    base: artifact with `model/`. artifact: the base, a stage (`adapter/`, `full.safetensors`) or a merge (`merged/`).
    Raises ValueError if it is none of these, or has a tensor that the base has not.
    """
    if artifact.resolve() == base.resolve():
        return []
    if (artifact / MERGED).is_dir():
        changed = list(Checkpoint(artifact / MERGED).files)
    elif (artifact / ADAPTER).is_dir():
        with _stage(artifact) as (full, lora):
            changed = [*full.keys(), *(_base_name(key) for key in lora.keys())]  # noqa: SIM118
    else:
        raise ValueError(f"{artifact} has neither {ADAPTER}/ nor {MERGED}/, and is not the base model {base}")
    known = Checkpoint(base / MODEL).files
    for name in changed:
        if name not in known:
            raise ValueError(f"{artifact} has changed {name}, which the base model {base} has not")
    return sorted(set(changed))


def changed_tensors(base: Path, artifact: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of `changed_keys`, one at a time.

    A stage's are in float32: W + (alpha / r) B A, where W is the stage's if it trained it in full. A merge's are as it
    has them.
    """
    names = changed_keys(base, artifact)
    if not names:
        return
    if (artifact / MERGED).is_dir():
        merged = Checkpoint(artifact / MERGED)
        yield from ((name, merged.tensor(name)) for name in names)
        return
    config = json.loads((artifact / ADAPTER / SETTINGS).read_text())
    scaling = config["lora_alpha"] / config["r"]
    checkpoint = Checkpoint(base / MODEL)
    with _stage(artifact) as (full, lora):
        in_full, adapted = set(full.keys()), set(lora.keys())
        for name in names:
            tensor = (full.get_tensor(name) if name in in_full else checkpoint.tensor(name)).float()
            module = PREFIX + name.removesuffix(".weight")
            if f"{module}.lora_A.weight" in adapted:
                a, b = (lora.get_tensor(f"{module}.lora_{side}.weight").float() for side in "AB")
                tensor = tensor + (b @ a) * scaling
            yield name, tensor


def load(base: Path, artifact: Path, dtype: torch.dtype = torch.float32) -> "PreTrainedModel":
    """The model of an artifact, in memory alone; nothing is written.

    dtype: of the model, in which it computes too. The changed tensors are rounded to it once, from float32, and never
    to the base's own type.
    """
    from transformers import AutoModelForCausalLM

    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base / MODEL, dtype=dtype)
    with torch.no_grad():
        for name, tensor in changed_tensors(base, artifact):
            model.get_parameter(name).copy_(tensor)
    return model


def write(
    base: Path, artifact: Path, out: Path, names: Collection[str] = (), shard_bytes: int = SHARD_BYTES
) -> None:  # fmt: skip
    """Write a checkpoint of the changed tensors alone, with what mergekit needs of a configuration.

    names: tensors that it shall hold even if this artifact has not changed them, because another has.
    """
    writer = Writer(out, shard_bytes)
    shutil.copyfile(base / MODEL / "config.json", out / "config.json")
    for name, tensor in changed_tensors(base, artifact):
        writer.add(name, tensor)
    checkpoint = Checkpoint(base / MODEL)
    for name in sorted(set(names) - set(changed_keys(base, artifact))):
        writer.add(name, checkpoint.tensor(name))
    writer.finish()


def materialize(
    base: Path,
    artifact: Path,
    out: Path,
    dtype: torch.dtype | None = None,
    linked: bool = True,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the whole model of an artifact to `out`, a plain Hugging Face folder, in the memory of a few tensors.

    dtype: of the changed tensors; None is that of the base's. linked: files in which nothing has changed are hard links
    to the base's, so that nothing may write into them; else the folder is a copy through and through.
    """
    checkpoint = Checkpoint(base / MODEL)
    tensors = (
        (name, tensor.to(dtype or checkpoint.tensor(name).dtype)) for name, tensor in changed_tensors(base, artifact)
    )
    copy_settings(base / MODEL, out)
    replace(base / MODEL, out, changed_keys(base, artifact), tensors, shard_bytes, linked)


def scales(recipe: Mapping[str, Any]) -> bool:
    """Whether a tensor that is the same in all models would not come out as it is."""
    method, parameters, models = recipe["merge_method"], recipe.get("parameters", {}), recipe["models"]
    given = lambda name: [model.get("parameters", {}).get(name, parameters.get(name)) for model in models]  # noqa: E731
    if method == "passthrough":
        return given("scale")[0] not in (None, 1)
    if method == "linear":
        summed = parameters.get("normalize", True) is not True
    else:
        normalized = parameters.get("normalize_weights", True) is True
        summed = method == "multislerp" and "base_model" not in recipe and not normalized
    weights = given("weight")
    constant = all(isinstance(weight, int | float) for weight in weights)
    return summed and not (constant and math.isclose(sum(weights), 1, abs_tol=1e-6))


def merge(
    recipe: Mapping[str, Any],
    base: Path,
    names: Collection[str],
    out: Path,
    seed: int,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int], object] = lambda done: None,
) -> None:
    """Merge the tensors `names` with mergekit, and write a checkpoint of them alone to `out`.

    recipe: mergekit's configuration; its models are paths: the base's `model/`, and folders from `write` (or whole
    models) for the others. names: what any of them has changed, which each must hold; every tensor of the base where
    the recipe `scales`, else ValueError is raised. The result has the recipe's `out_dtype`, else its `dtype`.
    progress: told how many of them are merged, after each.
    """
    from mergekit.architecture import get_architecture_info
    from mergekit.config import MergeConfiguration
    from mergekit.io.tasks import LoaderCache, SaveTensor
    from mergekit.options import MergeOptions
    from mergekit.plan import MergePlanner
    from transformers import AutoConfig

    if scales(recipe) and (left_out := Checkpoint(base / MODEL).files.keys() - set(names)):
        raise ValueError(
            f"merge.method={recipe['merge_method']}: weights that do not sum to one change every tensor, "
            f"{min(left_out)} too: merge whole models"
        )

    def reference(path: str) -> dict[str, Any]:
        return {"model": {"path": path}}  # as a mapping: mergekit searches strings for "+" and "@"

    described = {**recipe, "models": [{**model, "model": reference(model["model"])} for model in recipe["models"]]}
    if "base_model" in recipe:
        described["base_model"] = reference(recipe["base_model"])
    configuration = MergeConfiguration.model_validate(described)
    options = MergeOptions(quiet=True)
    settings = AutoConfig.from_pretrained(base / MODEL)
    LoaderCache().setup(options)
    try:
        architecture = get_architecture_info(configuration, options)
        planned = MergePlanner(configuration, architecture, options, settings).plan_to_disk(str(out))
        tasks = [task for task in planned if isinstance(task, SaveTensor)]
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            writer = Writer(out, shard_bytes)
            merged = _merged(sorted(tasks, key=lambda task: task.tensor_name), set(names), base)
            for done, (name, tensor) in enumerate(merged, start=1):
                writer.add(name, tensor)
                progress(done)
            writer.finish()
    finally:
        LoaderCache.loaders.clear()  # mergekit keeps opened checkpoints, by path, for the life of the process
    if missing := set(names) - Checkpoint(out).files.keys():
        raise ValueError(f"mergekit does not know of {min(missing)}, which is to be merged")


def _merged(tasks: Sequence[Any], names: set[str], base: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor of `names`, with torch's generator where it stands in a merge of whole models.

    tasks: what mergekit plans to save, in the order in which it does so.
    """
    from mergekit.common import dtype_from_name
    from mergekit.graph import Executor

    shapes = Checkpoint(base / MODEL).shapes()
    for task in tasks:
        if task.tensor_name in names:
            ((_, tensor),) = Executor([task.tensor_task]).run(quiet=True)
            require_finite(task.tensor_name, tensor, f"the merge ({task.tensor_task.method_name})")
            yield task.tensor_name, tensor.to(dtype_from_name(task.dtype) or tensor.dtype)
        else:
            _skip(task.tensor_task, math.prod(shapes[task.tensor_name]))


def _skip(task: Any, elements: int) -> None:
    """Draw what mergekit draws when it merges a tensor of so many elements."""
    if task.method_name in BERNOULLI:
        others = [model for model in task.model_order if model != task.base_model]
        left = elements * sum(task.input_parameters[model]["density"] < 1 for model in others)
        while left:
            left -= torch.empty(min(left, DRAWN_AT_ONCE)).uniform_().numel()
    elif task.method_name == "arcee_fusion":
        from mergekit.merge_methods.arcee_fusion import _QUANTILE_SAMPLE_SIZE as SAMPLE

        if elements > SAMPLE:
            torch.randint(elements, (SAMPLE,))


def _base_name(key: str) -> str:
    """The base's name of the tensor to which a tensor of the adapter belongs."""
    return key.removeprefix(PREFIX).replace(".lora_A.", ".").replace(".lora_B.", ".")


@contextmanager
def _stage(artifact: Path) -> Iterator[tuple[Any, Any]]:
    """The opened files of a stage: modules trained in full, and LoRA's factors."""
    with (
        safe_open(artifact / FULL, framework="pt") as full,
        safe_open(artifact / ADAPTER / LORA, framework="pt") as lora,
    ):
        yield full, lora
