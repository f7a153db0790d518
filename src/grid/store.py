"""The store: immutable artifact folders, addressed by the name of the step that made them.

    store/<name>/             body files and manifest.json
    store/.work/<name>/       lease, scratch and unfinished output of a step that is being computed
    store/.damaged/<name>/    an artifact that failed its check, moved aside when it was computed again
    store/.replaced/<name>/   an artifact that was moved aside because it was to be recomputed
    store/.verified/<name>    size and time of each file when its checksum was last right; the file's own time tells
                              when the artifact was last looked up

An artifact exists if its manifest is readable, carries the step's fingerprint, and every listed file has its size and
SHA-256. Looking it up re-reads a file only if size or time changed since its checksum was last verified;
`rehash=True`, used on the inputs of a step that is about to run, always reads.

A manifest names the content of each input that was read, and the source files that could reach the step. An artifact
does not count where the store has another content for one of its inputs now.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from src.grid.errors import StepError
from src.grid.files import permit_as, write_whole
from src.grid.instructions import described
from src.grid.source import reaching
from src.grid.step import Step, canonical
from src.grid.typed import plain

log = logging.getLogger(__name__)

PACKAGES = ("torch", "transformers", "peft", "deepspeed", "mergekit", "lm_eval", "numpy", "scikit-learn", "hydra-core")
"""Packages whose versions are kept in every manifest."""
MANIFEST: dict[str, Any] = {
    "fingerprint": str, "kind": str, "label": str, "version": int, "settings": dict, "inputs": dict,
    "seconds": int | float, "summary": dict, "files": dict,
}  # fmt: skip
"""What every manifest has, and of which type."""
COMMIT = ".commit"
"""File at the root of a copy of the source tree that says which commit it was copied from."""


class Store:
    """Artifact folders under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.damaged: dict[str, str] = {}
        """Name -> what is wrong, of the artifacts that lookup() found damaged."""
        self._contents: dict[str, tuple[int, str]] = {}

    def folder(self, step: Step) -> Path:
        """Where the step's artifact is, or will be."""
        return self.root / step.name

    def work(self, step: Step) -> Path:
        """Where the step is computed."""
        return self.root / ".work" / step.name

    def lookup(self, step: Step, rehash: bool = False) -> Path | None:
        """The step's artifact folder, or None if there is none that is complete and undamaged (see `damaged`)."""
        folder = self.folder(step)
        if not folder.exists():
            return None
        with suppress(OSError):  # a store that this user cannot write
            self._verified(step).parent.mkdir(exist_ok=True)
            self._verified(step).touch()  # before the look: who cleans the store moves an artifact, and looks here then
        fault = self._fault(step, rehash)
        if fault is None:
            return folder
        if step.name not in self.damaged:
            log.warning("%s does not count: %s", folder, fault)
        self.damaged[step.name] = fault
        return None

    def manifest(self, step: Step) -> dict[str, Any]:
        """The manifest of an artifact that lookup() found."""
        return read_manifest(self.folder(step))

    def manifests(self) -> Iterator[dict[str, Any]]:
        """Every whole manifest, oldest first."""
        found = []
        for file in self.root.glob("*/manifest.json"):
            with suppress(OSError, ValueError):
                found.append((file.stat().st_mtime_ns, file, read_manifest(file.parent)))
        yield from (manifest for _, _, manifest in sorted(found, key=lambda each: each[:2]))

    def content(self, step: Step) -> str | None:
        """SHA-256 of the checksums of the artifact's files, as its manifest lists them; None without a manifest."""
        file = self.folder(step) / "manifest.json"
        try:
            changed = file.stat().st_mtime_ns
            if self._contents.get(step.name, (0, ""))[0] != changed:
                listed = {name: entry["sha256"] for name, entry in read_manifest(file.parent)["files"].items()}
                self._contents[step.name] = (changed, hashlib.sha256(canonical(listed).encode()).hexdigest())
        except (OSError, ValueError):
            return None
        return self._contents[step.name][1]

    def other_code(self, step: Step) -> list[str]:
        """Source files that reach the step and are not what they were when its artifact was made."""
        then, now = self.manifest(step).get("source", {}), reaching(step)
        return sorted(file for file in {*then, *now} if then.get(file) != now.get(file))

    def move_aside(self, step: Step) -> None:
        """Take the artifact out of the store, so that it is computed anew; the last one so taken out is kept."""
        aside = self.root / ".replaced" / step.name
        if self.folder(step).exists():
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)
            self.folder(step).rename(aside)

    def publish(
        self, step: Step, out: Path, summary: dict[str, Any], seconds: float, source: dict[str, str] | None = None,
        read: dict[str, str | None] | None = None,
    ) -> Path:  # fmt: skip
        """Complete `out` with a manifest and rename it into place; drop it if the artifact is there already.

        source: what `reaching` gave when the step began. read: role -> content of each input that was read.
        """
        files = {str(f.relative_to(out)): f for f in sorted(out.rglob("*")) if f.is_file()}
        if "manifest.json" in files:
            raise StepError(f"{step.name}: the body wrote a manifest.json; that name belongs to the store")
        manifest = {
            "fingerprint": step.fingerprint,
            "kind": step.kind,
            "label": step.label,
            "version": step.version,
            "settings": step.settings,
            "defaults": {name: value for name, value in all_settings(step).items() if name not in step.settings},
            "inputs": {
                role: {
                    "name": one.name,
                    "fingerprint": one.fingerprint,
                    "content": self.content(one) if read is None else read[role],
                }
                for role, one in sorted(step.inputs.items())
            },
            "source": reaching(step) if source is None else source,
            "git": git_commit(),
            "versions": _versions(),
            "host": platform.node(),
            "instructions": described(),
            "seconds": round(seconds, 3),
            "summary": summary,
            "files": {name: {"bytes": f.stat().st_size, "sha256": _sha256(f)} for name, f in files.items()},
        }
        for file in files.values():
            _sync(file)
        target = out / "manifest.json"
        target.write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        permit_as(target, files.values())
        _sync(target)
        for directory in (*(d for d in out.rglob("*") if d.is_dir()), out):
            _sync(directory)
        self._move_in(step, out)
        self._remember(step, manifest)
        return self.folder(step)

    def _move_in(self, step: Step, out: Path) -> None:
        folder = self.folder(step)
        while True:
            if folder.exists():
                if self._fault(step, rehash=False) is None:
                    shutil.rmtree(out)
                    return
                aside = self.root / ".damaged" / step.name
                shutil.rmtree(aside, ignore_errors=True)
                aside.parent.mkdir(exist_ok=True)
                folder.rename(aside)
            try:
                out.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
                continue  # another process published meanwhile: look at what it published
            _sync(self.root)
            return

    def _fault(self, step: Step, rehash: bool) -> str | None:
        """What is wrong with the artifact, None if nothing is."""
        folder = self.folder(step)
        try:
            manifest = read_manifest(folder)
            if manifest["fingerprint"] != step.fingerprint:
                return f"the manifest has the fingerprint {manifest['fingerprint']}, not {step.fingerprint}"
            listed = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
            for role, source in step.inputs.items():
                now, then = self.content(source), manifest["inputs"].get(role, {}).get("content")
                if now is not None and now != then:
                    return f"it was made from another {source.name} than the store has now"
        except OSError as error:
            return f"the manifest cannot be read ({error.strerror})"
        except ValueError as error:
            return str(error)
        known = {} if rehash else self._recall(step)
        seen = {}
        for name, (size, sha256) in listed.items():
            file = folder / name
            try:
                stat = file.stat()
                if stat.st_size != size:
                    return f"{name} has {stat.st_size} bytes instead of {size}"
                seen[name] = [sha256, stat.st_mtime_ns]
                if known.get(name) != seen[name] and _sha256(file) != sha256:
                    self._verified(step).unlink(missing_ok=True)
                    return f"{name} does not have its checksum"
            except OSError as error:
                return f"{name} cannot be read ({error.strerror})"
        if seen != known:
            self._remember(step, manifest)
        return None

    def _verified(self, step: Step) -> Path:
        return self.root / ".verified" / step.name

    def _recall(self, step: Step) -> dict[str, Any]:
        try:
            known = json.loads(self._verified(step).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _remember(self, step: Step, manifest: dict[str, Any]) -> None:
        """Note that every checksum was right. A store that cannot be written is only slower."""
        folder, target = self.folder(step), self._verified(step)
        try:
            seen = {n: [entry["sha256"], (folder / n).stat().st_mtime_ns] for n, entry in manifest["files"].items()}
            target.parent.mkdir(exist_ok=True)
            write_whole(target, json.dumps(seen))
        except OSError:
            log.debug("cannot write %s", target)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an artifact folder; the other files are not looked at.

    Raises OSError if it cannot be read, and ValueError, one line, if it is not a whole manifest.
    """
    try:
        text = (folder / "manifest.json").read_text(encoding="utf-8")
        manifest: dict[str, Any] = json.loads(text, parse_constant=_no_number)
    except ValueError as error:
        raise ValueError(f"the manifest is not a whole manifest ({error})") from error
    if not isinstance(manifest, dict):
        raise ValueError("the manifest is not a whole manifest (it is no mapping)")
    for name, kind in MANIFEST.items():
        if not isinstance(manifest.get(name), kind):
            raise ValueError(f"the manifest is not a whole manifest (its {name} is {manifest.get(name)!r:.40})")
    for file, entry in manifest["files"].items():
        if not (isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and "sha256" in entry):
            raise ValueError(f"the manifest is not a whole manifest (it has no size or checksum of {file})")
    for role, entry in manifest["inputs"].items():
        if not isinstance(entry, dict):
            raise ValueError(f"the manifest is not a whole manifest (its input {role} is {entry!r:.40})")
    return manifest


def _no_number(text: str) -> float:
    raise ValueError(f"{text} stands in it")


def all_settings(step: Step) -> dict[str, Any]:
    """Every setting of a step, defaults too."""
    roles = {role.partition(".")[0] for role in step.inputs}
    return {name: value for name, value in plain(step, leaf=Step).items() if name not in roles}


def same_work(kind: str, label: str, settings: Any) -> str:
    """Key under which measured seconds and sizes are kept: runs that differ in their seeds only cost the same."""

    def without_seeds(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without_seeds(v) for k, v in value.items() if k != "seed"}
        return [without_seeds(v) for v in value] if isinstance(value, list | tuple) else value

    return canonical([kind, label, without_seeds(settings)])


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def git_commit() -> str | None:
    """The commit of this source tree, marked if files were changed since; None outside a repository."""
    root = Path(__file__).resolve().parents[2]
    if (root / COMMIT).exists():
        return (root / COMMIT).read_text(encoding="utf-8").strip() or None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
