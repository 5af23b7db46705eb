"""Carries out several runs of a configuration in one process: their agents act and learn step by step side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from rl_lab.runs.callbacks import Callbacks
from rl_lab.runs.clock import Clock, RareCpuOfTree
from rl_lab.runs.open_files import room_for
from rl_lab.runs.progress import MakeProgress
from rl_lab.runs.run import Run
from rl_lab.runs.signals import stop_on_signals
from rl_lab.runs.watchdog import watch_over
from rl_lab.training.devices import limited_threads
from rl_lab.training.interaction import Interaction
from rl_lab.training.lockstep import Lockstep, Turns
from rl_lab.training.preparing import Prepared
from rl_lab.training.result import Result
from rl_lab.training.running import Opened, started
from rl_lab.training.session import Session


def train_together(
    prepared: Sequence[Prepared],
    shown: Sequence[bool | MakeProgress | None],
    callbacks: Sequence[Callbacks],
    *,
    signals: bool,
    failed: Callable[[int, Exception], None],
) -> list[Result]:
    """Train the agents of runs that differ in seed and folder alone as one program, each as it would be alone.

    Args:
        prepared: the runs, whose learner is an `Interaction` that doesn't refuse this.
        shown: how each one's progress is shown, as for `launch.learn`.
        callbacks: those of each run.
        signals: as for `launch.learn`.
        failed: takes the number of a run and the exception that ended it; the others go on, unless it raises.

    Returns:
        The results of the runs that haven't failed, in order; all that were stopped are without a summary.
    """
    config = prepared[0].config
    with room_for(len(prepared)), limited_threads(config.threads), ExitStack() as rest:
        batch = _Batch(rest, len(prepared), failed)
        for number, (one, show, heard) in enumerate(zip(prepared, shown, callbacks, strict=True)):
            batch.open(number, one, show, heard)
        if batch.sessions:
            group = _Group([opened.run for opened in batch.opened.values()])
            first = next(iter(batch.opened.values()))
            with (
                stop_on_signals(group, enabled=signals),
                watch_over(group, first.shown.note, config.stall_seconds),
            ):
                batch.go()
    return [batch.results[number] for number in sorted(batch.results)]


class _Batch:
    """Runs that are carried out together; each is closed when it ends or fails."""

    def __init__(self, rest: ExitStack, number: int, failed: Callable[[int, Exception], None]):
        self.opened: dict[int, Opened] = {}
        self.sessions: dict[int, Session] = {}
        self.results: dict[int, Result] = {}
        self._rest, self._failed = rest, failed
        self._closing: dict[int, ExitStack] = {}
        self._turns, self._number = (Turns(number), Turns(number, RareCpuOfTree())), number

    def open(
        self, number: int, prepared: Prepared, show: bool | MakeProgress | None, callbacks: Callbacks
    ) -> None:
        """Open a run and its session."""
        seconds, cpu = (partial(turns.seconds, number) for turns in self._turns)
        clock = Clock(now=seconds, wall=seconds, cpu=cpu, together=self._number)
        closing = self._closing[number] = self._rest.enter_context(ExitStack())
        try:
            opened = closing.enter_context(started(prepared, show, callbacks, clock))
            assert isinstance(prepared.learner, Interaction)
            session = closing.enter_context(prepared.learner.session(prepared.problem, opened.run))
        except Exception as error:
            self.fail(number, error)
            return
        self.opened[number], self.sessions[number] = opened, session

    def go(self) -> None:
        """Let the agents act and learn until all runs have ended."""
        learner = next(iter(self.opened.values())).learner
        assert isinstance(learner, Interaction)
        together = learner.learns_together([session.agent for session in self.sessions.values()])
        Lockstep(self.sessions, together, self._turns, self.end, self.fail).go()

    def end(self, number: int) -> None:
        """Close a run that has come to its end."""
        opened = self.opened[number]
        opened.policy = self.sessions[number].greedy
        try:
            self._closing[number].close()
        except Exception as error:
            self._failed(number, error)
            return
        self.results[number] = opened.result()

    def fail(self, number: int, error: Exception) -> None:
        """Close a run that an exception has ended."""
        try:
            with self._closing[number]:
                raise error
        except Exception as raised:
            self._failed(number, raised)


class _Group:
    """Several runs as one that is asked to stop and watched."""

    def __init__(self, runs: Sequence[Run]):
        self._runs = runs

    @property
    def stop_requested(self) -> bool:
        """Whether a signal has asked to stop."""
        return any(run.stop_requested for run in self._runs)

    @stop_requested.setter
    def stop_requested(self, asked: bool) -> None:
        for run in self._runs:
            run.stop_requested = asked

    @property
    def pulse(self) -> tuple[int, int]:
        """The last environment step of any run, and the number of other signs of life of all."""
        pulses = [run.pulse for run in self._runs]
        return max(at for at, _ in pulses), sum(signs for _, signs in pulses)
