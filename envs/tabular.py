"""The base of environments that play their own `TabularModel`, so that neither can differ from the other."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.envs.pictured import Moment, PicturedEnv
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

TRAIL_STEPS = 24  # how far back a picture may show what happened


class TabularEnv(PicturedEnv):
    """Play a finite MDP by sampling it; a derived class brings the model and a picture.

    States are seen as their numbers unless `observation_space` is given, which then holds what
    `model.observe` returns. Where the model has states with unavailable actions, `info` holds the
    "action_mask" int8 [A]. An unavailable action that the model has outcomes for may be taken all
    the same, as in Gymnasium's Taxi; without outcomes it is refused.
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 8}  # noqa: RUF012

    def __init__(
        self,
        model: TabularModel,
        *,
        render_mode: str | None = None,
        observation_space: spaces.Space | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode {render_mode!r} must be None, 'rgb_array' or 'human'")
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(model.num_actions)
        self.observation_space = observation_space or spaces.Discrete(model.num_states)
        self._model = model
        self._tables = _read_tables(model)
        self._state = int(np.argmax(model.initial))
        self._moment = Moment(self._state, deque([self._state], maxlen=TRAIL_STEPS))

    def model(self) -> TabularModel:
        """Return the finite MDP that is played."""
        return self._model

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """Start an episode in a state drawn from the model's `initial`."""
        super().reset(seed=seed, options=options)
        tables = self._tables
        index = 0
        if len(tables.starts) > 1:
            index = bisect_right(tables.start_sums, self.np_random.random(), 0, len(tables.starts) - 1)
        self._state = tables.starts[index]
        self._moment = Moment(self._state, deque([self._state], maxlen=TRAIL_STEPS))
        if self.render_mode == "human":
            self.render()
        return self._see(), self._inform()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Draw one outcome of an action. Raises ValueError for one that has none."""
        index = self._draw(self._find_row(action))
        model, moment = self._model, self._moment
        reward, terminated = float(model.reward[index]), bool(model.terminated[index])
        self._state = int(model.successor[index])
        moment.state, moment.action, moment.reward = self._state, int(action), reward
        moment.trail.append(self._state)
        moment.steps += 1
        moment.total += reward
        if self.render_mode == "human":
            self.render()
        return self._see(), reward, terminated, False, self._inform()

    def _find_row(self, action: Any) -> int:
        chosen, count = int(action), self._tables.num_actions
        if not 0 <= chosen < count or chosen != action:
            raise ValueError(f"action {action} must be in 0..{count - 1}")
        row = self._state * count + chosen
        if self._tables.offsets[row] == self._tables.offsets[row + 1]:
            raise ValueError(f"action {action} is not available in state {self._state}")
        return row

    def _draw(self, row: int) -> int:
        low, high = self._tables.offsets[row], self._tables.offsets[row + 1]
        if high - low == 1:
            return low
        return bisect_right(self._tables.sums, self.np_random.random(), low, high - 1)

    def _see(self) -> Any:
        if isinstance(self.observation_space, spaces.Discrete):
            return self._state
        return self._model.observe(np.array([self._state]))[0]

    def _inform(self) -> dict:
        masks = self._tables.masks
        return {} if masks is None else {"action_mask": masks[self._state].copy()}


@dataclass(frozen=True)
class _Tables:
    """What sampling reads of a model."""

    num_actions: int
    offsets: list[int]  # [S * A + 1]
    sums: Array  # float64 [K]: cumulative probabilities, from 0 anew in each row
    starts: list[int]  # states with a probability of starting
    start_sums: list[float]
    masks: Array | None  # int8 [S, A]


@lru_cache(maxsize=16)
def _read_tables(model: TabularModel) -> _Tables:
    sums = np.cumsum(model.probability)
    before = np.concatenate(([0.0], sums))[model.indptr[:-1]]  # [S * A]
    starts = np.flatnonzero(model.initial)
    return _Tables(
        num_actions=model.num_actions,
        offsets=model.indptr.tolist(),
        sums=sums - before[model.row],
        starts=starts.tolist(),
        start_sums=np.cumsum(model.initial[starts]).tolist(),
        masks=None if model.available.all() else model.available.astype(np.int8),
    )


def end_rows(states: Array, num_actions: int) -> Array:
    """Return outcome rows [len(states) * A, 6] of states in which the episode is over: they end for 0."""
    state, action = (index.ravel() for index in np.meshgrid(states, np.arange(num_actions), indexing="ij"))
    one = np.ones(len(state))
    return np.column_stack((state, action, one, state, 0.0 * one, one))


def spread_evenly(states: Array, num_states: int) -> Array:
    """Return the distribution [S] that is even over some states."""
    chances = np.zeros(num_states)
    chances[states] = 1.0 / len(states)
    return chances
