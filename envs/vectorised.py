"""The lab's environments as vectors that are stepped in arrays and play what single environments play."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rl_lab.environments.forms import Generators
from rl_lab.types import Array


class World(Protocol):
    """What the N environments of a vector play, in arrays."""

    def open(self, i: int, generators: Generators) -> None:
        """Start an episode in environment i, drawn from its generator."""

    def step(self, actions: Array) -> tuple[Array, Array, Array]:
        """Take a step in all environments, with actions int64 [N] that are in their space.

        Returns:
            Rewards float64 [N], and bool [N]: terminated, and truncated by a limit of the environment's own.
        """

    def see(self) -> Array:
        """Return the observations of all, [N, ...], in an array of the caller's own."""

    def masks(self) -> Array | None:
        """Return the legal actions, bool [N, A]; None where all are always legal."""


class VectorisedEnv(VectorEnv):
    """A world with seeds, a mask for resets, and the time limit that single environments get from a wrapper.

    It is a vector without autoreset, for `gymnasium.make_vec` and for the lab. It draws no pictures.

    Args:
        world: of so many environments.
        max_episode_steps: steps after which an episode is truncated; None or -1 for never.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012
    equals_single_envs = True

    def __init__(
        self,
        world: World,
        num_envs: int,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        max_episode_steps: int | None = None,
    ) -> None:
        """Take the world. Raises ValueError for a limit below 1."""
        if max_episode_steps is not None and max_episode_steps != -1 and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps {max_episode_steps} must be at least 1 (or -1: no limit)")
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = observation_space, action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self._world, self._generators = world, Generators(num_envs)
        self._limit = None if max_episode_steps == -1 else max_episode_steps
        self._steps = np.zeros(num_envs, np.int64)  # of each open episode

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Reset all environments, or those in options["reset_mask"], with a seed for each.

        Returns:
            The observations of all, [N, ...], and info.
        """
        for i in self._generators.open(seed, options).tolist():
            self._world.open(i, self._generators)
            self._steps[i] = 0
        return self._world.see(), self._inform()

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Step all environments with actions int64 [N]."""
        reward, terminated, truncated = self._world.step(actions)
        self._steps += 1
        if self._limit is not None:
            truncated = truncated | (self._steps >= self._limit)
        return self._world.see(), reward, terminated, truncated, self._inform()

    def _inform(self) -> dict[str, Any]:
        masks = self._world.masks()
        return {} if masks is None else {"action_mask": masks}


@dataclass(frozen=True)
class Maker:
    """Makes the vectorised form of the environment "module:class", which has a method `world`."""

    entry_point: str
    equals_single_envs: ClassVar[bool] = True

    def __call__(
        self, num_envs: int = 1, max_episode_steps: int | None = None, **kwargs: Any
    ) -> VectorisedEnv:
        """Make the form of so many environments with these arguments."""
        env: Any = load_env_creator(self.entry_point)(**kwargs)
        return VectorisedEnv(
            env.world(num_envs), num_envs, env.observation_space, env.action_space, max_episode_steps
        )


def __getattr__(name: str) -> Maker:
    """Return what makes the form of "module.class" in this package, so that Gymnasium's registry can name it."""
    module, _, class_name = name.rpartition(".")
    if not module:
        raise AttributeError(name)
    return Maker(f"rl_lab.envs.{module}:{class_name}")


class Draws:
    """The numbers in 0..1 that N generators draw one after the other, handed out in arrays."""

    AHEAD = 32  # that are drawn at once, for a call takes longer than numbers

    def __init__(self, num_envs: int):
        self._generators: list[Generators | Mapping[int, np.random.Generator]] = [{}] * num_envs
        self._numbers = np.zeros((num_envs, self.AHEAD))
        self._next = np.full(num_envs, self.AHEAD)

    def open(self, i: int, generators: Generators | Mapping[int, np.random.Generator]) -> None:
        """Let the numbers of environment i come from generators[i], as it is when the first one is taken."""
        self._generators[i], self._next[i] = generators, self.AHEAD

    def take(self, places: Array) -> Array:
        """Return the next number of some environments, float64 [K]; places int64 [K] without repetition."""
        following = self._next[places]
        for i in places[following == self.AHEAD].tolist():
            self._numbers[i] = self._generators[i][i].random(self.AHEAD)
            self._next[i] = 0
        following = self._next[places]
        self._next[places] = following + 1
        return self._numbers[places, following]


LARGEST_TABLE = 1 << 26  # bytes of the observations of all states that are kept


class Shown:
    """What states look like: a table of all of them if it isn't large, otherwise drawn when asked for.

    Args:
        observe: maps states int [K] to observations [K, ...].
        space: of one observation.
    """

    def __init__(self, observe: Any, num_states: int, space: spaces.Space):
        self._observe, self._dtype = observe, space.dtype
        size = int(np.prod(space.shape or (), dtype=np.int64)) * np.dtype(space.dtype).itemsize
        self._table = self(np.arange(num_states)) if num_states * size <= LARGEST_TABLE else None

    _table: Array | None = None

    def __call__(self, states: Array) -> Array:
        """Return the observations of states int64 [K], as [K, ...] in an array of the caller's own."""
        if self._table is not None:
            return self._table[states]
        return np.array(self._observe(states), dtype=self._dtype)
