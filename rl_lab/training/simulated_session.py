"""One session of a simulated run: simulating from one moment of the run to the next, and feeding the run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np

from rl_lab.agent import Agent
from rl_lab.environments.actions import stored_dtype
from rl_lab.environments.episodes import Episode
from rl_lab.mdp.simulate import Simulation, Trail
from rl_lab.problem import Problem
from rl_lab.runs.progress import COMPILING
from rl_lab.runs.run import Members, Run
from rl_lab.training.experience import NO_SEED
from rl_lab.types import Array

MOST_STEPS = 1_000_000  # simulated in one piece: between two looks at whether a signal asks to stop


class Part(NamedTuple):
    """A stretch of one learner's simulation."""

    env_steps: int  # at its end
    q: Array  # [C, A] at its end
    learned: int
    errors: float
    actions: Array  # [T]
    rewards: Array  # float64 [T]
    terminated: Array  # bool [T]
    state: dict[str, Any]  # of the simulation of this learner alone, at its end
    seconds: float


class Source(Protocol):
    """Where the stretches of a simulation come from."""

    limit: int | None
    """Steps after which an episode is truncated."""
    earlier: bool
    """Whether the stretches were simulated before the run's clock started."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the state of a `Part`."""

    def advance(self, env_steps: int) -> Part:
        """Return the stretch that ends after so many steps."""


class Live:
    """Simulates one learner as the run goes on."""

    earlier = False

    def __init__(self, simulation: Simulation):
        self._simulation = simulation
        self.limit = simulation.limit

    def prepare(self, run: Run) -> None:
        """Compile what is simulated, which isn't training; the run shows it."""
        with run.setting_up(to_tell(self._simulation)):
            self._simulation.prepare()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the state of a `Part`."""
        self._simulation.load_state_dict(state)

    def advance(self, env_steps: int) -> Part:
        """Return the stretch that ends after so many steps."""
        return next(parts_of(self._simulation, env_steps))


def to_tell(simulation: Simulation) -> str:
    """Return in one line what the preparation of a simulation takes its time for; "" if it takes none."""
    return "" if simulation.is_compiled else f"{COMPILING} the simulation, which takes up to minutes once"


def parts_of(simulation: Simulation, env_steps: int) -> Iterator[Part]:
    """Let all learners of a simulation go on, and yield each one's stretch."""
    began = perf_counter()
    trail = simulation.advance(env_steps, record=True)
    sums, state = simulation.take_sums(), simulation.state_dict()
    seconds = (perf_counter() - began) / len(simulation.seeds)
    for k in range(len(simulation.seeds)):
        actions, rewards, terminated = _steps(simulation, trail, k)
        yield Part(
            env_steps, simulation.knowledge.q[k].copy(), int(sums.learned[k]), float(sums.errors[k]),
            actions, rewards, terminated, _alone(state, k), seconds,
        )  # fmt: skip


def _steps(simulation: Simulation, trail: Trail, k: int) -> tuple[Array, Array, Array]:
    world, columns = simulation.world, trail.columns[k]
    return trail.rows[k] % simulation.model.num_actions, world.reward[columns], world.ends[columns]


def _alone(state: dict[str, Any], k: int) -> dict[str, Any]:
    """Return the state of the simulation of learner k alone, copied."""
    return {
        name: {key: array[k : k + 1].copy() for key, array in value.items()}
        if isinstance(value, dict)
        else value
        for name, value in state.items()
    }


class AheadOfTime:
    """Stretches of one learner that were simulated together with those of others."""

    earlier = True

    def __init__(self, parts: deque[Part], limit: int | None):
        self._parts, self.limit = parts, limit

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing that is of use: what is resumed is simulated alone.

        Raises:
            AssertionError: always.
        """
        raise AssertionError("a resumed run isn't simulated ahead of time")

    def advance(self, env_steps: int) -> Part:
        """Return the stretch that ends after so many steps; it is forgotten."""
        part = self._parts.popleft()
        assert part.env_steps == env_steps
        return part


class SimulatedSession:
    """Goes from moment to moment of a run, with what is simulated between them."""

    def __init__(self, agent: Agent, problem: Problem, run: Run, source: Source):
        self.run, self.source, self.agent = run, source, agent
        self.greedy = agent.policy(explore=False)
        self.env_steps = self.learned = self.episodes = 0
        self._total, self._dtype = problem.total_steps, stored_dtype(problem.spec.action_space)
        self._first_action = problem.spec.first_action
        self._taken, self._earned = np.zeros(0, self._dtype), np.zeros(0)  # in the open episode
        self._row = _Row()
        self._state: dict[str, Any] = {}
        run.total_steps = problem.total_steps
        if run.restored is not None:
            self._restore(run.restored)

    def _restore(self, saved: Members) -> None:
        state = saved["simulation"]
        self.env_steps, self.learned, self.episodes = state["env_steps"], state["learned"], state["episodes"]
        self._taken, self._earned = np.asarray(state["taken"], self._dtype), np.asarray(state["earned"])
        self._row.load_state_dict(state["row"])
        self._state = state["learner"]
        self.source.restore(self._state)
        self._show(saved["weights"]["q"])

    def go(self) -> None:
        """Simulate until the budget is spent or the run says to stop; finish the run unless it goes on later."""
        run = self.run
        over = run.catch_up(self.env_steps, self.greedy, self.members)
        while not over and self.env_steps < self._total:
            to = next_stop(self.env_steps, run.due_after(self.env_steps), self._total)
            part = self.source.advance(to)
            if self.source.earlier:
                run.add_seconds(part.seconds)
            self._take(part)
            over = run.due(to) and self._moment()
        if not run.stopped:
            run.finish(self.env_steps, self.greedy, self.members(), self.learned)

    def _take(self, part: Part) -> None:
        """Take in a stretch: its end is shown by the policy, its episodes go to the run."""
        before, self.env_steps = self.env_steps, part.env_steps
        self.learned += part.learned
        self._state = part.state
        self._row.add(part)
        self._show(part.q)
        self._cut_episodes(part, before)

    def _show(self, q: Array) -> None:
        """Give the agent the table that its policies act on."""
        state = {"weights": {"q": q}, "env_steps": self.env_steps, "gradient_steps": self.learned}
        self.agent.load_state_dict(state)

    def _cut_episodes(self, part: Part, before: int) -> None:
        """Push the episodes that ended in a stretch into the run; keep the open one's steps."""
        limit = self.source.limit
        actions = np.concatenate((self._taken, (part.actions + self._first_action).astype(self._dtype)))
        rewards = np.concatenate((self._earned, part.rewards))
        offset = before - len(self._taken)  # env_steps at which the first of these actions was taken
        terminated = np.concatenate((np.zeros(len(self._taken), bool), part.terminated))
        start = 0
        for stop in ends_of(terminated, limit):
            length = stop - start
            self.run.episode(
                Episode(
                    offset + stop, 0, self.episodes, NO_SEED, float(np.cumsum(rewards[start:stop])[-1]), length,
                    bool(terminated[stop - 1]), length == limit, actions[start:stop],
                )
            )  # fmt: skip
            self.episodes, start = self.episodes + 1, stop
        self._taken, self._earned = actions[start:].copy(), rewards[start:].copy()

    def _moment(self) -> bool:
        """Push a row, evaluate and save where due; return whether to stop."""
        if self.run.row_due(self.env_steps):
            values: dict[str, Any] = {**self._row.take(), **self.agent.diagnostics()}
            self.run.row(self.env_steps, values | {"gradient_steps": self.learned})
        return self.run.moment(self.env_steps, self.greedy, self.members)

    def members(self) -> Members:
        """Return the state trees of a checkpoint."""
        return {
            "weights": self.agent.state_dict()["weights"],
            "simulation": {
                "env_steps": self.env_steps,
                "learned": self.learned,
                "episodes": self.episodes,
                "taken": self._taken,
                "earned": self._earned,
                "row": self._row.state_dict(),
                "learner": self._state,
            },
        }


def next_stop(env_steps: int, due: int, total: int) -> int:
    """Return the step up to which is simulated in one piece."""
    return min(due, total, env_steps + MOST_STEPS)


def ends_of(terminated: Array, limit: int | None) -> Iterator[int]:
    """Yield the stops of the episodes in a stretch that begins with one, given where they terminate, bool [T]."""
    start = 0
    for stop in [*(np.flatnonzero(terminated) + 1).tolist(), len(terminated)]:
        while limit is not None and stop - start > limit:
            start += limit
            yield start
        if stop > start and (terminated[stop - 1] or stop - start == limit):
            start = stop
            yield stop


class _Row:
    """Averages what a row reports of the stretches since the last one."""

    def __init__(self) -> None:
        self._learned, self._errors, self._seconds = 0, 0.0, 0.0

    def add(self, part: Part) -> None:
        """Take a stretch in."""
        self._learned += part.learned
        self._errors += part.errors
        self._seconds += part.seconds

    def take(self) -> dict[str, float]:
        """Return the averages and the seconds, and begin anew."""
        out = {"td_error": self._errors / self._learned} if self._learned else {}
        out["update_seconds"] = round(self._seconds, 6)
        self._learned, self._errors, self._seconds = 0, 0.0, 0.0
        return out

    def state_dict(self) -> dict[str, float]:
        """Return what has been added since the last row."""
        return {"learned": self._learned, "errors": self._errors, "seconds": self._seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._learned, self._errors = int(state["learned"]), float(state["errors"])
        self._seconds = float(state["seconds"])
