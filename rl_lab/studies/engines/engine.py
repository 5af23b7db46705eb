"""What carries out the runs of a study."""

from __future__ import annotations

from typing import Protocol, Self

from rl_lab.studies.running import Report, StopFlag, Task, run_task


class EngineFault(RuntimeError):
    """An engine couldn't be started; the message is one line, and commands exit with 1."""


class Engine(Protocol):
    """Carries out runs, several at a time; a context manager, which holds what it needs for that."""

    def run(self, task: Task, stop: StopFlag, report: Report) -> str | None:
        """Carry out one run; `run_task` says what it returns and raises. Called from several threads."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class LocalEngine:
    """Carries out each run in a process of its own on this machine."""

    def run(self, task: Task, stop: StopFlag, report: Report) -> str | None:
        """Carry out one run."""
        return run_task(task, stop, report)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass
