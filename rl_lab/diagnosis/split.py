"""Splits the regret of a policy on a finite MDP into what wasn't seen, what can't be expressed, and the rest.

Four returns, each at least as large as the next, are all expected and discounted, without the time limit:

- optimal: of the best policy;
- visited: of the best policy that chooses freely in the states that training visited, and as the learned policy does in
  all others;
- expressed: of the best such policy whose free choices the learner's function class can express;
- achieved: of the learned policy.

The differences between neighbours are the parts, so that they add up to the regret whatever each return is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from rl_lab.diagnosis.visited import Visits, live_states
from rl_lab.evaluation.exact import REGRET_ROUNDING, expected_return
from rl_lab.function_class import FitTask, FunctionClass
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.solve import Solution, follow_policy, solve
from rl_lab.types import Array

MOST_STATES_OF_GRADIENTS = 2_000  # beyond which the exact gradient of the return would take minutes


@dataclass(frozen=True)
class RegretSplit:
    """Where a policy's regret comes from."""

    optimal_return: float
    """Of the best policy."""
    visited_return: float
    """Of the best policy that chooses freely in visited states alone."""
    expressed_return: float | None
    """Of the best such policy found that the function class can express; None if the class isn't known."""
    achieved_return: float
    """Of the learned policy."""
    tried_return: float
    """Of the best policy that takes, in visited states, only actions that were tried there."""
    states: int
    """Live states of the model that can be reached."""
    visited_states: int
    """How many of them training visited."""
    function_class: str | None
    """In words; None if it isn't known."""
    fits: int = 0
    """Fits from which `expressed_return` was found; 0 where it is exact."""

    @property
    def regret(self) -> float:
        """By how much the learned policy falls short of the best."""
        return self.optimal_return - self.achieved_return

    @property
    def exploration(self) -> float:
        """Lost because of states that training never visited."""
        return self.optimal_return - self.visited_return

    @property
    def representation(self) -> float | None:
        """Lost because the function class has no better policy; an upper bound where it was found by fits."""
        return None if self.expressed_return is None else self.visited_return - self.expressed_return

    @property
    def rest(self) -> float:
        """Lost by optimisation and estimation; includes what representation loses if the class isn't known."""
        best = self.visited_return if self.expressed_return is None else self.expressed_return
        return best - self.achieved_return

    @property
    def untried(self) -> float:
        """How much of the visited states' best return needs an action that was never tried there; not a part."""
        return self.visited_return - self.tried_return

    @property
    def parts(self) -> dict[str, float]:
        """The parts that add up to the regret."""
        parts = {
            "exploration": self.exploration,
            "representation": self.representation,
            "rest": self.rest,
        }
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def main(self) -> str | None:
        """The largest part; None without regret."""
        name = max(self.parts, key=lambda part: self.parts[part])
        return name if self.parts[name] > 0 else None


def free_on(model: TabularModel, policy: Array, choices: Array) -> TabularModel:
    """Return a model with one more action, which does what a policy does; other actions are allowed in places only.

    Args:
        policy: probabilities [S, A].
        choices: which of the model's actions may be chosen instead, bool [S, A].
    """
    row = model.row
    states, actions = np.divmod(row, model.num_actions)
    kept = (choices & model.available).ravel()[row]
    weight = model.probability * policy.ravel()[row]
    followed = weight > 0

    def table(which: Array, action: Array, probability: Array) -> Array:
        columns = states, action, probability, model.successor, model.reward, model.terminated
        return np.column_stack([column[which] for column in columns])

    same = np.full(len(row), model.num_actions)
    outcomes = np.concatenate((table(kept, actions, model.probability), table(followed, same, weight)))
    every = np.ones((model.num_states, 1), bool)
    available = np.concatenate((choices & model.available, every), axis=1)
    return TabularModel.from_outcomes(
        outcomes, model.num_states, model.num_actions + 1, model.initial, available, model.observe
    )


class Splitter:
    """The returns of one policy on one model.

    Args:
        policy: probabilities [S, A].
        gamma: discount of the returns.

    Raises:
        NeverEnds, NotConverged: the model can't be solved, or the policy goes on earning for ever.
    """

    def __init__(self, model: TabularModel, policy: Array, gamma: float, visits: Visits):
        self._model, self._gamma, self._visits = model, gamma, visits
        self._policy = policy / policy.sum(axis=1, keepdims=True)
        self._optimum = solve(model, gamma)
        optimal = float(model.initial @ self._optimum.v)
        self._noise = max(REGRET_ROUNDING * max(1.0, abs(optimal)), self._optimum.bound)
        self.optimal = optimal
        self.visited = self._snapped(float(model.initial @ self._freed.v), optimal)

    def _snapped(self, value: float, above: float) -> float:
        """Return `above` in place of a return that differs from it by rounding alone."""
        return above if abs(above - value) <= self._noise else value

    @cached_property
    def _freed(self) -> Solution:
        """The best policy that chooses freely in visited states."""
        everything = np.ones(self._model.available.shape, bool)
        return self._solved(everything & self._visits.visited[:, None])

    def _solved(self, choices: Array) -> Solution:
        return solve(free_on(self._model, self._policy, choices), self._gamma)

    def split(self, function_class: FunctionClass | None, *, seed: int, fits: int, steps: int) -> RegretSplit:
        """Return the parts of the regret.

        Args:
            function_class: of the learner; None if it isn't known.
            seed: of the fits' initialisations.
            fits: initialisations that are tried.
            steps: most gradient steps of each.
        """
        achieved = expected_return(self._model, self._policy, self._gamma)
        expressed, count = None, 0
        achieved_at_most = self._snapped(achieved, self.visited)
        if function_class is not None:
            best, count = achieved_at_most, 0
            if best < self.visited:
                found = function_class.fit(self._task(seed, fits, steps))
                best, count = max(best, found.value), found.fits
            expressed = self._snapped(best, self.visited)
        upper = self.visited if expressed is None else expressed
        tried = self._solved((self._visits.taken > 0) & self._visits.visited[:, None])
        live = live_states(self._model) & _reachable(self._model)
        return RegretSplit(
            optimal_return=self.optimal,
            visited_return=self.visited,
            expressed_return=expressed,
            achieved_return=self._snapped(achieved, upper),
            tried_return=self._snapped(float(self._model.initial @ tried.v), self.visited),
            states=int(live.sum()),
            visited_states=int((live & self._visits.visited).sum()),
            function_class=None if function_class is None else function_class.description,
            fits=count,
        )

    def _task(self, seed: int, fits: int, steps: int) -> FitTask:
        model = self._model
        states = np.flatnonzero(self._visits.visited & live_states(model))
        mask = None if model.available.all() else model.available[states]
        return FitTask(
            obs=model.observe(states), mask=mask, good=self._good(states), best=self.visited, tolerance=self._noise,
            evaluate=lambda actions: expected_return(model, self._with(states, actions), self._gamma),
            advantages=self._gradient_on(states), seed=seed, fits=fits, steps=steps,
        )  # fmt: skip

    def _good(self, states: Array) -> Array:
        """Return which actions are best in some states, bool [K, A]; the policy's own where nothing else is."""
        optimal = self._freed.optimal_actions[states]
        good = optimal[:, :-1]
        return np.where(good.any(axis=1, keepdims=True), good, self._policy[states] > 0)

    def _with(self, states: Array, choice: Array) -> Array:
        """Return the policy [S, A] with other actions int64 [K], or probabilities [K, A], in some states."""
        policy = self._policy.copy()
        policy[states] = choice if choice.ndim == 2 else np.eye(self._model.num_actions)[choice]
        return policy

    def _gradient_on(self, states: Array) -> Callable[[Array], Array] | None:
        if self._gamma >= 1.0 or self._model.num_states > MOST_STATES_OF_GRADIENTS:
            return None
        return lambda p: return_gradient(self._model, self._with(states, p), self._gamma)[states]


def return_gradient(model: TabularModel, policy: Array, gamma: float) -> Array:
    """Return the derivative [S, A] of the expected discounted return by a policy's probabilities [S, A].

    It is the discounted number of visits to each state times the value of each action (Sutton et al., 2000, "Policy
    Gradient Methods for Reinforcement Learning with Function Approximation").

    Args:
        gamma: discount, below 1.
    """
    chain, reward, _ = follow_policy(model, policy)
    system = sparse.csc_matrix(sparse.identity(model.num_states) - gamma * chain)
    factors = linalg.splu(system)
    values, visits = factors.solve(reward), factors.solve(model.initial, trans="T")
    q = model.expected_reward + gamma * (model.continuation @ values).reshape(model.available.shape)
    return visits[:, None] * q


def _reachable(model: TabularModel) -> Array:
    """Return which states can be reached by available actions, bool [S]."""
    from rl_lab.mdp.guide import distances

    return np.isfinite(distances(model))
