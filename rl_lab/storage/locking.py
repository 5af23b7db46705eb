"""One process writes a run directory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rl_lab.types import UsageError

try:
    import fcntl
except ImportError:  # no POSIX: nothing keeps a second process away
    fcntl = None  # type: ignore[assignment]


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a run directory for this process; the lock goes with the process, however it ends.

    Raises:
        UsageError: another process holds it.
    """
    with (folder / ".lock").open("w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"run_dir {str(folder)!r} is being trained by another process") from error
        yield
