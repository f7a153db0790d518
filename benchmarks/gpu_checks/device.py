"""The GPU itself: products in bfloat16, copies, and what of the product can be imported here."""

import importlib
import pkgutil
import time
from collections.abc import Callable, Sequence
from types import ModuleType

import torch

import launchers
import src
from benchmarks.gpu_checks.findings import Findings
from src.machine.memory import GIB
from src.machine.settings import Gpu
from src.speech.batches import default_device

NEEDED = (
    "src.train.loop", "src.evaluate.generate", "src.evaluate.respondent", "src.model.rounding", "src.speech.whisper",
    "src.speech.speecht5", "src.speech.code_hifigan", "src.speech.encoder", "src.machine.memory",
)  # fmt: skip
"""Modules that the checks use."""
ROUNDS = 10


def device(found: Findings, quick: bool) -> None:
    """Speeds of products and copies beside the data sheet's, and imports."""
    where = default_device()
    if where.type == "cuda":
        about = torch.cuda.get_device_properties(where)
        found.figure("memory", about.total_memory / GIB, "GiB")
        found.figure("compute capability", about.major + about.minor / 10, "")
        found.criterion("bfloat16 is supported", torch.cuda.is_bf16_supported(including_emulation=False))
    size = 256 if quick else 8192
    left, right = (torch.randn(size, size, device=where, dtype=torch.bfloat16) for _ in range(2))
    seconds = seconds_of(lambda: left @ right)
    peak = Gpu(torch.cuda.get_device_name()).peak_tflops if where.type == "cuda" else None
    found.beside("product in bfloat16", 2 * size**3 / seconds / 1e12, "TFLOP/s", peak, judged=False)
    exact = left[:64].double() @ right.double()
    error = ((left[:64] @ right).double() - exact).abs().max() / exact.abs().max()
    found.criterion("the product is that of float64, to bfloat16's rounding", error.item() < 2**-8)
    block = torch.empty((2**20 if quick else 2**32), device=where, dtype=torch.uint8)
    other = torch.empty_like(block)
    seconds = seconds_of(lambda: other.copy_(block))
    found.gpu_figure("copy, read and written", 2 * block.numel() / seconds / 1e12, "TB/s")
    _imports(found, NEEDED if quick else [name for package in (src, launchers) for name in _modules(package)])


def seconds_of(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Mean seconds of a call, after two that do not count."""
    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for _ in range(2):
        work()
    synchronize()
    started = time.perf_counter()
    for _ in range(rounds):
        work()
    synchronize()
    return (time.perf_counter() - started) / rounds


def _imports(found: Findings, names: Sequence[str]) -> None:
    """Import these modules of the product; what is missing is told."""
    failed = {}
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    found.figure("modules imported", len(names) - len(failed), f"of {len(names)}")
    for reason in sorted(set(failed.values())):
        found.figure(f"cannot be imported: {reason}", list(failed.values()).count(reason), "modules")
    found.criterion("what the checks use can be imported", not failed.keys() & set(NEEDED))


def _modules(package: ModuleType) -> list[str]:
    walked = pkgutil.walk_packages(package.__path__, f"{package.__name__}.", onerror=lambda _: None)
    return [each.name for each in walked if not each.name.endswith(".__main__")]
