"""The process of a check: it loads the libraries, waits for its turn, and sends what it finds as JSON lines.

    python -m benchmarks.gpu_checks.child [--quick] NAME...

For each NAME of CHECKS it waits for a line on its standard input, so that loading happens while another check runs.
What libraries print goes to the standard error.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from benchmarks.gpu_checks.catalogue import CHECKS, Check
from benchmarks.gpu_checks.findings import Findings, Send

PACKAGES = ("torch", "transformers", "peft", "deepspeed", "triton", "liger-kernel")


def perform(check: Check, quick: bool, send: Send) -> None:
    """Run a check; whatever it raises is sent, and not raised. quick: at toy size."""
    import torch

    send({"machine": machine()})
    error = None
    try:
        check.load()(Findings(send, torch.cuda.is_available() and not quick), quick)
    except Exception:
        error = traceback.format_exc()
    send({"end": error})


def machine() -> dict[str, Any]:
    """Chip, driver and versions."""
    import torch

    from src.grid.instructions import processor

    installed = importlib.metadata.packages_distributions()
    names = {name for found in installed.values() for name in found}
    versions = {name: importlib.metadata.version(name) for name in PACKAGES if name in names}
    found = {"python": ".".join(map(str, sys.version_info[:3])), **versions}
    if not torch.cuda.is_available():
        return {"chip": processor().get("model name", "CPU"), "driver": None, "versions": found}
    found["cuda"] = str(torch.version.cuda)
    return {"chip": torch.cuda.get_device_name(), "driver": _driver(), "versions": found}


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0]


def main(arguments: Sequence[str]) -> None:
    quick = "--quick" in arguments
    chosen = [CHECKS[name] for name in arguments if name != "--quick"]
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(event: Mapping[str, Any]) -> None:
        print(json.dumps(event), file=channel, flush=True)

    for check in chosen:
        with suppress(Exception):  # told when it is its turn
            check.load()
        if not sys.stdin.readline():
            return
        perform(check, quick, send)


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # no library keeps the process from ending
