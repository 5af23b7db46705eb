"""The base class of environments that play their own `TabularModel`, so that game and model can't differ."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.envs.checks import require_action
from rl_lab.envs.drawing.picture import Moment, start_trail
from rl_lab.envs.pictured import PicturedEnv
from rl_lab.envs.tabular_world import TabularWorld
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array


class TabularEnv(PicturedEnv):
    """Play a finite MDP by sampling from it; a subclass brings the model and a picture.

    Observations are state numbers, or what `model.observe` returns where an `observation_space` is given. If some
    actions are unavailable in some states, `info` holds "action_mask" int8 [A]. An unavailable action for which the
    model has outcomes may still be taken, as in Gymnasium's Taxi; one without outcomes is refused.
    """

    def __init__(
        self,
        model: TabularModel,
        *,
        render_mode: str | None = None,
        observation_space: spaces.Space | None = None,
    ) -> None:
        """Make an environment that plays `model`. Raises ValueError for an unknown render mode."""
        super().__init__(render_mode)
        self.action_space = spaces.Discrete(model.num_actions)
        self.observation_space = observation_space or spaces.Discrete(model.num_states)
        self._model = model
        self._tables = _make_tables(model)
        self._state = int(np.argmax(model.initial))
        self._moment = Moment(self._state, start_trail(self._state))

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
        self.enter_state(tables.starts[index])
        if self.render_mode == "human":
            self.render()
        return self._see(), self._inform()

    def enter_state(self, state: int) -> None:
        """Go on from another state of the model, as if the episode had begun there; checks of the model use it."""
        self._state = state
        self._moment = Moment(state, start_trail(state))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Draw one outcome of an action. Raises ValueError for an action without outcomes in this state."""
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

    def world(self, num_envs: int) -> TabularWorld:
        """Return what so many of these environments play, in arrays."""
        return TabularWorld(self._model, self._tables.sums, self.observation_space, num_envs)

    def _find_row(self, action: Any) -> int:
        row = self._state * self._tables.num_actions + require_action(action, self._tables.num_actions)
        if self._tables.offsets[row] == self._tables.offsets[row + 1]:
            raise ValueError(f"action {action} is not available in state {self._state}")
        return row

    def _draw(self, row: int) -> int:
        """Return the index of an outcome drawn from a row of the model."""
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
    """A model in the form that sampling reads."""

    num_actions: int
    offsets: list[int]  # [S * A + 1]
    sums: Array  # float64 [K]: cumulative probabilities, which start from 0 in each row
    starts: list[int]  # the states in which an episode can start
    start_sums: list[float]
    masks: Array | None  # int8 [S, A]


@lru_cache(maxsize=16)
def _make_tables(model: TabularModel) -> _Tables:
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
    """Return the outcomes of final states, in which every action ends the episode with reward 0.

    Args:
        states: int [K].
        num_actions: A.

    Returns:
        Rows of `TabularModel.from_outcomes`, float64 [K * A, 6].
    """
    state, action = (index.ravel() for index in np.meshgrid(states, np.arange(num_actions), indexing="ij"))
    one = np.ones(len(state))
    return np.column_stack((state, action, one, state, 0.0 * one, one))


def spread_evenly(states: Array, num_states: int) -> Array:
    """Return the uniform distribution over some states int [K], as float64 [num_states]."""
    chances = np.zeros(num_states)
    chances[states] = 1.0 / len(states)
    return chances
