"""A PEFT adapter in the folder in which it was published, made what a trained stage leaves: `adapter/` and
`full.safetensors` (src/model/adapter.py).

The paper's authors save theirs so: LoRA and, by PEFT's `modules_to_save`, the embeddings, the head and the `base_layer`
of some projections in full, in `final_model/`, with the tokenizer beside it in `final_tokenizer/` (ForgetSLM,
train/train_slm.py). It is one of Llama 3.2 Vision, whose cross-attention layers are left out here: what stands in them
is dropped, and the other layers are numbered anew, as in src/model/text_part.py.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import save_file

from src.data.prompts import UNIT
from src.model.adapter import ADAPTER, FULL, LORA, PREFIX, SETTINGS
from src.model.checkpoint import SETTINGS as TOKENIZER
from src.model.checkpoint import Checkpoint
from src.model.text_part import TOKENIZERS, text_name, tokenizer_of
from src.model.vocabulary import EMBEDDINGS, HEAD

INNER, TOKENIZER_BESIDE = "final_model", "final_tokenizer"
"""Folders of the authors' layout."""
OWN = (SETTINGS, LORA, *TOKENIZER)
WANTED = [*OWN, *(f"{folder}/{name}" for folder in (INNER, TOKENIZER_BESIDE) for name in OWN)]
"""Patterns of the files that are downloaded."""
PLAIN = {"peft_type": ("LORA",), "bias": ("none",), "init_lora_weights": (True, False, "gaussian")}
"""What is understood of an adapter_config.json; other forms of LoRA change the model otherwise."""
OTHER_FORMS = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "lora_bias",
               "layer_replication", "trainable_token_indices", "target_parameters")  # fmt: skip
"""Settings of PEFT by which an adapter is another one; all of them must be off."""
LAYER = re.compile(r"(?:language_model\.model|model\.language_model|model)\.layers\.(\d+)\.(\w+)")
OF_IMAGES = re.compile(r"vision_model|multi_modal_projector")
FACTOR = re.compile(r"(.+)\.lora_([AB])\.weight")


def write(source: Path, base: Path, out: Path) -> dict[str, Any]:
    """Write the adapter in the folder `source` to `out`; a summary.

    base: folder of the base model, with the units in its vocabulary. Raises ValueError, one line, for an adapter of
    another form than plain LoRA, without the embeddings in full, or of another model than the base.
    """
    inner = source / INNER if (source / INNER / SETTINGS).is_file() else source
    config = _config(inner)
    compared = [_same_tokens(folder, base) for folder in (inner, source, source / TOKENIZER_BESIDE)]
    shapes = Checkpoint(base).shapes()
    full, lora, dropped = {}, {}, 0
    with safe_open(inner / LORA, framework="pt") as tensors:
        names = list(tensors.keys())
        layers = _layers(names, json.loads((base / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"])
        for key in names:
            name = key.removeprefix(PREFIX).replace(".modules_to_save.", ".").replace(".base_layer.", ".")
            factor = FACTOR.fullmatch(name)
            weight = f"{factor[1]}.weight" if factor else name
            target = text_name(weight, layers)
            if target is None and (OF_IMAGES.search(name) or LAYER.search(name)):
                dropped += 1
                continue
            if target not in shapes:
                raise ValueError(f"{inner / LORA} has {key}, which is no tensor of the base model {base}")
            tensor = tensors.get_tensor(key)
            wanted = shapes[target]
            if factor:
                wanted = (config["r"], wanted[1]) if factor[2] == "A" else (wanted[0], config["r"])
            if tuple(tensor.shape) != wanted:
                raise ValueError(f"{inner / LORA}: {key} has the shape {tuple(tensor.shape)}; on the base model with "
                                 f"its units it must be {wanted}")  # fmt: skip
            if factor:
                lora[f"{PREFIX}{target.removesuffix('.weight')}.lora_{factor[2]}.weight"] = tensor
            else:
                full[target] = tensor
    _require_whole(inner, full, lora, shapes)
    (out / ADAPTER).mkdir(parents=True)
    save_file(full, out / FULL, metadata={"format": "pt"})
    save_file(lora, out / ADAPTER / LORA, metadata={"format": "pt"})
    modules = sorted({key.split(".")[-3] for key in lora})
    LoraConfig(
        r=config["r"], lora_alpha=config["lora_alpha"], target_modules=modules, bias="none", task_type="CAUSAL_LM",
        inference_mode=True,
    ).save_pretrained(str(out / ADAPTER))  # fmt: skip
    return {
        "in_full": len(full),
        "adapted": len(lora) // 2,
        "dropped": dropped,
        "base_by_its_own_word": config.get("base_model_name_or_path"),
        "tokenizer_compared": any(compared),
    }


def check(source: Path) -> None:
    """Raise ValueError, one line, for a folder that is no adapter of a known form, by its configuration."""
    inner = source / INNER if (source / INNER / SETTINGS).is_file() else source
    _config(inner)


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / SETTINGS).is_file():
        whole = "a whole model is strategy.given.model"
        raise ValueError(f"{folder} has no {SETTINGS}: it must be a folder of PEFT ({whole})")
    if not (folder / LORA).is_file():
        raise ValueError(f"{folder} has no {LORA}; pickled weights are not loaded: save it in safetensors")
    try:
        config: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / SETTINGS} is no JSON: {error}") from error
    for name, known in PLAIN.items():
        if config.get(name, known[0]) not in known:
            raise ValueError(f"{folder / SETTINGS}: {name} is {config[name]!r}; it must be {known[0]!r}")
    for name in OTHER_FORMS:
        if config.get(name):
            raise ValueError(f"{folder / SETTINGS}: {name} is {config[name]!r}; plain LoRA alone can be read")
    for name in ("r", "lora_alpha"):
        if not isinstance(config.get(name), int | float) or config[name] <= 0:
            raise ValueError(f"{folder / SETTINGS}: {name} is {config.get(name)!r}; it must be a number above 0")
    return config


def _layers(names: Iterable[str], count: int) -> dict[int, int]:
    """Number of each layer in the adapter -> in the base, which has `count` of them. The layers of a vision model's
    cross-attention have no number."""
    places = [found.groups() for name in names if (found := LAYER.search(name))]
    crossing = {int(layer) for layer, module in places if module == "cross_attn"}
    kept = sorted({int(layer) for layer, _ in places} - crossing)
    if not crossing and not (kept and kept[-1] >= count):
        return {layer: layer for layer in range(count)}
    if len(kept) != count:
        raise ValueError(f"the adapter has {len(kept)} layers of self-attention up to number {kept[-1]}, and its base "
                         f"model {count} layers")  # fmt: skip
    return {old: new for new, old in enumerate(kept)}


def _require_whole(folder: Path, full: Mapping[str, Any], lora: Mapping[str, Any], shapes: Mapping[str, Any]) -> None:
    """Raise ValueError unless there are both factors of each adapted module, and the embeddings and the head in full:
    in those of the base the units have learned nothing."""
    for name in (EMBEDDINGS, HEAD):
        if name in shapes and name not in full:
            raise ValueError(f"{folder / LORA} has no {name}: the units have learned nothing without it")
    for key in lora:
        other = key.replace("lora_A", "lora_B") if ".lora_A." in key else key.replace("lora_B", "lora_A")
        if other not in lora:
            raise ValueError(f"{folder / LORA} has {key} without {other}")


def _same_tokens(folder: Path, base: Path) -> bool:
    """Whether a folder has a tokenizer. Raises ValueError if that numbers its tokens otherwise than the base's."""
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        return False
    theirs, ours = (tokenizer_of(place).get_vocab() for place in (folder, base))
    if theirs != ours:
        units = [sum(UNIT.fullmatch(token) is not None for token in vocabulary) for vocabulary in (theirs, ours)]
        other = min(theirs.items() ^ ours.items(), key=lambda each: each[1])
        raise ValueError(
            f"{folder}: its tokenizer has {len(theirs)} tokens, {units[0]} of them units; the base model's has "
            f"{len(ours)}, {units[1]} of them units (speech.quantizer.clusters); they differ from {other[0]!r} on, "
            f"number {other[1]}"
        )
    return True
