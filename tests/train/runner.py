"""One rank of one training stage, in a process of its own."""

import functools
import json
import os
import signal
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def run_rank(
    env: dict[str, str], config: dict[str, Any], inputs: dict[str, Path], out: Path, work: Path, stop_at: int
) -> None:
    """Body of the process. Leaves summary.json or error.txt in `work`; kills itself when `stop_at` steps are done."""
    os.environ.update(env)
    from src.train import loop, stage

    def report(**numbers: float) -> None:
        if stop_at and numbers["done"] >= stop_at:
            os.kill(os.getpid(), signal.SIGKILL)

    if stop_at:  # a checkpoint after every step, so that there is one to go on from
        stage.train = functools.partial(loop.train, checkpoint_seconds=0.0)  # type: ignore[attr-defined]
    try:
        summary = stage.run(config, inputs, out, SimpleNamespace(work=work, report=report))
    except BaseException:
        (work / "error.txt").write_text(traceback.format_exc())
        raise
    if env["RANK"] == "0":
        (work / "summary.json").write_text(json.dumps(summary))
