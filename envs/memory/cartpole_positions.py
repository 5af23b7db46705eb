"""CartPole with its velocities hidden."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.vector.utils import batch_space

from rl_lab.environments.cartpole import CartPoleVector
from rl_lab.envs.checks import require_action, require_render_mode
from rl_lab.envs.time_limits import CARTPOLE_STEPS
from rl_lab.types import Array

POSITIONS = (0, 2)  # of Gymnasium's (cart position, cart velocity, pole angle, pole angular velocity)


class CartPolePositions(gymnasium.Env):
    """Balance CartPole-v1's pole from positions alone, so that velocities must be inferred from memory.

    Observations are float32 [2]: the cart's position in metres and the pole's angle in radians. Everything else is
    Gymnasium's CartPole-v1: actions 0 and 1 push left and right, each step pays 1, the same seed and actions lead
    through the same states, and an episode is limited to 500 steps.

    The optimal expected return is 500: velocities can be estimated from two successive positions, which is enough
    to balance from every start. The best expected return without memory isn't known exactly, so it is None; of
    about 1500 memoryless policies that were tried (linear, small networks, random pushes) the best lasted 60 steps.

    Source: Barto, Sutton and Anderson, "Neuronlike Adaptive Elements That Can Solve Difficult Learning Control
    Problems", IEEE Transactions on Systems, Man, and Cybernetics, 1983, for the task; hidden velocities as in
    Bakker, "Reinforcement Learning with Long Short-Term Memory", NIPS 2001, and in POPGym's position-only CartPole
    (Morad et al., ICLR 2023, https://arxiv.org/abs/2303.01859).
    """

    metadata = CartPoleEnv.metadata

    def __init__(self, *, render_mode: str | None = None) -> None:
        """Make the environment. Raises ValueError for an unknown render mode."""
        self.render_mode = require_render_mode(render_mode, self.metadata)
        self._cartpole = CartPoleEnv(render_mode=render_mode)
        self.action_space, full_space = self._cartpole.action_space, self._cartpole.observation_space
        assert isinstance(full_space, spaces.Box)
        low, high = _hide_velocities(full_space.low), _hide_velocities(full_space.high)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)

    @property
    def optimal_return(self) -> float:
        """The best expected return, with memory."""
        return float(CARTPOLE_STEPS)

    @property
    def memoryless_return(self) -> None:
        """None: the best expected return without memory isn't known exactly."""
        return None

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions, in their order."""
        return ["push left", "push right"]

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Array, dict]:
        """Start where CartPole-v1 starts with this seed; `options` may hold its bounds `low` and `high`.

        Returns:
            The observation float32 [2], position and angle, and info.
        """
        super().reset(seed=seed, options=options)
        self._cartpole.np_random = self.np_random
        obs, info = self._cartpole.reset(options=options)
        return _hide_velocities(obs), info

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict]:
        """Push; the observation is float32 [2]. Raises ValueError for an action other than 0 or 1."""
        obs, reward, terminated, truncated, info = self._cartpole.step(require_action(action, 2))
        return _hide_velocities(obs), float(reward), terminated, truncated, info

    def render(self) -> Any:
        """Return Gymnasium's picture uint8 [400, 600, 3]; return None without a render mode or in a window."""
        return None if self.render_mode is None else self._cartpole.render()

    def close(self) -> None:
        """Close the window if there is one."""
        self._cartpole.close()


class CartPolePositionsVector(CartPoleVector):
    """Many of these environments as one vector that is stepped in arrays and plays what single ones play."""

    def __init__(self, num_envs: int = 1, max_episode_steps: int = CARTPOLE_STEPS) -> None:
        """Make the carts. Raises UsageError for a limit below 1."""
        super().__init__(num_envs, max_episode_steps)
        self.single_observation_space = CartPolePositions().observation_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)

    def _see(self) -> Array:
        """Return positions and angles, float32 [N, 2]."""
        return np.ascontiguousarray(super()._see()[:, POSITIONS])


def _hide_velocities(obs: Array) -> Array:
    return obs[[*POSITIONS]]
