"""Says when a run stalls: nothing has happened for some time, and this is what it is waiting for.

A thread looks at the run's pulse now and then. What the run is waiting for is read from the stack of the thread
that trains, so that training itself does nothing for it but store the number of its last step.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

WAITS = {
    ("rl_lab.updates.compiling", "_load_or_compile"): "compilation",
    ("rl_lab.training.stopwatch", "TimedVector.step"): "an environment step",
    ("rl_lab.training.stopwatch", "TimedVector.reset"): "an environment reset",
    ("rl_lab.training.stopwatch", "TimedPolicy.act"): "the policy's action",
    ("rl_lab.training.stopwatch", "TimedAgent.update"): "an update",
    ("rl_lab.runs.evaluations", "Evaluations.measure"): "an evaluation",
    ("rl_lab.runs.run", "Run.save"): "a checkpoint",
    ("rl_lab.runs.run", "Run._show"): "pictures and videos",
}  # (module, function): what a run waits for while it is the innermost of these on the stack
STALLED = "stalled"  # how the line begins
ELSE = "its learner"
SHORTEST_SECONDS, LONGEST_SECONDS = 0.01, 5.0  # between two looks


class Alive(Protocol):
    """What can be watched."""

    @property
    def pulse(self) -> tuple[int, int]:
        """The last environment step, and the number of other signs of life."""


class Watchdog:
    """Tells once for each stall that nothing has happened for `seconds`.

    Args:
        run: is looked at.
        tell: takes the line.
        seconds: how long the pulse may stay as it is.
        thread: identifies the thread that trains.
        now: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        run: Alive,
        tell: Callable[[str], None],
        seconds: float,
        thread: int,
        now: Callable[[], float] = time.monotonic,
    ):
        self._run, self._tell, self._seconds, self._thread, self._now = run, tell, seconds, thread, now
        self._pulse, self._since, self._told = run.pulse, now(), False

    def look(self) -> None:
        """Look at the pulse; tell if it has been the same for too long."""
        pulse, now = self._run.pulse, self._now()
        if pulse != self._pulse:
            self._pulse, self._since, self._told = pulse, now, False
        elif not self._told and now - self._since >= self._seconds:
            self._told = True
            what, where = awaited(sys._current_frames().get(self._thread))
            self._tell(
                f"{STALLED}: nothing has happened for {now - self._since:.0f} s at environment step {pulse[0]},"
                f" the run is waiting for {what}{where}"
            )


def awaited(frame: FrameType | None) -> tuple[str, str]:
    """Return what the thread with this innermost frame is waiting for, and in which line of which file."""
    where = "" if frame is None else f" ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"
    while frame is not None:
        place = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname
        if place in WAITS:
            return WAITS[place], where
        frame = frame.f_back
    return ELSE, where


@contextmanager
def watch_over(run: Alive, tell: Callable[[str], None], seconds: float | None) -> Iterator[None]:
    """Watch the run of this thread for the length of a `with` block; None watches nothing."""
    if seconds is None:
        yield
        return
    dog = Watchdog(run, tell, seconds, threading.get_ident())
    over = threading.Event()
    pause = min(max(seconds / 4, SHORTEST_SECONDS), LONGEST_SECONDS)

    def watch() -> None:
        while not over.wait(pause):
            dog.look()

    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
