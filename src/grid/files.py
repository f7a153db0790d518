"""Files that other processes read while they are written, and files that several artifacts share."""

import os
import shutil
import socket
from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Write the file so that a reader, or the next run after a kill, sees all of the old text or all of the new."""
    temporary = file.with_name(f".{file.name}-{socket.gethostname()}-{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def link(file: Path, target: Path) -> None:
    """Make `target` the same file: a hard link, or a copy on another file system. Nothing may write into it then."""
    try:
        os.link(file.resolve(), target)
    except FileExistsError:
        raise  # it may be a link already, and a copy would be written into what it shares
    except OSError:
        shutil.copyfile(file, target)
