"""The GPUs of this machine, asked of nvidia-smi: torch takes seconds to import, and CUDA does not survive a fork."""

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass

FIELDS = "index,uuid,name,memory.total,compute_cap"
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Device:
    """One GPU."""

    id: str
    """How CUDA_VISIBLE_DEVICES names it."""
    name: str = "GPU"
    memory_gb: float | None = None
    """GiB, as nvidia-smi tells it."""
    capability: float | None = None
    """CUDA's compute capability, such as 8.6; bfloat16 needs 8."""


def visible() -> list[Device]:
    """The GPUs that a process may use: all that nvidia-smi knows, or those of them in CUDA_VISIBLE_DEVICES."""
    known = installed()
    told = os.environ.get(VISIBLE)
    if told is None or not known:
        return [device for _, device in known]
    chosen = []
    for name in filter(None, (part.strip() for part in told.split(","))):
        found = [device for uuid, device in known if name == device.id or uuid.startswith(name)]
        if found or name.startswith("MIG-"):
            best = found[0] if found else Device(name)
            chosen.append(Device(name, best.name, best.memory_gb, best.capability))
        else:
            break  # as CUDA does at the first that there is not
    return chosen


def installed() -> list[tuple[str, Device]]:
    """UUID and GPU of all that nvidia-smi lists; none where there is no nvidia-smi."""
    command = ["nvidia-smi", f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in done.stdout.splitlines():
        index, uuid, name, memory, capability = (part.strip() for part in line.split(","))
        found.append((uuid, Device(index, name, _number(memory, 1024), _number(capability, 1))))
    return found


def _number(text: str, divisor: float) -> float | None:
    with suppress(ValueError):
        return float(text) / divisor
    return None  # "[N/A]"
