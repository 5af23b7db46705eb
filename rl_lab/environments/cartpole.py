"""CartPole as one vector that is stepped in arrays and plays what single environments play."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.envs.classic_control import utils
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode

from rl_lab.environments.forms import Generators
from rl_lab.types import Array, UsageError

START = 0.05  # the first state is drawn from -START..START
NO_LIMIT = np.iinfo(np.int32).max


class CartPoleVector(CartPoleVectorEnv):
    """Gymnasium's vector of carts and poles, with a seed for each episode and without autoreset.

    Gymnasium's own draws all starts from one generator and resets finished episodes by itself. Its equations are used
    as they are; they are those of the single environment in the same order, so that states are equal to the bit.
    """

    metadata = CartPoleVectorEnv.metadata | {"render_modes": [], "autoreset_mode": AutoresetMode.DISABLED}
    equals_single_envs = True

    def __init__(
        self, num_envs: int = 1, max_episode_steps: int = 500, sutton_barto_reward: bool = False
    ) -> None:
        """Make the carts. A limit of -1 steps is none, as in `gymnasium.make`.

        Raises:
            UsageError: a limit below 1.
        """
        if max_episode_steps != -1 and max_episode_steps < 1:
            raise UsageError(f"max_episode_steps {max_episode_steps} must be at least 1 (or -1: no limit)")
        limit = NO_LIMIT if max_episode_steps == -1 else max_episode_steps
        super().__init__(num_envs, limit, sutton_barto_reward=sutton_barto_reward)
        self._generators = Generators(num_envs)
        self.state: Array = np.zeros((4, num_envs))  # type: ignore[assignment]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Reset all environments, or those in options["reset_mask"], with a seed for each.

        Returns:
            The observations of all, float32 [N, 4], and info.
        """
        rest = {key: value for key, value in (options or {}).items() if key != "reset_mask"}
        low, high = utils.maybe_parse_reset_bounds(rest, -START, START)
        for i in self._generators.open(seed, options).tolist():
            self.state[:, i] = self._generators[i].uniform(low=low, high=high, size=(4,))
            self.steps[i] = 0
        return self._see(), {}

    def step(self, action: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Push all carts, with actions int64 [N]; the rewards are float64."""
        self.prev_done = np.zeros(self.num_envs, np.bool_)  # where it is True, the step would reset
        _, reward, terminated, truncated, info = super().step(action)
        return self._see(), reward.astype(np.float64) + 0.0, terminated, truncated, info  # -0.0 becomes 0.0

    def _see(self) -> Array:
        """Return the observations, float32 [N, ...]."""
        return np.ascontiguousarray(self.state.T, dtype=np.float32)
