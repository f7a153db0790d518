"""Python, the packages of pyproject.toml, a compiler, and the packages that some settings ask for."""

import platform
import re
import shutil
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from src.machine.finding import Finding, no, note, ok

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def software(cell: Mapping[str, Any], needs_gpu: bool) -> list[Finding]:
    """cell: a row's configuration."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    return [
        _python(project["requires-python"]),
        *_packages(project["dependencies"]),
        *_compiler(needs_gpu),
        *packages_asked_for(cell),
        *_data(cell),
        *_licences(cell),
    ]


def installed(package: str) -> str | None:
    """The version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cuda_of_torch() -> str | None:
    """The CUDA that the installed torch was built for, None for a build without; torch is not imported."""
    found = find_spec("torch")
    if found is None or found.origin is None:
        return None
    built = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    named = re.search(r"^cuda\b[^=\n]*= *'([\d.]+)'", built, re.MULTILINE)
    return named[1] if named else None


def _python(wanted: str) -> Finding:
    least = tuple(map(int, wanted.removeprefix(">=").split(".")))
    if sys.version_info[:2] < least:
        return no(f"Python {platform.python_version()}", f"install Python {wanted} and run `make setup` with it")
    return ok(f"Python {platform.python_version()}")


def _packages(wanted: list[str]) -> list[Finding]:
    """A line for all that are as pinned, and one for each other."""
    right, wrong = 0, []
    for requirement in wanted:
        name, _, pinned = requirement.partition("==")
        name = re.sub(r"\[.*\]", "", name)
        found = installed(name)
        if found is not None and found.partition("+")[0] == pinned:  # 2.13.0+cpu is a 2.13.0
            right += 1
        else:
            remedy = f"pip install -c constraints.txt '{name}=={pinned}' (`make setup` installs all)"
            wrong.append(no(f"{name} {found or 'is not installed'}, and pyproject.toml has {pinned}", remedy))
    torch = installed("torch")
    return [ok(f"{right} packages as in pyproject.toml" + (f" (torch {torch})" if torch else "")), *wrong]


def _compiler(needed: bool) -> list[Finding]:
    found = next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)
    if found:
        return [ok(f"compiler {shutil.which(found)}")]
    if needed:
        remedy = "install one (apt install g++, module load gcc): DeepSpeed and Triton build parts of themselves"
        return [no("no C++ compiler", remedy)]
    return [note("no C++ compiler; nothing here needs one without a GPU")]


def packages_asked_for(cell: Mapping[str, Any]) -> list[Finding]:
    """Packages that are not in pyproject.toml, where a setting asks for them."""
    asked = []
    aligner = cell["speech"].get("aligner") or {}
    if "flash_attention_2" in _of_stages(cell["train"], "attention"):
        asked.append(("train.attention=flash_attention_2", "flash-attn", "train.attention=sdpa does without"))
    if True in _of_stages(cell["train"], "fused_loss"):
        asked.append(("train.fused_loss=true", "liger-kernel", "train.fused_loss=false does without"))
    if aligner.get("backend") == "whisper_timestamped":
        other = "speech.aligner.backend=transformers does without"
        asked.append(("speech.aligner.backend=whisper_timestamped", "whisper-timestamped", other))
    findings = []
    for setting, package, other in asked:
        found = installed(package)
        if found is None:
            findings.append(no(f"{setting} needs {package}", f"pip install {package}; {other}"))
        else:
            findings.append(ok(f"{package} {found} for {setting}"))
    return findings


def _of_stages(train: Mapping[str, Any], key: str) -> list[Any]:
    """A setting of `train` in each stage of the chain, which may have its own."""
    own = [train["stages"][name].get(key) for name in train["chain"]]
    return [train[key] if value is None else value for value in own]


def _data(cell: Mapping[str, Any]) -> list[Finding]:
    """nltk's sentence splitter, which the official IFEval needs."""
    if cell["data"]["name"] != "published":
        return []
    if installed("nltk") is None:
        return []  # said among the packages
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except LookupError:
        remedy = f"python -m nltk.downloader punkt_tab (or copy it below {nltk.data.path[0]}/tokenizers)"
        return [no("nltk's punkt_tab, with which IFEval counts sentences", remedy)]
    return [ok("nltk's punkt_tab for IFEval")]


def _licences(cell: Mapping[str, Any]) -> list[Finding]:
    found = [note("mergekit is under the LGPL-3.0")]
    if cell["speech"]["name"] == "fitted":
        found.append(note("espeak-ng, which speaks, is under the GPL-3.0"))
    return found
