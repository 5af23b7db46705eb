"""The grid world in pixels, with observations that are sometimes black."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import gymnasium
import numpy as np

from rl_lab.envs.checks import require_number
from rl_lab.envs.gridworld import GridWorld
from rl_lab.envs.memory.flickering_walk import FlickeringWalk
from rl_lab.envs.memory.memoryless import hide_observations, search_memoryless
from rl_lab.mdp.rows import NeverEnds
from rl_lab.mdp.solve import solve
from rl_lab.types import Array

TOLERANCE = 1e-3  # of `memoryless_return`


class FlickeringGridWorld(gymnasium.Env):
    """Play `GridWorld` in pixels, where each observation is black with probability `blank_probability`.

    Observations are blank independently of each other, including the first of an episode. Everything else is that
    of `GridWorld` with observation="pixels", whose parameters it takes. The same seed and actions lead through the
    same states as there.

    Where moves never slip and there is one start, the optimal expected return is that of the grid world itself,
    because a plan needs no observations (0.86 on the default map). The same holds with probability 0. Otherwise the
    best use of memory isn't known, so it is None. The best expected return without memory has no formula. It is
    computed by branch and bound to within 0.001 (0.818 on the default map with probability 0.5, by going right on
    each blank), and is None on maps where walking costs nothing. Both are undiscounted and ignore the time limit.

    Source: Hausknecht and Stone, "Deep Recurrent Q-Learning for Partially Observable MDPs", AAAI Fall Symposium
    2015, https://arxiv.org/abs/1507.06527, where the screen of Atari games flickers with probability 0.5.
    """

    metadata = GridWorld.metadata

    def __init__(self, map: str = "default", *, blank_probability: float = 0.5, **fields: Any) -> None:
        """Make the grid world that flickers.

        Args:
            map: as in `GridWorld`.
            blank_probability: probability that an observation is black, at least 0 and below 1.
            fields: the other parameters of `GridWorld`, except `observation`.

        Raises:
            ValueError: a parameter outside what is allowed.
        """
        if not 0.0 <= require_number("blank_probability", blank_probability, "at least 0 and below 1") < 1.0:
            raise ValueError(f"blank_probability {blank_probability} must be at least 0 and below 1")
        if "observation" in fields:
            raise ValueError(f"observation {fields['observation']!r} can't be chosen: it is 'pixels'")
        self.blank_probability = float(blank_probability)
        self._grid_world = GridWorld(map, observation="pixels", **fields)
        self.render_mode = self._grid_world.render_mode
        self.action_space = self._grid_world.action_space
        self.observation_space = self._grid_world.observation_space
        self._blanks: np.random.Generator | None = None
        self._is_blank = False

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions, in their order."""
        return ["up", "right", "down", "left"]

    @cached_property
    def optimal_return(self) -> float | None:
        """The best expected return, with memory; None where it isn't known or not finite."""
        model = self._grid_world.model()
        always_seen = self.blank_probability == 0.0
        if not always_seen and (self._grid_world.slip > 0.0 or np.count_nonzero(model.initial) > 1):
            return None
        try:
            return float(model.initial @ solve(model, 1.0, "policy-iteration").v)
        except NeverEnds:
            return None

    @cached_property
    def memoryless_return(self) -> float | None:
        """The best expected return, within 0.001, of a policy that sees only the current observation."""
        problem = hide_observations(self._grid_world.model(), self.blank_probability)
        return None if problem is None else search_memoryless(problem, TOLERANCE)[0]

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Array, dict]:
        """Start an episode as the grid world does with this seed; the observation is uint8 [H, W, 3]."""
        super().reset(seed=seed, options=options)
        if seed is not None or self._blanks is None:
            # A separate stream, so that blanks don't shift the draws of slips and starts.
            self._blanks = self.np_random.spawn(1)[0]
        self._grid_world.np_random = self.np_random
        obs, info = self._grid_world.reset(options=options)
        return self._flicker(obs), info

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict]:
        """Move; the observation is uint8 [H, W, 3]. Raises ValueError for an action other than 0, 1, 2 or 3."""
        obs, reward, terminated, truncated, info = self._grid_world.step(action)
        return self._flicker(obs), reward, terminated, truncated, info

    def world(self, num_envs: int) -> FlickeringWalk:
        """Return what so many of these grid worlds play, in arrays."""
        return FlickeringWalk(self._grid_world.world(num_envs), self.blank_probability, num_envs)

    def render(self) -> Any:
        """Return the grid world's picture uint8 [H, W, 3], darkened where the agent sees nothing."""
        frame = self._grid_world.render()
        return frame // 3 if self._is_blank and frame is not None else frame

    def close(self) -> None:
        """Close the window if there is one."""
        self._grid_world.close()

    def _flicker(self, obs: Array) -> Array:
        assert self._blanks is not None
        self._is_blank = bool(self._blanks.random() < self.blank_probability)
        return np.zeros_like(obs) if self._is_blank else obs
