"""What runs on the nodes of a Ray cluster: a task for each run, and the desk at which tasks and study meet.

A task does what the study does on its own machine: it starts the process that trains, keeps what that prints, and says
why it failed. So the results are the same to the bit, and a task that is killed takes its process with it.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_lab.runs.directory import STUDY
from rl_lab.studies.running import StopFlag, Stopped, Task, run_task

if TYPE_CHECKING:
    from collections.abc import Iterator

MEET_SECONDS = 0.25  # between two visits of a task at the desk
ANSWER_SECONDS = 10.0  # how long it waits there
KEPT_REPORTS = 100  # of each run, until the study takes them


class Desk:
    """Takes the reports of the tasks, and tells them whether to stop; an actor of the cluster."""

    def __init__(self) -> None:
        self._reports: dict[str, deque[dict[str, Any]]] = {}
        self._stopping = False

    def visit(self, name: str, reports: list[dict[str, Any]]) -> bool:
        """Leave the reports of a run; return whether it is to stop."""
        self._reports.setdefault(name, deque(maxlen=KEPT_REPORTS)).extend(reports)
        return self._stopping

    def collect(self, name: str, stop: bool) -> list[dict[str, Any]]:
        """Take the reports of a run, and say whether all are to stop."""
        self._stopping = self._stopping or stop
        return list(self._reports.pop(name, ()))


@dataclass(frozen=True)
class Work:
    """One run as a node gets it."""

    task: Task
    study: str
    """The study's directory, absolute."""
    directory: str
    """The working directory of the study's process, from which relative paths are meant."""
    environment: Mapping[str, str]
    """Environment variables that the run needs as the study has them."""


@dataclass(frozen=True)
class Outcome:
    """How a task ended."""

    node: str
    cause: str | None = None
    """Why the run failed; None if it didn't."""
    stopped: bool = False


def carry_out(desk: Any, work: Work) -> Outcome:
    """Carry out one run on this node; the function of the Ray task.

    Args:
        desk: a handle of the `Desk`.
    """
    node = socket.gethostname()
    if (cause := _missing(work)) is not None:
        return Outcome(node, f"node {node}: {cause}")
    os.chdir(work.directory)
    os.environ |= work.environment
    stop = StopFlag()
    with _visiting(desk, work.task.name, stop) as reports:
        try:
            return Outcome(node, run_task(work.task, stop, reports.append))
        except Stopped:
            return Outcome(node, stopped=True)


def _missing(work: Work) -> str | None:
    """Return what this node lacks of what the study's process has; None if it has all."""
    for folder in (Path(work.directory), Path(work.study)):
        if not folder.is_dir():
            return f"there is no folder {str(folder)!r} (needed: a folder that all nodes share)"
    if not (Path(work.study) / STUDY).is_file():
        return f"folder {work.study!r} isn't that of the study (needed: a folder that all nodes share)"
    return None


@contextmanager
def _visiting(desk: Any, name: str, stop: StopFlag) -> Iterator[deque[dict[str, Any]]]:
    """Take reports to the desk while the block goes on, and bring back whether to stop."""
    import ray

    reports: deque[dict[str, Any]] = deque(maxlen=KEPT_REPORTS)
    over = threading.Event()

    def visit() -> None:
        sent = [reports.popleft() for _ in range(len(reports))]
        # A desk that doesn't answer comes back, or the study is gone, and this process with it.
        with suppress(ray.exceptions.RayError):
            stop.stop_requested |= ray.get(desk.visit.remote(name, sent), timeout=ANSWER_SECONDS)

    def go_on_visiting() -> None:
        while not over.wait(MEET_SECONDS):
            visit()

    visit()  # before anything is started: the study may have been stopped
    visitor = threading.Thread(target=go_on_visiting, daemon=True)
    visitor.start()
    try:
        yield reports
    finally:
        over.set()
        visitor.join(ANSWER_SECONDS + MEET_SECONDS)
        visit()
