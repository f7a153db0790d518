"""The GPUs of this machine against what training and evaluation need."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.grid.devices import Device, visible
from src.machine.finding import Finding, no, note, ok
from src.machine.loads import Load
from src.machine.memory import GIB
from src.machine.refusals import refusal
from src.machine.requirements import Answers, Requirement
from src.machine.settings import Gpu
from src.machine.software import cuda_of_torch

BF16_CAPABILITY = 8.0


def gpus(
    cell: Mapping[str, Any], named: Gpu, needed: Sequence[Requirement], asked: Sequence[Answers],
    others: Sequence[Load] = (), *, elsewhere: bool,
) -> list[Finding]:  # fmt: skip
    """named: the GPU of the plan; elsewhere: jobs of a cluster have it, not this machine."""
    devices = visible()
    told = [_seen(devices)]
    if named.memory_gb is None and named.name is None:
        return [*told, note("no GPU is asked for (gpu, hydra.launcher.gpu): what computes with a model uses one if "
                            "there is one")]  # fmt: skip
    told.append(_torch())
    refused = refusal(needed, asked, others)
    if refused:
        told.append(no("the plan does not fit the GPU that is named", refused))
    elif (needed or asked or others) and named.memory_gb is not None:
        most = _most(needed, asked, others)
        told.append(ok(f"the plan fits {named.name or 'the GPU'}: {most:.1f} of {named.memory_gb:g} GiB"))
    if elsewhere:
        return [*told, note("the GPUs of the cluster's nodes cannot be looked at from here")]
    ranks = max((each.training.gpus for each in needed), default=cell["train"]["ranks"])
    if len(devices) < ranks:
        many = "a GPU" if ranks == 1 else f"{ranks} GPUs"
        told.append(no(f"{many} for train.ranks={ranks}; there are {len(devices)}",
                       "run it on a machine that has, or hand it to a cluster that has (another hydra/launcher)" + (
                           "" if ranks == 1 else ", or set train.ranks")))  # fmt: skip
    most = _most(
        [each for each in needed if not each.cached], [each for each in asked if not each.cached],
        [each for each in others if not each.cached],
    )  # fmt: skip
    return told + _each(devices[:ranks], cell, most)


def _most(needed: Sequence[Requirement], asked: Sequence[Answers], others: Sequence[Load]) -> float:
    """GiB of the largest."""
    totals = [each.memory.total for each in needed] + [each.memory.total for each in asked]
    totals += [each.total for each in others]
    return max(totals, default=0) / GIB


def _seen(devices: Sequence[Device]) -> Finding:
    listed = [f"{d.name}, {d.memory_gb:.0f} GiB" if d.memory_gb else d.name for d in devices]
    kinds = [f"{listed.count(name)} x {name}" for name in dict.fromkeys(listed)]
    return note("GPUs here: " + ("; ".join(kinds) or "none (nvidia-smi lists none)"))


def _torch() -> Finding:
    cuda = cuda_of_torch()
    if cuda is None:
        return no("torch is built for CPUs alone", "pip install torch==2.13.0 (make setup TORCH=torch==2.13.0), which "
                  "is its CUDA build")  # fmt: skip
    return ok(f"torch is built for CUDA {cuda}")


def _each(devices: Sequence[Device], cell: Mapping[str, Any], most: float) -> list[Finding]:
    """Memory and bfloat16 of the GPUs that would be used; `most` GiB of one are needed."""
    told = []
    small = [d for d in devices if d.memory_gb is not None and d.memory_gb < most]
    if small:
        has = small[0].memory_gb
        told.append(no(f"{most:.1f} GiB are needed; {small[0].name} has {has:.1f}",
                       f"hydra.launcher.gpu.memory_gb={has:.0f} tells what would fit"))  # fmt: skip
    elif devices and most:
        told.append(ok(f"{most:.1f} GiB on each GPU"))
    bf16 = cell["deepspeed"].get("bf16", {}).get("enabled", False)
    old = [d for d in devices if d.capability is not None and d.capability < BF16_CAPABILITY]
    if bf16 and old:
        told.append(no(f"bfloat16 (deepspeed.bf16); {old[0].name} has compute capability {old[0].capability:g}",
                       "a GPU of capability 8.0 or more, or ++deepspeed.bf16.enabled=false "
                       "++deepspeed.fp16.enabled=true"))  # fmt: skip
    elif bf16 and devices:
        told.append(ok("bfloat16"))
    return told
