"""The oracle: the exact optimal policy of a finite MDP, as a teacher."""

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
    """Maps observations to the first optimal action of the state that they show.

    Raises:
        UsageError: the optimum isn't defined, or states with different optimal actions share an observation.
    """

    def __init__(self, model: TabularModel, gamma: float):
        try:
            best = optimum(model, gamma).policy
        except (NeverEnds, NotConverged) as error:
            raise UsageError(f"no optimum at gamma {gamma}: {' '.join(str(error).split())}") from error
        ends = ((model.termination == 1.0) & (model.expected_reward == 0.0)).all(axis=1)
        states = np.flatnonzero(~ends)  # no action is ever taken in the others
        shown = np.asarray(model.observe(states))
        self._dtype = shown.dtype
        self._table: dict[bytes, int] = {}
        for row, action in zip(shown, best[states].tolist(), strict=True):
            if self._table.setdefault(row.tobytes(), action) != action:
                raise UsageError("states that look alike have different optimal actions")

    def __call__(self, obs: Obs) -> Array:
        """Return the actions int64 [N] of observations [N, ...]."""
        rows = np.asarray(obs, self._dtype)
        return np.array([self._table[row.tobytes()] for row in rows], np.int64)


cached_oracle = lru_cache(maxsize=4)(Oracle)  # needed by `refuse_oracle`, then again by the policy


def refuse_oracle(problem: Problem, gamma: float) -> str | None:
    """Return why there is no oracle for this problem (one line), or None if there is one."""
    name = problem.env_id
    if problem.model is None:
        return f"oracle True needs a finite MDP, and {problem.no_model}"
    try:
        cached_oracle(problem.model, gamma)
    except UsageError as error:
        return (
            f"oracle True can't serve {name}: {error} (allowed: solvable finite MDPs that show their state)"
        )
    return None


class OraclePolicy:
    """Takes the first optimal action, or with probability epsilon a random one; the label is always the former.

    Args:
        clone: the clone's own policy, whose carry is stored with the steps.
    """

    def __init__(
        self, problem: Problem, gamma: float, epsilon: float, rng: np.random.Generator, clone: Policy
    ):
        self._problem, self._gamma = problem, gamma
        self._epsilon, self._rng, self._clone = epsilon, rng, clone
        self._remembers = clone.initial_state(1) != ()

    def initial_state(self, num_envs: int) -> State:
        """Return the carry of the clone's own policy."""
        return self._clone.initial_state(num_envs)

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return actions int64 [N], the clone's carry, and the labels int64 [N] in the extras."""
        model = self._problem.model
        assert model is not None
        label = cached_oracle(model, self._gamma)(obs)
        carry = self._clone.act(obs, state, is_first, mask).state if self._remembers else ()
        random = self._rng.random(len(label)) < self._epsilon
        drawn = random_actions(self._rng, len(label), model.num_actions, mask)
        return Decision(np.where(random, drawn, label), carry, {"label": label})

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return {}: the figures of the clone, which doesn't act here, would mislead."""
        return {}
