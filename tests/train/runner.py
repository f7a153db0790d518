"""One rank of one training, in a process of its own; and several of them together, as the launchers start them."""

import importlib
import json
import multiprocessing
import os
import signal
import socket
import traceback
from pathlib import Path
from typing import Any

forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(["src.train.loop"])


def run_rank(
    env: dict[str, str],
    config: dict[str, Any],
    inputs: dict[str, Path],
    out: Path,
    work: Path,
    stop_at: int,
    body: str = "src.train.stage",
) -> None:
    """Body of the process: calls `run` of the module `body`. Leaves summary.json or error.txt in `work`; kills itself
    when `stop_at` steps are done."""
    os.environ.update(env)
    from src.grid.context import Context

    class Killed(Context):
        def report(self, **numbers: float | str) -> None:
            if stop_at and float(numbers["done"]) >= stop_at:
                os.kill(os.getpid(), signal.SIGKILL)

    # a checkpoint after every step, so that there is one to go on from
    context = Killed(work, "stage", checkpoint_seconds=0.0 if stop_at else 60.0)
    try:
        summary = importlib.import_module(body).run(config, inputs, out, context)
    except BaseException:
        (work / "error.txt").write_text(traceback.format_exc())
        raise
    if env["RANK"] == "0":
        (work / "summary.json").write_text(json.dumps(summary))


def start(
    config: dict[str, Any], inputs: dict[str, Path], out: Path, ranks: int = 1, stop_at: int = 0, body: str = ""
) -> list[int]:
    """Exit codes of the ranks. The scratch folder is `out` with `-work` behind its name."""
    work = out.with_name(f"{out.name}-work")
    out.mkdir(exist_ok=True)
    work.mkdir(exist_ok=True)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    world = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        forkserver.Process(
            target=run_rank,
            args=(world | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, config, inputs, out, work, stop_at, body),
        )
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    return [process.exitcode or 0 for process in processes]
