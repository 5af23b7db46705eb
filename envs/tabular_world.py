"""A finite MDP that is played in many environments at once, in arrays."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from gymnasium import spaces

from rl_lab.environments.forms import Generators
from rl_lab.envs.vectorised import Draws, Shown
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array


class TabularWorld:
    """What N `TabularEnv`s of one model play: the same outcomes for the same numbers drawn.

    Args:
        sums: cumulative probabilities of the outcomes, which start from 0 in each row, float64 [K].
        space: of one observation.
        limit: steps after which an episode is truncated unless it terminates; None for no such limit.
    """

    def __init__(
        self, model: TabularModel, sums: Array, space: spaces.Space, num_envs: int, limit: int | None = None
    ) -> None:
        self._model, self._sums, self._limit = model, sums, limit
        self._first = model.indptr[:-1]  # int64 [S * A]
        self._width = np.diff(model.indptr)  # int64 [S * A]: outcomes of each row
        widest = int(self._width.max())
        self._halvings = (widest - 1).bit_length()  # until one outcome of a row is left
        self._has_gaps = bool((self._width == 0).any())
        self._starts = np.flatnonzero(model.initial)
        self._start_sums: list[float] = np.cumsum(model.initial[self._starts]).tolist()
        is_number = isinstance(space, spaces.Discrete)
        self._shown = None if is_number else Shown(model.observe, model.num_states, space)
        self._has_masks = not model.available.all()
        self._draws = Draws(num_envs)
        self._states = np.zeros(num_envs, np.int64)
        self._steps = np.zeros(num_envs, np.int64)

    def open(self, i: int, generators: Generators) -> None:
        """Start an episode in a state drawn from the model's `initial`."""
        last, index = len(self._starts) - 1, 0
        if last:
            index = bisect_right(self._start_sums, generators[i].random(), 0, last)
        self._states[i], self._steps[i] = self._starts[index], 0
        self._draws.open(i, generators)

    def step(self, actions: Array) -> tuple[Array, Array, Array]:
        """Draw one outcome in each environment. Raises ValueError for an action without outcomes there."""
        rows = self._states * self._model.num_actions + actions
        width = self._width[rows]
        if self._has_gaps and not width.all():
            i = int(np.argmin(width))
            raise ValueError(
                f"action {actions[i]} is not available in state {self._states[i]} (environment number {i})"
            )
        outcome = self._first[rows]
        if self._halvings:
            self._draw(outcome, width)
        model = self._model
        self._states = model.successor[outcome].astype(np.int64)
        self._steps += 1
        terminated = model.terminated[outcome]
        truncated = (
            np.zeros_like(terminated) if self._limit is None else ~terminated & (self._steps >= self._limit)
        )
        return model.reward[outcome], terminated, truncated

    def _draw(self, outcome: Array, width: Array) -> None:
        """Move each first outcome [N] on to one that is drawn, in place: bisection, in all rows at once."""
        places = np.flatnonzero(width > 1)
        if not places.size:
            return
        drawn, low = self._draws.take(places), outcome[places]
        high = low + width[places] - 1
        for _ in range(self._halvings):
            middle = (low + high) >> 1
            above = (low < high) & (drawn >= self._sums[middle])
            low, high = np.where(above, middle + 1, low), np.where(above, high, middle)
        outcome[places] = low

    def see(self) -> Array:
        """Return the states' numbers int64 [N], or their observations [N, ...]."""
        return self._states.copy() if self._shown is None else self._shown(self._states)

    def masks(self) -> Array | None:
        """Return the available actions, bool [N, A]; None where all are."""
        return self._model.available[self._states] if self._has_masks else None
