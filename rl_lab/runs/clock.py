"""The clock of a run: the seconds that it spent on training, and all seconds since it began."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil


def cpu_of_tree() -> float:
    """Return the CPU seconds of this process and of the processes that it has started, also of those that ended."""
    return _cpu_of(resource.RUSAGE_SELF) + _cpu_of(resource.RUSAGE_CHILDREN) + _cpu_of_running()


class RareCpuOfTree:
    """What `cpu_of_tree` returns, for clocks that are read often: those that still run are looked at once a second.

    To look at them takes milliseconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self._now = now
        self._looked, self._ended, self._running = now(), _cpu_of(resource.RUSAGE_CHILDREN), _cpu_of_running()

    def __call__(self) -> float:
        """Return the CPU seconds, of which those of running processes may be a second old."""
        ended, now = _cpu_of(resource.RUSAGE_CHILDREN), self._now()
        if ended != self._ended or now - self._looked >= 1.0:
            self._looked, self._ended, self._running = now, ended, _cpu_of_running()
        return _cpu_of(resource.RUSAGE_SELF) + ended + self._running


def _cpu_of(who: int) -> float:
    """Return the CPU seconds of this process, or of those that it started and that ended."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def _cpu_of_running() -> float:
    """Return the CPU seconds of the processes that this one has started and that haven't ended."""
    seconds = 0.0
    if not _may_have_children():
        return seconds
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            times = child.cpu_times()
            seconds += times.user + times.system
            seconds += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return seconds


def _may_have_children() -> bool:
    """Return False where this process certainly has none: the kernel knows, and psutil looks through all processes."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # leaves what has ended as it is
    except ChildProcessError:
        return False
    except AttributeError:  # not on every system
        return True
    return True


class Clock:
    """Measures a run's seconds over all its sessions.

    Training is acting, stepping and learning; evaluation, checkpoints and rows pause the clock. Compiling counts as
    training too, and is added up apart.

    Args:
        now: seconds of a clock that never goes back.
        wall: seconds of the system's clock.
        cpu: CPU seconds of this process and those that it started.
        together: runs that share this process, each of whose clocks tells its share.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.perf_counter,
        wall: Callable[[], float] = time.time,
        cpu: Callable[[], float] = cpu_of_tree,
        together: int = 1,
    ):
        self._now, self._wall, self._cpu, self._together = now, wall, cpu, together
        self._train_before = self._wall_before = self._cpu_before = 0.0  # seconds of earlier sessions
        self._compiled = 0.0  # of all sessions
        self._paused = self._evaluated = self._saved = 0.0
        self._pause_began: float | None = None
        self._began, self._wall_began, self._cpu_began = now(), wall(), cpu()

    @property
    def train_seconds(self) -> float:
        """Seconds of training, over all sessions of the run."""
        now = self._now() if self._pause_began is None else self._pause_began
        return self._train_before + now - self._began - self._paused

    @property
    def wall_seconds(self) -> float:
        """Seconds since the start, over all sessions of the run, pauses included."""
        return self._wall_before + self._wall() - self._wall_began

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds since the start of this process and those that it started, over all sessions of the run."""
        return self._cpu_before + max(0.0, self._cpu() - self._cpu_began)

    @property
    def compile_seconds(self) -> float:
        """Seconds of compiling updates, which `train_seconds` contains, over all sessions of the run."""
        return self._compiled

    def start(self) -> None:
        """Count training from now on: what came before in this session was set-up."""
        self._began, self._paused, self._evaluated, self._saved = self._now(), 0.0, 0.0, 0.0

    def add(self, seconds: float) -> None:
        """Count seconds of training that this clock didn't see."""
        self._train_before += seconds

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count the length of a `with` block as evaluation; in a pause, since it is no training."""
        began = self._now()
        try:
            yield
        finally:
            self._evaluated += self._now() - began

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Count the length of a `with` block as compiling, a part of training."""
        began = self._now()
        try:
            yield
        finally:
            self._compiled += self._now() - began

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Count the length of a `with` block as the saving of a checkpoint; in a pause, since it is no training."""
        began = self._now()
        try:
            yield
        finally:
            self._saved += self._now() - began

    def spent(self) -> dict[str, float]:
        """Return the seconds of this session by what they were spent on; rows and the like are "other"."""
        training, evaluation, saving = self.train_seconds - self._train_before, self._evaluated, self._saved
        other = self._now() - self._began - training - evaluation - saving
        return {
            "training": training,
            "evaluation": evaluation,
            "checkpoints": saving,
            "other": max(0.0, other),
        }

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Stop counting training for the length of a `with` block; blocks may be nested."""
        if self._pause_began is not None:
            yield
            return
        began = self._pause_began = self._now()
        try:
            yield
        finally:
            self._pause_began = None
            self._paused += self._now() - began

    def state_dict(self) -> dict[str, float]:
        """Return the seconds so far; `runs_together` are the most runs that shared a process, if there were several."""
        names = ("train_seconds", "wall_seconds", "cpu_seconds", "compile_seconds")
        shared = {"runs_together": self._together} if self._together > 1 else {}
        return {name: getattr(self, name) for name in names} | shared

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Add the seconds of earlier sessions; older versions measured no CPU seconds, nor compiling apart."""
        self._train_before, self._wall_before = state["train_seconds"], state["wall_seconds"]
        self._cpu_before = state.get("cpu_seconds", 0.0)
        self._compiled = state.get("compile_seconds", 0.0)
        self._together = max(self._together, int(state.get("runs_together", 1)))
