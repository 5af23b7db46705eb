"""What a run computes on: its device, and how many threads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from rl_lab.types import UsageError


def resolve_device(asked: str) -> str:
    """Return "cpu" or "cuda" for a device that was asked for; "auto" takes CUDA if it is there.

    A learner that hasn't imported torch runs on the CPU.

    Raises:
        UsageError: "cuda" was asked for and isn't there.
    """
    torch = import_module("torch") if asked == "cuda" else sys.modules.get("torch")
    has_cuda = torch is not None and torch.cuda.is_available()
    if asked == "cuda" and not has_cuda:
        raise UsageError("device 'cuda' is not there (allowed: auto, cpu)")
    return ("cuda" if has_cuda else "cpu") if asked == "auto" else asked


def set_threads(threads: int) -> None:
    """Limit the threads of BLAS and torch from now on, in a process that does nothing else.

    Two busy processes with two threads each slow one another down.
    """
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Limit the threads of BLAS and torch for the length of a `with` block, also if it ends with an error.

    The process may be somebody's notebook, so its own thread counts come back.
    """
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    with threadpool_limits(threads):
        try:
            if torch is not None:
                torch.set_num_threads(threads)
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(before)
