"""The teacher that knows: the exact optimal policy of a finite MDP."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rl_lab.agent import Policy
from rl_lab.evaluation.exact import optimum
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.rows import NeverEnds, NotConverged
from rl_lab.policies import random_actions
from rl_lab.problem import Problem
from rl_lab.types import Array, Decision, Obs, State, UsageError


class Oracle:
    """Says the first optimal action of what is observed.

    Raises:
        UsageError: the optimum isn't defined, or states in which it acts differently look alike.
    """

    def __init__(self, model: TabularModel, gamma: float):
        try:
            best = optimum(model, gamma).policy
        except (NeverEnds, NotConverged) as error:
            raise UsageError(f"no optimum at gamma {gamma}: {' '.join(str(error).split())}") from error
        ends = ((model.termination == 1.0) & (model.expected_reward == 0.0)).all(axis=1)
        states = np.flatnonzero(~ends)  # nobody acts in the others
        shown = np.asarray(model.observe(states))
        self._dtype = shown.dtype
        self._table: dict[bytes, int] = {}
        for row, action in zip(shown, best[states].tolist(), strict=True):
            if self._table.setdefault(row.tobytes(), action) != action:
                raise UsageError("states look alike in which other actions are optimal")

    def __call__(self, obs: Obs) -> Array:
        """Return the actions int64 [N]."""
        rows = np.asarray(obs, self._dtype)
        return np.array([self._table[row.tobytes()] for row in rows], np.int64)


cached_oracle = lru_cache(maxsize=4)(
    Oracle
)  # asked for when the problem is judged, and again when it is played


def refuse_oracle(problem: Problem, gamma: float) -> str | None:
    """Say why there is no oracle for this problem."""
    name = problem.env_id
    if problem.model is None:
        return f"oracle True needs a finite MDP, and {name} gives no model (allowed: toy-text, lab/*)"
    try:
        cached_oracle(problem.model, gamma)
    except UsageError as error:
        return f"oracle True can't serve {name}: {error} (allowed: finite MDPs that are solved and show their state)"
    return None


class OraclePolicy:
    """Takes the first optimal action, now and then a random one; the label in its extras is always the former.

    Args:
        learner: the clone's own policy, whose carry is remembered on the way.
    """

    def __init__(
        self, problem: Problem, gamma: float, epsilon: float, rng: np.random.Generator, learner: Policy
    ):
        self._problem, self._gamma = problem, gamma
        self._epsilon, self._rng, self._learner = epsilon, rng, learner
        self._remembers = learner.initial_state(1) != ()

    def initial_state(self, num_envs: int) -> State:
        """Return the carry of the clone's own policy."""
        return self._learner.initial_state(num_envs)

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return actions int64 [N], with the labels int64 [N] beside them."""
        model = self._problem.model
        assert model is not None
        label = cached_oracle(model, self._gamma)(obs)
        carry = self._learner.act(obs, state, is_first, mask).state if self._remembers else ()
        random = self._rng.random(len(label)) < self._epsilon
        drawn = random_actions(self._rng, len(label), model.num_actions, mask)
        return Decision(np.where(random, drawn, label), carry, {"label": label})

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return nothing: it is not the clone that acts."""
        return {}
