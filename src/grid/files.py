"""Files that other processes read while they are written, and files that several artifacts share."""

import os
import shutil
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def there(path: Path) -> Path:
    """The path, or the nearest folder above it that there is."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


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


def permit_as(new: Path, files: Iterable[Path]) -> None:
    """Give files the permissions of `new`, which a plain open() has made: safetensors writes files that their owner
    alone may read, whatever the umask."""
    mode = new.stat().st_mode & 0o777
    for file in files:
        with suppress(PermissionError):  # a link to the file of somebody else, who has done it
            if file.stat().st_mode & 0o777 != mode:
                file.chmod(mode)
