"""The processes that compute steps: set up as children of a launcher or a job, forked with the libraries loaded."""

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable
from multiprocessing import forkserver, util
from multiprocessing.context import ForkServerContext
from pathlib import Path

from src.grid.context import listen_for_stop
from src.grid.devices import VISIBLE
from src.grid.step import Step

SOCKET_PATH = 107
"""Most bytes of the path of a Unix socket: sun_path in unix(7), without the zero at its end."""

log_file: Path | None = None
"""Where this process writes its output, if not where its parent does."""


def fork_server(steps: Iterable[Step], libraries_log: Path) -> ForkServerContext:
    """A context whose processes have the libraries of these steps loaded, and this environment.

    What the libraries print while they are imported goes to `libraries_log`.
    """
    os.environ.update(
        OMP_NUM_THREADS="1",  # workers share the cores; and a threaded fork server would not be safe to fork
        TOKENIZERS_PARALLELISM="false",
        PYTHONHASHSEED="0",
        PYTORCH_NVML_BASED_CUDA_CHECK="1",  # looking for a GPU must not initialize CUDA, which does not survive a fork
    )
    _shorten_sockets()
    context = multiprocessing.get_context("forkserver")
    modules = dict.fromkeys(name for step in steps for name in step.needs)
    context.set_forkserver_preload(["src.grid.execute", *modules])
    libraries_log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with libraries_log.open("a") as stream:
        kept = {number: os.dup(number) for number in (1, 2)}
        try:
            for number in kept:
                os.dup2(stream.fileno(), number)
            forkserver.ensure_running()
        finally:
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)
    return context


def _shorten_sockets() -> None:
    """Let multiprocessing keep its sockets below /tmp where their paths below TMPDIR would be too long. Children take
    the folder over."""
    if len(os.fsencode(tempfile.gettempdir())) <= SOCKET_PATH - len("/pymp-xxxxxxxx/listener-xxxxxxxx"):
        return
    kept, tempfile.tempdir = tempfile.tempdir, "/tmp"
    try:
        util.get_temp_dir()
    finally:
        tempfile.tempdir = kept


def enter_child(file: Path | None, group: int | None, devices: str | None = None) -> None:
    """Set up a new process: its output goes to `file`, and it ends with its parent.

    group: the process group to join; 0 makes one, so that one signal reaches all that the step starts; None stays in
    the parent's. devices: CUDA_VISIBLE_DEVICES; None leaves it.
    """
    global log_file
    if devices is not None:
        os.environ[VISIBLE] = devices
    log_file = file
    if group is not None:
        os.setpgid(0, group)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    listen_for_stop()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def memory_kills() -> int:
    """How many processes the kernel of this machine has ended for want of memory since it started; 0 where it does not
    tell."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def ending(exitcode: int | None, kills: int | None = None) -> str:
    """How a process ended, in words. kills: memory_kills() before it."""
    if exitcode is not None and exitcode < 0:
        more = ""
        if exitcode == -signal.SIGKILL and kills is not None and memory_kills() > kills:
            more = ": the kernel ended a process at that time because the memory was used up"
        return f"was killed by signal {-exitcode} ({signal.Signals(-exitcode).name}){more}"
    return f"ended with exit code {exitcode}"
