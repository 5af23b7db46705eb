"""A lock that lets only one process at a time write into a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rl_lab.storage.errors import NotWritten
from rl_lab.storage.files import reason_of
from rl_lab.types import UsageError

try:
    import fcntl
except ImportError:  # not POSIX: a second process isn't kept out
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"  # the file that is locked, in the folder


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock a run directory for this process; the lock is released when the process ends, however it ends.

    Raises:
        UsageError: another process has locked it.
        NotWritten: the file system refused.
    """
    try:
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise NotWritten(f"{folder}/{LOCK} could not be written: {reason_of(error)}") from error
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"run_dir {str(folder)!r} is being trained by another process") from error
        yield
