"""Several sessions of interaction that go on step by step side by side, while their agents learn as one program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from rl_lab.agent import Agent, Policy
from rl_lab.problem import Problem
from rl_lab.training.session import Session
from rl_lab.types import Metrics, Obs, Step


class LearnsTogether(Protocol):
    """K agents of one configuration that differ in their seed alone and learn at the same moments.

    Their own `update` isn't called any more.
    """

    compiles: bool  # whether there is anything to compile

    def exploring(self, k: int) -> Policy:
        """Return the policy by which agent k acts on what `look` took."""

    def look(self, observations: dict[int, Obs]) -> None:
        """Take the observations [N, ...] that agents are about to act on, by their numbers."""

    def update(self) -> Sequence[Metrics | FloatingPointError | None]:
        """Let all agents learn that are there, if it is due; return for each its metrics, or why it failed."""

    def release(self, k: int) -> None:
        """Leave agent k as it is now; the others go on."""

    def compile_updates(self, example: Step, should_stop: Callable[[], bool]) -> None:
        """Compile what updates need, as `agent.Compiles` does."""


@dataclass(frozen=True)
class Together:
    """How several agents of a kind learn as one program."""

    refuse: Callable[[Any, Problem, int], str | None]
    """Returns why so many agents of a configuration can't (one line), or None if they can."""
    make: Callable[[Sequence[Any]], LearnsTogether]
    """Makes one learner of agents that have taken no steps yet."""


class Turns:
    """Divides the seconds of a process among several runs: equally, but for what one of them does alone.

    Args:
        number: of runs.
        read: seconds of a clock that never goes back.
    """

    def __init__(self, number: int, read: Callable[[], float] = perf_counter):
        self._own, self._sharing = [0.0] * number, set(range(number))
        self._common = 0.0  # of each run that shares
        self._alone: int | None = None
        self._read, self._since = read, read()

    def seconds(self, k: int) -> float:
        """Return the seconds of run k so far."""
        self._settle()
        return self._own[k] + (self._common if k in self._sharing else 0.0)

    def _settle(self) -> None:
        now = self._read()
        spent, self._since = now - self._since, now
        if self._alone is not None:
            self._own[self._alone] += spent
        elif self._sharing:
            self._common += spent / len(self._sharing)

    @contextmanager
    def alone(self, k: int) -> Iterator[None]:
        """Count a `with` block as run k's; blocks aren't nested."""
        self._settle()
        self._alone = k
        try:
            yield
        finally:
            self._settle()
            self._alone = None

    def leave(self, k: int) -> None:
        """Let run k share nothing any more."""
        self._settle()
        if k in self._sharing:
            self._sharing.remove(k)
            self._own[k] += self._common


class Lockstep:
    """Drives sessions by turns: each takes one vector step, then all agents learn at once.

    Args:
        sessions: at their start, by their number among `number` runs.
        learner: of the sessions' agents, in their order.
        turns: the clocks of the runs.
        ended: takes the number of a session that has come to its end, for this time at least.
        failed: takes the number of a session and the exception that ended it.
    """

    def __init__(
        self,
        sessions: Mapping[int, Session],
        learner: LearnsTogether,
        turns: Sequence[Turns],
        ended: Callable[[int], None],
        failed: Callable[[int, Exception], None],
    ):
        self._sessions, self._learner, self._turns = dict(sessions), learner, turns
        self._places = {number: place for place, number in enumerate(sessions)}
        self._ended, self._failed = ended, failed

    def go(self) -> None:
        """Interact until the last session has ended."""
        for number, session in list(self._sessions.items()):
            session.renew_policies(self._learner.exploring(self._places[number]))
            if self._tried(number, session.catch_up):
                self._end(number)
        self._compile()
        loops = {number: session.steps(Watching(session.agent)) for number, session in self._sessions.items()}
        while self._sessions:
            self._step(loops)

    def _step(self, loops: Mapping[int, Iterator[Any]]) -> None:
        """Let each session take a vector step, and all agents learn."""
        taken: dict[int, Any] = {}
        self._look()
        for number in list(self._sessions):
            try:
                taken[number] = next(loops[number], None)
            except Exception as error:
                self._fail(number, error)
        self._share_acting()
        spent = [number for number, step in taken.items() if step is None]  # their budgets
        for number in spent:
            del taken[number]
            self._end(number)
        if not taken:
            return
        began = perf_counter()
        told = self._learner.update()
        seconds = (perf_counter() - began) / len(taken)
        for number, (step, _, at) in taken.items():
            session, found = self._sessions[number], told[self._places[number]]
            if isinstance(found, Exception):
                self._fail(number, found)
                continue
            session.watch.seconds["update"] += seconds
            if session.take(step, found, at) and self._tried(number, session.moment):
                self._end(number)

    def _look(self) -> None:
        self._learner.look({self._places[number]: s.at.obs for number, s in self._sessions.items()})

    def _share_acting(self) -> None:
        """Divide the seconds of acting equally: the first agent that acts has the outputs of all computed."""
        watches = [session.watch.seconds for session in self._sessions.values()]
        acting = sum(seconds["act"] for seconds in watches)
        for seconds in watches:
            seconds["act"] = acting / len(watches)

    def _tried(self, number: int, work: Callable[[], bool]) -> bool:
        """Return what a session says that does something alone; False if it failed."""
        try:
            with self._alone(number):
                return work()
        except Exception as error:
            self._fail(number, error)
            return False

    @contextmanager
    def _alone(self, number: int) -> Iterator[None]:
        with ExitStack() as clocks:
            for turns in self._turns:
                clocks.enter_context(turns.alone(number))
            yield

    def _end(self, number: int) -> None:
        """Bring a session to its end."""
        session = self._leave(number)
        try:
            with self._alone(number):
                session.end()
        except Exception as error:
            self._failed(number, error)
            return
        self._ended(number)

    def _fail(self, number: int, error: Exception) -> None:
        self._leave(number)
        self._failed(number, error)

    def _leave(self, number: int) -> Session:
        """Take a session out, whose agent stays as it is."""
        session = self._sessions.pop(number)
        for turns in self._turns:
            turns.leave(number)
        self._learner.release(self._places[number])
        session.renew_policies()
        return session

    def _compile(self) -> None:
        """Compile what all agents need, between two steps; a signal stops it."""
        if not self._learner.compiles or not self._sessions:
            return
        sessions, first = list(self._sessions.values()), next(iter(self._sessions.values()))
        drawn = [session.streams.state_dict() for session in sessions]
        began = perf_counter()
        with ExitStack() as compiling:
            for session in sessions:
                compiling.enter_context(session.run.compiling())
            self._look()
            self._learner.compile_updates(first.example(), lambda: first.run.stop_requested)
        seconds = (perf_counter() - began) / len(sessions)
        for session, streams in zip(sessions, drawn, strict=True):
            session.streams.load_state_dict(streams)
            session.watch.seconds["compile"] += seconds


class Watching:
    """Stores an agent's steps, and leaves learning to others."""

    def __init__(self, agent: Agent):
        self.observe = agent.observe

    def update(self) -> None:
        """Do nothing."""
