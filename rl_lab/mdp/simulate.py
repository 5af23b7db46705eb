"""Simulates tabular learning on a finite MDP: many seeds at once, each as it would run alone.

A simulated learner is one of the rules of `rl_lab.mdp.learning` in a compiled loop on the model: no environment is
stepped. Its random numbers come from a stream of its own (`draws`), so that its result depends neither on the other
seeds nor on the number of threads, to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from threading import Event
from typing import Any, NamedTuple, Self

import numpy as np

from rl_lab.jit import is_compiled
from rl_lab.mdp.draws import streams_of
from rl_lab.mdp.greedy_returns import greedy_actions, greedy_returns
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.simulated_learners import SimulatedLearner, fresh_knowledge
from rl_lab.mdp.simulated_loop import Open, Sums, compiled_loop
from rl_lab.mdp.simulated_world import begin, world_of
from rl_lab.mdp.solve import solve
from rl_lab.mdp.uniform_values import root_mean_squared_errors, uniform_return
from rl_lab.types import Array

PIECES_PER_THREAD = 4  # so that a thread that is held up leaves its pieces to the others
MOST_STEPS = 1_000_000  # of all learners in one call of the loop: an interruption waits for its end
STREAMS = ("simulation", "planning")  # of the draws of steps, and of those of imagined steps


class Trail(NamedTuple):
    """The steps of K learners, as indices into a model's rows and into the outcomes of the simulation's world."""

    rows: Array
    """State * A + action of each step, uint32 [K, T]."""
    columns: Array
    """The outcome of each step, uint32 [K, T]."""


def all_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Simulation:
    """K learners of one kind, each of which acts and learns in a model of its own.

    Args:
        model: what is played.
        learner: what learns.
        seeds: one for each learner, [K].
        time_limit: steps after which an episode is truncated; None for never.
        cells: the row of the learners' tables that shows each state, integers [S]; by default its own number.
        num_cells: rows of the tables, C; by default S.
        threads: on which the learners are spread; by default all cores.

    Raises:
        ValueError: the model is too large, or states that look alike have different legal actions.
    """

    def __init__(
        self,
        model: TabularModel,
        learner: SimulatedLearner,
        seeds: Sequence[int] | range,
        *,
        time_limit: int | None = None,
        cells: Array | None = None,
        num_cells: int | None = None,
        threads: int | None = None,
    ):
        self.model, self.learner, self.seeds = model, learner, list(seeds)
        self.cells = np.arange(model.num_states) if cells is None else np.asarray(cells)
        self.num_cells = model.num_states if num_cells is None else num_cells
        self.limit = time_limit
        self.world = world_of(model, time_limit, self.cells, self.num_cells)
        self.streams = np.hstack([streams_of(self.seeds, name) for name in STREAMS])
        self.knowledge = fresh_knowledge(
            learner, len(self.seeds), self.num_cells, model.num_actions, time_limit
        )
        self.sums = _no_sums(len(self.seeds))
        self.env_steps = 0
        """Steps that each learner has taken."""
        self.opened = self._first_episodes()
        self._threads = all_cores() if threads is None else threads

    def _first_episodes(self) -> Open:
        """Return the episodes that begin with the first step."""
        with np.errstate(over="ignore"):  # the draws' arithmetic is that of 64 bits
            columns = np.array([begin(self.world, stream, 0) for stream in self.streams], dtype=np.int64)
        count = len(self.seeds)
        return Open(
            self.world.successor[columns],
            self.world.cell[columns],
            np.zeros(count, np.int64),
            np.zeros(count),
            np.zeros(count, np.int64),
        )

    def begin_from(self, q: Array) -> None:
        """Let all learners begin with a table of values [C, A]."""
        self.knowledge.q[...] = q
        if self.knowledge.halves.size:
            self.knowledge.halves[...] = q

    @property
    def is_compiled(self) -> bool:
        """Whether the loop is there as machine code; otherwise the first call compiles it, which takes seconds."""
        return is_compiled(compiled_loop(self.learner.kind))

    def prepare(self) -> Self:
        """Compile the loop, so that no later call has to; return the simulation."""
        self.advance(self.env_steps)
        return self

    def advance(self, env_steps: int, *, record: bool = False) -> Trail:
        """Let all learners go on until each has taken so many steps; return these steps if they are recorded.

        Raises:
            FloatingPointError: a learner's values have become infinite or nan.
        """
        count, steps = len(self.seeds), env_steps - self.env_steps
        trail = Trail(*(np.zeros((count, steps if record else 0), np.uint32) for _ in range(2)))
        loop = compiled_loop(self.learner.kind)
        long = MOST_STEPS if not record else max(steps, 1)
        starts = range(self.env_steps, max(env_steps, self.env_steps + 1), long)
        together = max(1, MOST_STEPS // max(1, min(steps, long)))  # learners in one call

        def run(first: int, last: int, halted: Callable[[], bool]) -> None:
            for low in range(first, last, together):
                group = low, min(low + together, last)
                for start in starts:
                    if halted() or self.opened.broken[slice(*group)].any():
                        return
                    loop(
                        *group, start, min(start + long, env_steps), self.learner.numbers, self.world,
                        self.streams, self.knowledge, self.opened, self.sums, *trail,
                    )  # fmt: skip

        _spread(run, count, self._threads)
        self.env_steps = env_steps
        broken = (self.opened.broken > 0) | ~np.isfinite(self.sums.errors)
        if broken.any():
            k = int(np.argmax(broken))
            steps = int(self.opened.broken[k]) or env_steps
            raise FloatingPointError(f"values are not finite with seed {self.seeds[k]} at env step {steps}")
        return trail

    def take_sums(self) -> Sums:
        """Return what was met since the last call."""
        sums, self.sums = self.sums, _no_sums(len(self.seeds))
        return sums

    def greedy(self) -> Array:
        """Return each learner's greedy policy, the first best action of every state, int64 [K, S]."""
        return greedy_actions(self.knowledge.q[:, self.cells], self.model.available)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the learners have become; live arrays."""
        return {
            "env_steps": self.env_steps,
            "knowledge": self.knowledge._asdict(),
            "opened": self.opened._asdict(),
            "sums": self.sums._asdict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.env_steps = int(state["env_steps"])
        self.knowledge = self.knowledge._replace(**_copied(state["knowledge"]))
        self.opened, self.sums = Open(**_copied(state["opened"])), Sums(**_copied(state["sums"]))


def _spread(run: Callable[[int, int, Callable[[], bool]], None], count: int, threads: int) -> None:
    """Call `run` on pieces of `count` learners, in threads; they are independent of one another.

    Its last argument says whether to give up: the others have failed, or a person has interrupted them.
    """
    pieces = 1 if threads == 1 else min(count, threads * PIECES_PER_THREAD)
    bounds = np.linspace(0, count, pieces + 1).astype(int).tolist()
    if pieces <= 1:
        run(0, count, lambda: False)
        return
    halt = Event()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for done in [pool.submit(run, *pair, halt.is_set) for pair in pairwise(bounds)]:
                done.result()
        except BaseException:
            halt.set()
            raise


def _copied(arrays: dict[str, Array]) -> dict[str, Array]:
    return {name: np.array(array) for name, array in arrays.items()}


def _no_sums(count: int) -> Sums:
    return Sums(np.zeros(count, np.int64), np.zeros(count), np.zeros(count, np.int64), np.zeros(count))


@dataclass(frozen=True, eq=False)
class Simulated:
    """What K simulated learners have come to, and how they came there."""

    seeds: tuple[int, ...]
    """One for each learner."""
    env_steps: Array
    """The steps after which the learners were evaluated, int64 [E]."""
    greedy_return: Array
    """Expected discounted return of each greedy policy from the start, without the time limit, [K, E]; exact.

    Of the policy that acts uniformly at random where its values are learned. At gamma = 1 it is minus
    infinity for a policy that goes on for ever and loses on average, and nan where no return is defined, since what
    it earns and loses comes to nothing on average.
    """
    optimal_return: float
    """The largest that is possible."""
    episode_return: Array
    """Mean undiscounted return of the episodes that ended since the evaluation before, [K, E]; nan if none did."""
    q: Array
    """The tables at the end, [K, C, A]; [K, C, 1] where values of states are learned."""
    value_error: Array | None = None
    """Where values of states are learned, the root of their mean squared error over the states that can be met, [K, E].

    What they should be is computed with the learner's own discount, without the time limit; exact.
    """

    @property
    def regret(self) -> Array:
        """By how much each greedy policy falls short of the optimum, [K, E]; infinity and nan as in `greedy_return`."""
        return self.optimal_return - self.greedy_return


def simulate(
    model: TabularModel,
    learner: SimulatedLearner,
    seeds: Sequence[int] | range,
    total_steps: int,
    *,
    evaluate_every: int | None = None,
    eval_gamma: float | None = None,
    **options: Any,
) -> Simulated:
    """Let a learner learn with several seeds, and evaluate its greedy policies exactly.

    Args:
        total_steps: of each learner.
        evaluate_every: steps between evaluations; by default a tenth of `total_steps`. The last step is evaluated, too.
        eval_gamma: discount of the evaluation; by default the learner's own.
        options: `time_limit`, `cells`, `num_cells` and `threads` of `Simulation`.

    Raises:
        ValueError: as `Simulation`.
        NeverEnds, NotConverged: the model can't be solved with this discount.
        FloatingPointError: a learner's values have become infinite or nan.
    """
    return evaluated(
        Simulation(model, learner, seeds, **options),
        total_steps,
        evaluate_every=evaluate_every,
        eval_gamma=eval_gamma,
    )


def evaluated(
    simulation: Simulation,
    total_steps: int,
    *,
    evaluate_every: int | None = None,
    eval_gamma: float | None = None,
) -> Simulated:
    """Let the learners of a simulation learn, and evaluate their greedy policies, as `simulate` does."""
    model, gamma = simulation.model, simulation.learner.numbers.gamma if eval_gamma is None else eval_gamma
    best = float(model.initial @ solve(model, gamma).v)
    every = max(1, total_steps // 10) if evaluate_every is None else evaluate_every
    points = [*range(every, total_steps, every), total_steps]
    shape = (len(simulation.seeds), len(points))
    returns, earned, errors = np.zeros(shape), np.full(shape, np.nan), []
    for e, point in enumerate(points):
        simulation.advance(point)
        returns[:, e] = _returns(simulation, gamma)
        errors.append(_value_errors(simulation))
        sums = simulation.take_sums()
        np.divide(sums.returns, sums.episodes, out=earned[:, e], where=sums.episodes > 0)
    return Simulated(
        tuple(simulation.seeds), np.array(points), returns, best, earned, simulation.knowledge.q,
        np.stack(errors, axis=1) if simulation.learner.kind.predicts else None,
    )  # fmt: skip


def _returns(simulation: Simulation, gamma: float) -> Array:
    """Return the expected return of what each learner has come to do, [K]."""
    if simulation.learner.kind.predicts:
        return np.full(len(simulation.seeds), uniform_return(simulation.model, gamma))
    return greedy_returns(simulation.model, simulation.greedy(), gamma)


def _value_errors(simulation: Simulation) -> Array:
    """Return how wrong each learner's values of states are, [K]; nan if it learns values of actions."""
    kind, gamma, q = simulation.learner.kind, simulation.learner.numbers.gamma, simulation.knowledge.q
    if not kind.predicts:
        return np.full(len(q), np.nan)
    return root_mean_squared_errors(simulation.model, q[..., 0], simulation.cells, gamma)
