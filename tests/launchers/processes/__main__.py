"""The process of one job: `python -m launchers.processes ID`."""

import json
import os
import subprocess
import sys
import time

from launchers.processes import Scheduler, folder, note

TASK = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))()"


def main(job: str) -> None:
    """Wait for other jobs, run the tasks until one fails or all end, and note how."""
    told = json.loads((folder(job) / "job.json").read_text())
    while True:
        known = Scheduler().state([*told["success"], *told["end"]])
        if any(known[other].state in ("failed", "cancelled") for other in told["success"]):
            note(job, "cancelled")
            return
        if not any(queued.alive for queued in known.values()):
            break
        time.sleep(0.1)
    note(job, "running")
    size = told["tasks"]
    tasks = [
        subprocess.Popen(
            [sys.executable, "-c", TASK, str(folder(job) / "function.pkl")],
            env=os.environ | {"PROCESSES_TASK": f"{job} {rank} {size}"},
        )
        for rank in range(size)
    ]
    while any(task.poll() is None for task in tasks) and not any(task.poll() for task in tasks):
        time.sleep(0.1)
    for task in tasks:
        task.kill()
    note(job, "failed" if any(task.wait() for task in tasks) else "done")


if __name__ == "__main__":
    main(sys.argv[1])
