"""Signals: SIGINT and SIGTERM ask a run to save and stop; a second one ends the process at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

STOPPED = 75  # exit code: stopped by a signal after saving, resumable


class Stoppable(Protocol):
    """What can be asked to stop."""

    stop_requested: bool


@contextmanager
def stop_on_signals(run: Stoppable, *, enabled: bool) -> Iterator[None]:
    """Ask `run` to stop on the first signal that comes in a `with` block; works in the main thread only."""
    if not enabled:
        yield
        return

    def ask(number: int, frame: Any) -> None:
        if run.stop_requested:
            os._exit(128 + number)
        run.stop_requested = True

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
