"""The folder of a model in safetensors: read tensor by tensor, written file by file.

No more than one file's tensors and one tensor more are in memory. Vocabulary, attention projections and the rest go to
files of their own, so that a model of which only some tensors differ shares the other files with its base (`replace`).
"""

import json
import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from src.grid.files import link

SHARD_BYTES = 2 * 10**9

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
GROUPS = (re.compile(r"embed_tokens\.|lm_head\."), re.compile(r"\.[qkv]_proj\."), re.compile(""))


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

    def types(self) -> dict[str, str]:
        """The type of every tensor in safetensors' words ("BF16"), from the files' headers."""
        found: dict[str, str] = {}
        for file, names in self.by_file().items():
            with _opened(self.folder / file) as tensors:
                present = set(tensors.keys())
                found |= {name: tensors.get_slice(name).get_dtype() for name in names if name in present}
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
