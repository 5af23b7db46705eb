"""How well one can act without memory where what is seen is sometimes blank.

Without memory the chances `b` [A] of each action on a blank are the same in every state. Given `b`, the
best actions on sight solve a Markov decision process; over all `b` there is no formula. So the simplex
of all `b` is searched by branch and bound. An upper bound over a part of it comes from letting each
state choose its own corner of the part, which is a Markov decision process again.
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


@dataclass(frozen=True)
class Blinking:
    """A model of which states reached from the start are kept, and how often what is seen is blank."""

    reward: Array  # float64 [S, A]
    continuation: sparse.csr_matrix  # [S * A, S]
    initial: Array  # float64 [S]
    blank_probability: float

    def sweep(self, corners: Array, values: Array, change: float = 1e-12) -> Array:
        """Return the values [S], from above if they start there, with the best corner [K, A] in each state."""
        for _ in range(MAX_SWEEPS):
            q = self.reward + (self.continuation @ values).reshape(self.reward.shape)
            blank = (q @ corners.T).max(axis=1)
            before = values
            values = (1.0 - self.blank_probability) * q.max(axis=1) + self.blank_probability * blank
            if np.abs(values - before).max() <= change:
                break
        return values

    def value(self, corners: Array, values: Array) -> tuple[float, Array]:
        """Return the expected return and the values [S]."""
        values = self.sweep(corners, values)
        return float(self.initial @ values), values


def drop_unreached(model: TabularModel, blank_probability: float) -> Blinking | None:
    """Return what the search needs; None where the return may not be finite or walking is no loss.

    Every step that doesn't end the episode must cost something, and every state that is reached must
    be able to reach an end: then a policy that never ends loses without bound, and the rest is finite.
    """
    actions, continuation = model.num_actions, model.continuation
    fold = sparse.kron(sparse.identity(model.num_states), np.ones((1, actions)), format="csr")
    graph = sparse.csr_matrix(fold @ continuation)  # [S, S]
    met = find_reaching(sparse.csr_matrix(graph.T), model.initial > 0)
    can_end = find_reaching(graph, np.any(model.termination > 0, axis=1))
    going_on = ~model.terminated & np.repeat(met, actions)[model.row]
    if not can_end[met].all() or (model.reward[going_on] >= 0).any():
        return None
    kept = sparse.diags(np.repeat(met, actions).astype(np.float64)) @ continuation
    reward = np.where(met[:, None], model.expected_reward, 0.0)
    return Blinking(reward, sparse.csr_matrix(kept), model.initial, blank_probability)


def search_blank_actions(problem: Blinking, tolerance: float) -> tuple[float, Array]:
    """Return the best expected return without memory, at most `tolerance` too low, and its `b` [A]."""
    corners = np.eye(problem.reward.shape[1])
    upper, values = problem.value(corners, np.zeros(len(problem.initial)))
    tried = [*corners, corners.mean(axis=0)]
    best, chances = max(((problem.value(b[None], values)[0], b) for b in tried), key=lambda found: found[0])
    order = count()  # breaks ties
    parts = [(-upper, next(order), corners, values)]
    while -parts[0][0] > best + tolerance:
        _, _, corners, values = heapq.heappop(parts)
        first, second = _find_longest_edge(corners)
        middle = (corners[first] + corners[second]) / 2.0
        found = problem.value(middle[None], values)[0]
        if found > best:
            best, chances = found, middle
        for corner in (first, second):
            half = corners.copy()
            half[corner] = middle
            upper, half_values = problem.value(half, values)
            heapq.heappush(parts, (-upper, next(order), half, half_values))
    return best, chances


def _find_longest_edge(corners: Array) -> tuple[int, int]:
    squares = ((corners[:, None] - corners[None]) ** 2).sum(axis=-1)
    first, second = np.unravel_index(int(squares.argmax()), squares.shape)
    return int(first), int(second)
