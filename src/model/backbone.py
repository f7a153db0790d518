"""The text model that is trained, as a plain causal language model in safetensors, from the hub or from a folder.

Llama 3.2 Vision leaves its cross-attention layers out where there is no image. Without them, the layers numbered anew
and the embedding cut to the vocabulary, its text part is an ordinary Llama with the same logits.

A checkpoint is read tensor by tensor and written file by file: no more than one file's tensors and one tensor more are
in memory. Vocabulary, attention projections and the rest go to files of their own, so that a model of which only some
tensors differ shares the other files with its base (`replace`).
"""

import json
import math
import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from src.grid.files import link
from src.model.hub import snapshot

SHARD_BYTES = 2 * 10**9

SUPPORTED = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""Architectures with q_proj, k_proj and v_proj in every layer and logits that are lm_head(hidden) and no more."""
VISION = ("MllamaForConditionalGeneration", "MllamaForCausalLM")

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SETTINGS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
)
"""What a model folder holds beside its weights."""
TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"))
"""Files of which a tokenizer is made: all of one of these."""
TEMPLATES = ("chat_template.jinja", "chat_template.json")

WANTED = ["model*.safetensors", INDEX, *SETTINGS]
"""Patterns of the files that are downloaded: neither pickles nor the second copy of the weights that some have."""

GROUPS = (re.compile(r"embed_tokens\.|lm_head\."), re.compile(r"\.[qkv]_proj\."), re.compile(""))


def fetch(source: str, revision: str | None = None) -> Path:
    """The folder of a model, of which only safetensors, configuration and tokenizer are downloaded (see
    `hub.snapshot`)."""
    return snapshot(source, WANTED, revision)


class Checkpoint:
    """The tensors of a model folder, each read when it is asked for."""

    def __init__(self, folder: Path):
        """Raises ValueError where the folder has no safetensors weights, or not all of them."""
        self.folder = folder
        self.files: dict[str, str] = {}
        """Name of each tensor -> file that holds it."""
        if (folder / INDEX).is_file():
            self.files = json.loads((folder / INDEX).read_text())["weight_map"]
            for file in sorted(set(self.files.values())):
                if not (folder / file).is_file():
                    raise ValueError(f"{folder} lacks {file}, which its {INDEX} names: download it again")
        elif (folder / WEIGHTS).is_file():
            with _opened(folder / WEIGHTS) as tensors:
                self.files = dict.fromkeys(tensors.keys(), WEIGHTS)
        elif any(folder.glob("*.bin")) or any(folder.glob("*.pth")):
            raise ValueError(f"{folder} has pickled weights only, which are not loaded: take a revision in safetensors")
        else:
            raise ValueError(f"{folder} has no {WEIGHTS} and no {INDEX}")

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor, mapped into memory and not read before it is used."""
        with _opened(self.folder / self.files[name]) as tensors:
            found: torch.Tensor = tensors.get_tensor(name)
            return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, from the files' headers."""
        found = {}
        for file, names in self.by_file().items():
            with _opened(self.folder / file) as tensors:
                present = set(tensors.keys())
                for name in names:
                    if name not in present:
                        raise ValueError(f"{self.folder / file} lacks {name}, which the {INDEX} puts there")
                    found[name] = tuple(tensors.get_slice(name).get_shape())
        return found

    def by_file(self) -> dict[str, list[str]]:
        """Names of the tensors in each file."""
        return {file: [n for n, f in self.files.items() if f == file] for file in sorted(set(self.files.values()))}


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged or cut short ({error}): download it again") from error


class Writer:
    """Writes a checkpoint of files of bounded size, and its index."""

    def __init__(self, out: Path, shard_bytes: int = SHARD_BYTES):
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.shard_bytes = out, shard_bytes
        self.written: list[list[str]] = []
        self.total = 0
        self._held: dict[str, torch.Tensor] = {}
        self._bytes = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Append a tensor; a file larger than `shard_bytes` holds that one tensor alone."""
        if self._held and self._bytes + tensor.nbytes > self.shard_bytes:
            self.flush()
        self._held[name] = tensor.contiguous()
        self._bytes += tensor.nbytes

    def flush(self) -> None:
        """End the current file."""
        if self._held:
            save_file(self._held, self._next(list(self._held)), metadata={"format": "pt"})
            self.total += self._bytes
            self._held, self._bytes = {}, 0

    def take(self, file: Path, names: Iterable[str], linked: bool = True) -> None:
        """Take over a whole file that holds the tensors `names`: a hard link, or a copy."""
        target = self._next(list(names))
        (link if linked else shutil.copyfile)(file, target)
        with _opened(target) as tensors:
            self.total += sum(tensors.get_tensor(name).nbytes for name in self.written[-1])

    def finish(self) -> None:
        """Give the files their final names, and write the index."""
        self.flush()
        count = len(self.written)
        names = [WEIGHTS if count == 1 else f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
        for i, name in enumerate(names):
            self._temporary(i).rename(self.out / name)
        if count > 1:
            files = {tensor: names[i] for i, held in enumerate(self.written) for tensor in held}
            index = {"metadata": {"total_size": self.total}, "weight_map": dict(sorted(files.items()))}
            (self.out / INDEX).write_text(json.dumps(index, indent=2))

    def _next(self, names: list[str]) -> Path:
        self.written.append(names)
        return self._temporary(len(self.written) - 1)

    def _temporary(self, i: int) -> Path:
        return self.out / f"{i}.safetensors.part"


def replace(
    folder: Path,
    out: Path,
    names: Collection[str],
    tensors: Iterable[tuple[str, torch.Tensor]],
    shard_bytes: int = SHARD_BYTES,
    linked: bool = True,
) -> None:
    """Write the weights of `folder` to `out`, with `tensors` (exactly those `names`) in the place of its own.

    Files that hold none of them are hard links if `linked`, so that nothing must ever write into a model's files;
    tensors that share a file with one of them are copied. Raises ValueError if `folder` has no such tensor.
    """
    checkpoint = Checkpoint(folder)
    if unknown := sorted(set(names) - checkpoint.files.keys()):
        raise ValueError(f"{folder} has no tensor {unknown[0]} that could be replaced")
    writer = Writer(out, shard_bytes)
    for name, tensor in tensors:
        writer.add(name, tensor)
    writer.flush()
    if (replaced := {name for held in writer.written for name in held}) != set(names):
        raise ValueError(f"{sorted(replaced ^ set(names))[0]} was to be replaced, or was not: {folder} is not written")
    for file, held in checkpoint.by_file().items():
        kept = [name for name in held if name not in replaced]
        if len(kept) == len(held):
            writer.take(folder / file, held, linked)
            continue
        for name in kept:
            writer.add(name, checkpoint.tensor(name))
        writer.flush()
    writer.finish()


def copy_settings(folder: Path, out: Path) -> None:
    """Copy configuration, tokenizer and chat template."""
    out.mkdir(parents=True, exist_ok=True)
    for name in SETTINGS:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)


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
        target = name if layers is None else _text_name(name, layers)
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
    loading it: its configuration, whether weights and tokenizer are there, and a chat template."""
    _architecture(source)
    Checkpoint(source)
    if not any(all((source / name).is_file() for name in names) for names in TOKENIZERS):
        raise ValueError(f"{source} has no tokenizer: there is no {' and no '.join(names[0] for names in TOKENIZERS)}")
    settings = source / "tokenizer_config.json"
    told = _read_json(settings).get("chat_template") if settings.is_file() else None
    if not told and not any((source / name).is_file() for name in TEMPLATES):
        raise ValueError(f"{source} has no chat template: take a model that was trained to follow instructions")


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


def _text_name(name: str, layers: dict[int, int]) -> str | None:
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
    from transformers import AutoTokenizer

    apart = out / "chat_template.json"
    try:
        template = AutoTokenizer.from_pretrained(out).chat_template
    except Exception as error:  # of whatever library reads it, in several lines
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{source}: its tokenizer cannot be read ({type(error).__name__}: {first})") from error
    if template is None and apart.is_file():
        (out / "chat_template.jinja").write_text(json.loads(apart.read_text())["chat_template"])
    apart.unlink(missing_ok=True)
