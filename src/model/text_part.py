"""The text model that is trained, as a plain causal language model in safetensors, from the hub or from a folder.

Llama 3.2 Vision leaves its cross-attention layers out where there is no image. Without them, the layers numbered anew
and the embedding cut to the vocabulary, its text part is an ordinary Llama with the same logits.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from src.model.checkpoint import GROUPS, INDEX, SETTINGS, SHARD_BYTES, Checkpoint, Writer, copy_settings
from src.model.hub_files import snapshot

SUPPORTED = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""Architectures with q_proj, k_proj and v_proj in every layer and logits that are lm_head(hidden) and no more."""
VISION = ("MllamaForConditionalGeneration", "MllamaForCausalLM")

TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"))
"""Files of which a tokenizer is made: all of one of these."""
TYPES = ("F32", "F16", "BF16")
"""Types of weights that can be trained, in safetensors' words."""
TEMPLATES = ("chat_template.jinja", "chat_template.json")

WANTED = ["model*.safetensors", INDEX, *SETTINGS]
"""Patterns of the files that are downloaded: neither pickles nor the second copy of the weights that some have."""


def fetch(source: str, revision: str | None = None) -> Path:
    """The folder of a model, of which only safetensors, configuration and tokenizer are downloaded (see
    `hub_files.snapshot`)."""
    return snapshot(source, WANTED, revision)


def write(source: Path, out: Path, shard_bytes: int = SHARD_BYTES) -> dict[str, Any]:
    """Write the causal language model in the folder `source` to `out`, a plain Hugging Face folder; its summary.

    Llama 3.2 Vision gives its text part, in any of the three styles of names that its checkpoints have; other
    `SUPPORTED` models stay as they are. Tensors keep their type. Raises ValueError, one line, for a folder that is no
    such model, or is incomplete.
    """
    check(source)
    architecture, config, layers = _settings(source)
    checkpoint = Checkpoint(source)
    expected = _shapes(config)
    names = {}
    for name in checkpoint.files:
        target = name if layers is None else text_name(name, layers)
        if target in expected:
            names[target] = name
    if missing := sorted(expected.keys() - names.keys()):
        raise ValueError(f"{source}: there is no {missing[0]} among its tensors, which its config.json asks for")
    rows = config.vocab_size
    found = checkpoint.shapes()
    for target, name in names.items():
        shape = found[name]
        if layers is not None and target.endswith("embed_tokens.weight"):
            shape = (min(rows, shape[0]), *shape[1:])  # eight rows more than the vocabulary, for the image token
        if shape != expected[target]:
            raise ValueError(f"{source}: {name} has the shape {shape}; its config.json asks for {expected[target]}")
    copy_settings(source, out)
    if layers is not None:
        config.save_pretrained(out)
    _keep_chat_template(source, out)
    writer = Writer(out, shard_bytes)
    for group in GROUPS:
        mine = [target for target in names if next(g for g in GROUPS if g.search(target)) is group]
        for target in sorted(mine, key=lambda target: (checkpoint.files[names[target]], target)):
            tensor = checkpoint.tensor(names[target])
            if tensor.shape[0] > expected[target][0]:
                tensor = tensor[:rows].clone()
            writer.add(target, tensor)
            del tensor
        writer.flush()
    writer.finish()
    return {
        "architecture": architecture,
        "layers": config.num_hidden_layers,
        "parameters": sum(math.prod(shape) for shape in expected.values()),
        "bytes": writer.total,
        "files": len(writer.written),
    }


def check(source: Path) -> None:
    """Raise ValueError, one line, where a folder is no model that can be trained, as far as that is seen without
    loading it: its configuration, whether weights and tokenizer are there, the types of the weights, the ids of the
    tokenizer, and a chat template."""
    _architecture(source)
    for name, kind in Checkpoint(source).types().items():
        if kind not in TYPES:
            raise ValueError(f"{source}: {name} is in {kind}, which cannot be trained; take weights in {_or(TYPES)}")
    if not any(all((source / name).is_file() for name in names) for names in TOKENIZERS):
        raise ValueError(f"{source} has no tokenizer: there is no {' and no '.join(names[0] for names in TOKENIZERS)}")
    if (source / TOKENIZERS[0][0]).is_file():
        require_every_id(source, _ids(_read_json(source / TOKENIZERS[0][0])))
    settings = source / "tokenizer_config.json"
    told = _read_json(settings).get("chat_template") if settings.is_file() else None
    if not told and not any((source / name).is_file() for name in TEMPLATES):
        raise ValueError(f"{source} has no chat template: take a model that was trained to follow instructions")


def require_every_id(folder: Path, ids: Iterable[int]) -> None:
    """Raise ValueError where the ids of a tokenizer leave numbers out: the unit tokens, and the rows of the embeddings,
    are counted from its number of tokens on."""
    known = set(ids)
    if known and (missing := set(range(max(known) + 1)) - known):
        raise ValueError(
            f"{folder}: its tokenizer has {len(known)} tokens with ids up to {max(known)}, and none with the id "
            f"{min(missing)}: give its tokens the ids from 0 to {len(known) - 1}"
        )


def tokenizer_of(folder: Path, source: Path | None = None) -> Any:
    """The tokenizer in a folder. Raises ValueError, one line that names `source` (by default the folder), where it
    cannot be read."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # of whatever library reads it, in several lines
        first = (str(error).splitlines() or [""])[0]
        told = f"{source or folder}: its tokenizer cannot be read ({type(error).__name__}: {first})"
        raise ValueError(told) from error


def _ids(tokenizer: Mapping[str, Any]) -> list[int]:
    """The ids in a tokenizer.json."""
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    own = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    return [*own, *(token["id"] for token in tokenizer.get("added_tokens", []))]


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _read_json(file: Path) -> dict[str, Any]:
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    return read if isinstance(read, dict) else {}


def _architecture(source: Path) -> str:
    if not (source / "config.json").is_file():
        raise ValueError(f"{source} has no config.json: it must be a model folder of transformers")
    raw = _read_json(source / "config.json")
    architecture: str = (raw.get("architectures") or ["none"])[0]
    if "quantization_config" in raw:
        raise ValueError(f"{source} is quantized; only unquantized weights can be trained in full")
    if architecture not in SUPPORTED + VISION:
        raise ValueError(
            f"{source} is a {architecture}; supported are {', '.join(SUPPORTED)} and the text part of {VISION[0]}"
        )
    return architecture


def _settings(source: Path) -> tuple[str, Any, dict[int, int] | None]:
    """Architecture, configuration of the text model, and (of a vision model) old -> new number of its layers."""
    from transformers import AutoConfig, LlamaConfig

    architecture = _architecture(source)
    config: Any = AutoConfig.from_pretrained(source)
    if architecture in SUPPORTED:
        return architecture, config, None
    text = config.get_text_config()
    left_out = set(text.cross_attention_layers)
    kept = [i for i in range(text.num_hidden_layers) if i not in left_out]
    llama = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=text.vocab_size,
        hidden_size=text.hidden_size,
        intermediate_size=text.intermediate_size,
        num_hidden_layers=len(kept),
        num_attention_heads=text.num_attention_heads,
        num_key_value_heads=text.num_key_value_heads,
        hidden_act=text.hidden_act,
        max_position_embeddings=text.max_position_embeddings,
        initializer_range=text.initializer_range,
        rms_norm_eps=text.rms_norm_eps,
        rope_parameters=text.rope_parameters,
        bos_token_id=text.bos_token_id,
        eos_token_id=text.eos_token_id,
        pad_token_id=text.pad_token_id,
        tie_word_embeddings=text.tie_word_embeddings,
        use_cache=text.use_cache,
        dtype=text.dtype or config.dtype,
    )
    return architecture, llama, {old: new for new, old in enumerate(kept)}


def _shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a causal language model of this configuration saves."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters(remove_duplicate=False)}
    if config.tie_word_embeddings:
        del shapes["lm_head.weight"]
    return shapes


def text_name(name: str, layers: dict[int, int]) -> str | None:
    """A tensor's name in the Llama that is written; None for what it has not: vision, projector, cross-attention.

    The hub has `language_model.model.*`, transformers 5 `model.language_model.*`, MllamaForCausalLM `model.*`.
    """
    if re.fullmatch(r"(language_model\.)?lm_head\.weight", name):
        return "lm_head.weight"
    found = re.fullmatch(
        r"(?:language_model\.model|model\.language_model|model)\.((?:embed_tokens|norm|layers\.(\d+))\..+)", name
    )
    if found is None:
        return None
    if found[2] is None:
        return f"model.{found[1]}"
    old = int(found[2])
    return f"model.layers.{layers[old]}{found[1].removeprefix(f'layers.{old}')}" if old in layers else None


def _keep_chat_template(source: Path, out: Path) -> None:
    """Where the template is a file of the vision model's processor, make it the tokenizer's."""
    apart = out / "chat_template.json"
    template = tokenizer_of(out, source).chat_template
    if template is None and apart.is_file():
        (out / "chat_template.jinja").write_text(json.loads(apart.read_text())["chat_template"])
    apart.unlink(missing_ok=True)
