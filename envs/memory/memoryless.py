"""The best return without memory in an MDP whose observations are sometimes blank.

A policy without memory draws its action on a blank from the same distribution `b` [A] in every state. Given `b`,
finding the best actions for the other observations is a Markov decision process. The best `b` has no formula, so
the simplex of all `b` is searched by branch and bound. The upper bound for a part of the simplex lets each state
choose its own corner of that part, which is a Markov decision process again.

That the best policy without memory may have to be stochastic is shown by Singh, Jaakkola and Jordan, "Learning
Without State-Estimation in Partially Observable Markovian Decision Processes", ICML 1994.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count

import numpy as np
from scipy import sparse

from rl_lab.mdp.model import TabularModel, find_reaching
from rl_lab.types import Array

MAX_SWEEPS = 100_000
SWEEP_TOLERANCE = 1e-12  # largest change of a value at which sweeps stop


@dataclass(frozen=True)
class BlankingMDP:
    """An MDP, restricted to the states that can be reached, whose observations are sometimes blank."""

    reward: Array  # float64 [S, A]
    continuation: sparse.csr_matrix  # [S * A, S]
    initial: Array  # float64 [S]
    blank_probability: float

    def evaluate(self, corners: Array, values: Array) -> tuple[float, Array]:
        """Return the expected return of the best actions, where each state chooses one corner for its blanks.

        Args:
            corners: distributions over actions to choose from, float64 [K, A]; with K = 1 the result is exact for
                that one, with more it is an upper bound for all mixtures of them.
            values: where the sweeps start, float64 [S].

        Returns:
            The expected return, and the values float64 [S]; they stay upper bounds if they started as such.
        """
        for _ in range(MAX_SWEEPS):
            q = self.reward + (self.continuation @ values).reshape(self.reward.shape)
            blank = (q @ corners.T).max(axis=1)
            before = values
            values = (1.0 - self.blank_probability) * q.max(axis=1) + self.blank_probability * blank
            if np.abs(values - before).max() <= SWEEP_TOLERANCE:
                break
        return float(self.initial @ values), values


def hide_observations(model: TabularModel, blank_probability: float) -> BlankingMDP | None:
    """Return the problem of acting without memory, or None if its best return may not be finite.

    Every step that doesn't end the episode must cost something, and every reachable state must be able to reach an
    end. Then a policy that never ends loses without bound, and the best return is finite.
    """
    actions, continuation = model.num_actions, model.continuation
    sum_actions = sparse.kron(sparse.identity(model.num_states), np.ones((1, actions)), format="csr")
    graph = sparse.csr_matrix(sum_actions @ continuation)  # [S, S]
    reached = find_reaching(sparse.csr_matrix(graph.T), model.initial > 0)
    can_end = find_reaching(graph, np.any(model.termination > 0, axis=1))
    going_on = ~model.terminated & np.repeat(reached, actions)[model.row]
    if not can_end[reached].all() or (model.reward[going_on] >= 0).any():
        return None
    kept = sparse.diags(np.repeat(reached, actions).astype(np.float64)) @ continuation
    reward = np.where(reached[:, None], model.expected_reward, 0.0)
    return BlankingMDP(reward, sparse.csr_matrix(kept), model.initial, blank_probability)


def search_memoryless(problem: BlankingMDP, tolerance: float) -> tuple[float, Array]:
    """Return the best expected return without memory, and the distribution over actions on a blank that earns it.

    Args:
        problem: from `hide_observations`.
        tolerance: the returned value is at most this much below the best.

    Returns:
        The expected return, and `b` float64 [A].
    """
    corners = np.eye(problem.reward.shape[1])
    upper, values = problem.evaluate(corners, np.zeros(len(problem.initial)))
    tried = [*corners, corners.mean(axis=0)]
    best, best_b = max(((problem.evaluate(b[None], values)[0], b) for b in tried), key=lambda pair: pair[0])
    order = count()  # breaks ties in the heap
    parts = [(-upper, next(order), corners, values)]
    while -parts[0][0] > best + tolerance:
        _, _, corners, values = heapq.heappop(parts)
        first, second = _find_longest_edge(corners)
        middle = (corners[first] + corners[second]) / 2.0
        found = problem.evaluate(middle[None], values)[0]
        if found > best:
            best, best_b = found, middle
        for corner in (first, second):
            half = corners.copy()
            half[corner] = middle
            upper, half_values = problem.evaluate(half, values)
            heapq.heappush(parts, (-upper, next(order), half, half_values))
    return best, best_b


def _find_longest_edge(corners: Array) -> tuple[int, int]:
    """Return the indices of the two corners [K, A] that are farthest apart."""
    squares = ((corners[:, None] - corners[None]) ** 2).sum(axis=-1)
    first, second = np.unravel_index(int(squares.argmax()), squares.shape)
    return int(first), int(second)
