"""Where temporal-difference learning with a table converges, exactly: the fixed point of its loss on a model.

For a (state, action) a loss of the error `target - q` is least, on average over the targets, at one q: for the squared
loss at their mean, for the Huber loss at the q where the mean of the clipped error is 0. Where targets are chance and
their distribution isn't symmetric, that isn't the mean, so the Huber loss has a bias which no amount of data removes.

The map from values to these q is monotone and shifts with its argument, so it contracts with gamma in the sup norm and
has one fixed point. It is found by Newton's method on its pieces, and by plain iteration where that doesn't help.
Source of the loss: Huber (1964), "Robust Estimation of a Location Parameter",
https://projecteuclid.org/euclid.aoms/1177703732.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.rows import NotConverged
from rl_lab.mdp.td_targets import Targets
from rl_lab.types import Array

LOSSES = ("huber", "squared")
MOST_ITERATIONS = 10_000


@dataclass(frozen=True)
class TDRule:
    """What temporal-difference learning minimises, and how the policy acts that it learns from."""

    loss: str
    """One of LOSSES."""
    gamma: float
    """Discount per environment step."""
    n_steps: int = 1
    """Rewards summed before the bootstrap."""
    epsilon: float = 0.0
    """Probability of a random action at the end of training."""
    reward_clip: float | None = None
    """Largest size of each step's reward; None for no bound."""
    delta: float = 1.0
    """Size of the error beyond which the Huber loss is linear."""
    unknown: str | None = None
    """Why the fixed point of this rule can't be computed (one line); None if it can."""


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """The values at which learning stays."""

    q: Array
    """[S, A]; -inf where an action has no outcomes or isn't available."""
    bound: float
    """On the error of q in the sup norm, but for rounding."""

    @property
    def v(self) -> Array:
        """The largest value of each state, [S]."""
        return self.q.max(axis=1)


def locate(loss: str, target: Array, probability: Array, first: Array, delta: float = 1.0) -> Array:
    """Return the q of each group that makes the mean loss of `target - q` least, [R].

    Where a whole interval does (the Huber loss of two far targets of equal probability), it is its middle.

    Args:
        target: [K], group by group; probability likewise.
        first: index of each group's first target, int64 [R].
        delta: size of the error beyond which the Huber loss is linear.

    Raises:
        ValueError: an unknown loss.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss {loss!r} is unknown (allowed: {', '.join(LOSSES)})")
    if loss == "squared":
        return np.add.reduceat(target * probability, first) / np.add.reduceat(probability, first)
    return _locate_huber(target, probability, first, delta)


def _locate_huber(target: Array, probability: Array, first: Array, delta: float) -> Array:
    """Find where the mean clipped error, which falls in straight pieces, crosses 0."""
    counts = np.diff(np.append(first, len(target)))
    group = np.repeat(np.arange(len(first)), counts)
    point = np.concatenate((target - delta, target + delta))
    change = np.concatenate((-probability, probability))  # of the slope, at each point
    both = np.concatenate((group, group))
    order = np.lexsort((point, both))
    point, change, both = point[order], change[order], both[order]
    start = 2 * first
    slope = np.cumsum(change)
    slope -= np.repeat(np.concatenate(([0.0], slope[start[1:] - 1])), 2 * counts)
    fall = np.append(np.diff(point), 0.0) * slope
    fall[np.append(start[1:] - 1, len(point) - 1)] = 0.0
    level = np.concatenate(([0.0], np.cumsum(fall)[:-1]))
    total = np.add.reduceat(probability, first)
    level += np.repeat(delta * total - level[start], 2 * counts)
    noise = 1e-13 * delta
    above = start + np.bincount(both, level > noise, len(first)).astype(np.int64) - 1
    below = np.append(start[1:], len(point)) - np.bincount(both, level < -noise, len(first)).astype(np.int64)
    low = point[above] - level[above] / slope[above]
    high = point[below] - level[below] / slope[below - 1]
    return _refined((low + high) / 2, target, probability, group, delta)


def _refined(middle: Array, target: Array, probability: Array, group: Array, delta: float) -> Array:
    """Solve for the q of each group once more, on the piece on which it was found: this removes most rounding."""
    error = target - middle[group]
    inside = np.abs(error) < delta
    weight = np.where(inside, probability, 0.0)
    clipped = np.where(inside, 0.0, np.sign(error) * probability)
    share, pull = (np.bincount(group, column, len(middle)) for column in (weight, clipped))
    total = np.bincount(group, weight * target, len(middle)) + delta * pull
    return np.where(share > 1e-9, total / np.where(share > 1e-9, share, 1.0), middle)


def fixed_point(
    model: TabularModel,
    targets: Targets,
    loss: str,
    gamma: float,
    *,
    delta: float = 1.0,
    tolerance: float = 1e-9,
) -> FixedPoint:
    """Return the values that learning with a loss from these targets leaves as they are.

    The bootstrap is the largest value among a state's available actions, as in Q-learning and, at the fixed point, in
    double Q-learning.

    Args:
        targets: of all pairs with outcomes, as `n_step_targets` lists them.
        gamma: discount per step, below 1.
        delta: size of the error beyond which the Huber loss is linear.
        tolerance: allowed error in the sup norm, relative to max(1, |q|).

    Raises:
        ValueError: an unknown loss, or a gamma that isn't below 1.
        NotConverged: the tolerance wasn't reached.
    """
    if not 0.0 <= gamma < 1.0:
        raise ValueError(f"gamma {gamma} must be in 0..1, and below 1")
    task = _Task(model, targets, loss, delta)
    q = np.zeros(len(task.rows))
    image = task.image(q)
    for _ in range(MOST_ITERATIONS):
        error = float(np.abs(image - q).max())
        # the image is nearer to the fixed point than q, by gamma at least
        bound = gamma * error / (1.0 - gamma)
        if bound <= tolerance * max(1.0, float(np.abs(image).max())):
            return FixedPoint(task.table(image), bound)
        q, image = task.better(q, image)
    raise NotConverged(
        f"no fixed point of the {loss} loss within {tolerance:.1e} after {MOST_ITERATIONS} iterations"
    )


class _Task:
    """The map of which the fixed point is sought, on the rows that have targets."""

    def __init__(self, model: TabularModel, targets: Targets, loss: str, delta: float):
        self._model, self._targets = model, targets
        self.rows, self._first = np.unique(targets.row, return_index=True)
        self._group = np.repeat(np.arange(len(self.rows)), np.diff(np.append(self._first, len(targets.row))))
        self._place = np.full(model.available.size, -1)
        self._place[self.rows] = np.arange(len(self.rows))
        self._delta = delta if loss == "huber" else np.inf
        self._locate: Callable[[Array], Array] = lambda target: locate(
            loss, target, targets.probability, self._first, delta
        )

    def table(self, q: Array) -> Array:
        """Return values [R] of the rows as [S, A]; -inf where there are none."""
        table = np.full(self._model.available.size, -np.inf)
        table[self.rows] = q
        return np.where(self._model.available, table.reshape(self._model.available.shape), -np.inf)

    def image(self, q: Array) -> Array:
        """Return what learning makes of values [R] as the bootstrap."""
        return self._locate(self._target(self.table(q).max(axis=1)))

    def _target(self, v: Array) -> Array:
        bootstraps = np.where(self._targets.discount > 0, v[self._targets.state], 0.0)
        return self._targets.reward + self._targets.discount * bootstraps

    def better(self, q: Array, image: Array) -> tuple[Array, Array]:
        """Return the next values and their image: Newton's if those are nearer to a fixed point, else the image.

        For the squared loss Newton's method is policy iteration, which gets there whatever the distance says.
        """
        guess = self._solved(q, image)
        if np.isfinite(guess).all():
            guessed = self.image(guess)
            if np.isinf(self._delta) or np.abs(guessed - guess).max() < np.abs(image - q).max():
                return guess, guessed
        return image, self.image(image)

    def _solved(self, q: Array, image: Array) -> Array:
        """Return the fixed point of the straight piece at q: which targets are clipped, and the greedy actions."""
        targets, table = self._targets, self.table(q)
        greedy = self._place[np.arange(len(table)) * table.shape[1] + table.argmax(axis=1)]
        error = self._target(table.max(axis=1)) - image[self._group]
        inside = np.abs(error) < self._delta
        weight = np.where(inside, targets.probability, 0.0)
        share = np.bincount(self._group, weight, len(image))
        clipped = np.where(inside, 0.0, np.sign(error) * targets.probability)
        constant = np.bincount(self._group, weight * targets.reward, len(image))
        if not inside.all():
            constant = constant + self._delta * np.bincount(self._group, clipped, len(image))
        flat = share <= 1e-12  # no target near: the middle of the interval stays as it is
        share, constant = np.where(flat, 1.0, share), np.where(flat, image, constant)
        goes_on = inside & (targets.discount > 0) & ~flat[self._group]
        column = greedy[targets.state[goes_on]]
        entries = (weight * targets.discount)[goes_on]
        size = (len(image), len(image))
        onward = sparse.csc_matrix((entries, (self._group[goes_on], column)), size)
        system = sparse.csc_matrix(sparse.diags(share) - onward)
        return linalg.splu(system).solve(constant)
