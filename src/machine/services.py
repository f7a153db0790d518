"""SLURM and wandb."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from src.machine.finding import Finding, no, note, ok, unknown
from src.report.track import has_key

COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel")


def slurm(launcher: Mapping[str, Any]) -> list[Finding]:
    """launcher: the composed hydra.launcher."""
    lacking = [name for name in COMMANDS if shutil.which(name) is None]
    if not is_slurm(launcher):
        there = "not here" if lacking else "here (hydra/launcher=slurm or slurm_gpu hands the plan to it)"
        return [note(f"SLURM: {there}")]
    if lacking:
        remedy = "run it on a login node of the cluster, or use hydra/launcher=local"
        return [no(f"{', '.join(lacking)} on the PATH", remedy)]
    found = [ok("sbatch and its like are on the PATH")]
    asked = {launcher.get("partition")} | {(own or {}).get("partition") for own in launcher["resources"].values()}
    try:
        command = ["sinfo", "--noheader", "--format=%R"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return [*found, unknown("the partitions: sinfo does not answer", "try `sinfo -s`")]
    known = set(done.stdout.split())
    wrong = sorted(name for name in asked if name and not set(name.split(",")) & known)
    if wrong:
        listed = ", ".join(sorted(known))
        return [*found, no(f"partition {', '.join(wrong)}", f"set hydra.launcher.partition to one of {listed}")]
    return [*found, ok("partitions: " + (", ".join(sorted(name for name in asked if name)) or "the default one"))]


def is_slurm(launcher: Mapping[str, Any]) -> bool:
    return str(launcher.get("_target_", "")).endswith("SlurmLauncher")


def wandb(tracker: Mapping[str, Any]) -> list[Finding]:
    """tracker: the cell's settings."""
    mode = tracker["mode"]
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    if mode == "online" and not has_key():
        return [no("tracker.mode=online, and wandb has no key", "wandb login, or tracker.mode=offline")]
    if mode == "online":
        return [ok(f"wandb: a key is configured, runs go to {tracker['entity'] or 'your account'}")]
    later = "; `wandb sync` sends them later" if mode == "offline" else ""
    return [ok(f"wandb: {mode}{later}")]
