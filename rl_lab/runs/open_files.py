"""Room for the files that many runs keep open in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rl_lab.types import UsageError

try:
    import resource
except ImportError:  # not POSIX: nothing is known of a limit
    resource = None  # type: ignore[assignment]

OF_RUN = 6  # its lock, three files of rows and the pipe of its mirror process, with one to spare
OTHERS = 200  # of the process itself, and of what runs open for a moment


def refuse_open_files(runs: int) -> str | None:
    """Return why so many runs can't have their files open at a time (one line), or None if they can."""
    if resource is None:
        return None
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if allowed == resource.RLIM_INFINITY or _needed(runs) <= allowed:
        return None
    return (
        f"they keep {_needed(runs)} files open, and this process may open {allowed} (allowed: up to"
        f" {max(0, (allowed - OTHERS) // OF_RUN)} runs, or more with a higher hard limit, `ulimit -Hn`)"
    )


@contextmanager
def room_for(runs: int) -> Iterator[None]:
    """Raise the process's own limit of open files as far as so many runs need, for the length of a `with` block.

    Raises:
        UsageError: the system doesn't allow it.
    """
    if resource is None:
        yield
        return
    own, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if own == resource.RLIM_INFINITY or own >= _needed(runs):
        yield
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_needed(runs), allowed))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{runs} runs keep {_needed(runs)} files open, and the limit of {own} can't be raised: {error} (allowed: up"
            f" to {max(0, (own - OTHERS) // OF_RUN)} runs)"
        ) from error
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (own, allowed))


def _needed(runs: int) -> int:
    return runs * OF_RUN + OTHERS
