"""Checks of what only a GPU can tell: speed and memory beside the plan's estimates, and sums in few bits.

    python -m benchmarks.gpu                      # all, at most 8 minutes on an H100 or H200, no network
    python -m benchmarks.gpu --only c,h           # some
    python -m benchmarks.gpu --quick              # at toy size, on a CPU too

Each check is a process of its own with a time limit, so that one that crashes, hangs or runs out of memory leaves the
others; time that a check does not use may be used by a later one. As each ends, a JSON line is written: its result, its
figures with units, the estimate and the ratio beside what is measured, and chip, driver, versions and date. Weights are
random, at the true shapes. docs/benchmarks.md says what each check does, and benchmarks/gpu_wheels.sh gathers what a
machine without a network may lack.
"""

import argparse
import datetime
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

from benchmarks.gpu_checks.catalogue import CHECKS, KEYS, Check
from benchmarks.gpu_checks.findings import FAILED, Line

QUICK_LIMIT = 120
"""Seconds that a check at toy size may take, the libraries' loading included."""


class Child:
    """A process that has loaded the libraries for some checks, and runs one after another when it is told to."""

    def __init__(self, checks: Sequence[Check], quick: bool, errors: IO[str]):
        command = [sys.executable, "-m", "benchmarks.gpu_checks.child", *(check.name for check in checks)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [*command, "--quick"] if quick else command, stdin=pipe, stdout=pipe, stderr=errors, text=True,
            cwd=Path(__file__).parents[1],
        )  # fmt: skip
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self._events.put(json.loads(text))
        self._events.put(None)

    def run(self, check: Check, limit: float) -> Line:
        """The line of a check, which is ended after `limit` seconds."""
        line = Line(check.key, check.about)
        deadline = time.monotonic() + limit
        try:
            assert self.process.stdin is not None
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            while not line.ended:
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
                if event is None:
                    line.error = f"its process ended with exit code {self.process.wait()}"
                    break
                line.take(event)
        except queue.Empty:
            line.error = f"not done after {limit:.0f} s"
        except BrokenPipeError:
            line.error = f"its process ended with exit code {self.process.wait()}"
        if not line.ended:
            self.end()
        return line

    def end(self) -> None:
        """Kill it, whatever it does."""
        self.process.kill()
        self.process.wait()


def run(chosen: Sequence[Check], quick: bool, out: IO[str], errors: IO[str]) -> bool:
    """Run the checks and write their lines. Returns whether none has failed.

    At toy size one process runs them all, as long as none ends it; otherwise each has its own, which loads the
    libraries while the one before runs.
    """
    clean, saved = True, 0.0
    children: dict[str, Child] = {}

    def start(place: int) -> None:
        checks = chosen[place:] if quick else chosen[place : place + 1]
        if checks and checks[0].name not in children:
            child = Child(checks, quick, errors)
            children.update({check.name: child for check in checks})

    try:
        start(0)
        for place, check in enumerate(chosen):
            start(place)
            if not quick:
                start(place + 1)
            began = time.monotonic()
            limit = QUICK_LIMIT if quick else check.seconds + min(saved, check.seconds)
            line = children[check.name].run(check, limit)
            seconds = time.monotonic() - began
            saved = max(0.0, saved + check.seconds - seconds)
            if not line.ended and quick:
                children.clear()
            date = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
            written = line.written(seconds, quick, date)
            clean &= written["result"] != FAILED
            print(json.dumps(written), file=out, flush=True)
            print(shown(written), file=sys.stderr, flush=True)
    finally:
        for child in children.values():
            child.end()
    return clean


def shown(line: dict[str, Any]) -> str:
    """A check's line for a reader: its result, and what it measured."""
    missed = [name for name, met in line["criteria"].items() if met is False]
    why = f": {'; '.join(missed)}" if missed else ""
    if "error" in line:
        why = f": {line['error'].strip().splitlines()[-1]}"
    rows = [f"{line['check']}  {line['about']}: {line['result']}{why} ({line['seconds']} s)"]
    for figure in line["figures"]:
        value = figure.get("value")
        text = f"     {figure['name']}: {'-' if value is None else f'{value:g}'} {figure['unit']}"
        if "estimate" in figure:
            ratio = f", ratio {figure['ratio']:g}" if "ratio" in figure else ""
            text += f" (estimate {figure['estimate']:g}{ratio})"
        rows.append(text)
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="at toy size")
    parser.add_argument("--only", default=",".join(KEYS), help="letters of checks, as in a,c")
    parser.add_argument("--out", type=Path, help="file for the lines; default: standard output")
    parser.add_argument("--log", type=Path, help="file for what libraries print; default: nowhere")
    given = parser.parse_args()
    keys = given.only.split(",")
    if unknown := sorted(set(keys) - set(KEYS)):
        parser.error(f"--only: there is no check {unknown[0]!r}; there are {', '.join(KEYS)}")
    chosen = [check for check in CHECKS.values() if check.key in keys]
    with (
        given.out.open("w", encoding="utf-8") if given.out else nullcontext(sys.stdout) as out,
        (given.log or Path("/dev/null")).open("w", encoding="utf-8") as errors,
    ):
        sys.exit(0 if run(chosen, given.quick, out, errors) else 1)


if __name__ == "__main__":
    main()
