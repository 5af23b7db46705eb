"""Room for the files that many runs keep open in one process."""

from __future__ import annotations

try:
    import resource
except ImportError:  # not POSIX: nothing is known of a limit
    resource = None  # type: ignore[assignment]

OF_RUN = 6  # its lock, its rows and the pipe of its mirror process, and one to spare
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


def make_room(runs: int) -> None:
    """Raise the process's own limit of open files as far as so many runs need."""
    if resource is None:
        return
    own, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if own != resource.RLIM_INFINITY and own < _needed(runs):
        resource.setrlimit(resource.RLIMIT_NOFILE, (_needed(runs), allowed))


def _needed(runs: int) -> int:
    return runs * OF_RUN + OTHERS
