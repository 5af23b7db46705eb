"""Vectors of environments without autoreset.

Every vector here returns true successors: a finished environment stays finished until it is reset with its
own seed and a mask (`reset(seed=..., options={"reset_mask": done})`). Of `info` only the entries that the
lab reads are passed on: "action_mask", bool [N, A], and "life_lost", bool [N].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from rl_lab.environments.actions import single_action, vector_action
from rl_lab.environments.known_spaces import require_known
from rl_lab.types import Array, Obs, UsageError

StepResult = tuple[Obs, Array, Array, Array, dict[str, Array]]


class VectorEnv(Protocol):
    """N environments without autoreset."""

    num_envs: int
    single_observation_space: spaces.Space
    single_action_space: spaces.Space

    def reset(
        self, *, seed: Sequence[int | None], options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Array]]:
        """Reset the environments with their own seeds, [N]: all, or those in options["reset_mask"], bool [N].

        Returns:
            Observations [N, ...] and info; environments that weren't reset keep their observations.
        """

    def step(self, action: Array) -> StepResult:
        """Step all environments with actions [N, ...].

        Returns:
            next_obs [N, ...], reward float64 [N], terminated and truncated bool [N], info.

        Raises:
            ValueError: an action is outside the action space.
        """

    def render(self) -> Sequence[Any]:
        """Return one rendered frame per environment."""

    def close(self) -> None:
        """Close all environments."""


def _batcher(space: spaces.Space) -> Callable[[Any], Obs]:
    """Return a function that copies one observation of the space into a batch of one."""
    if isinstance(space, spaces.Dict):
        parts = {key: _batcher(part) for key, part in space.spaces.items()}
        return lambda obs: {key: batch(obs[key]) for key, batch in parts.items()}
    if isinstance(space, spaces.Tuple):
        columns = [_batcher(part) for part in space.spaces]
        return lambda obs: tuple(batch(x) for batch, x in zip(columns, obs, strict=True))
    dtype = space.dtype
    return lambda obs: np.array((obs,), dtype=dtype)


_FLAGS = np.zeros(1, np.bool_), np.ones(1, np.bool_)  # vectors of one flag, made once
for _flag in _FLAGS:
    _flag.flags.writeable = False


class SingleVector:
    """A vector of one environment, at a third of SyncVectorEnv's cost. Observations are copies.

    Raises:
        UsageError: a space isn't made of arrays of fixed shapes.
    """

    num_envs = 1

    def __init__(self, env: gymnasium.Env):
        require_known(env.observation_space, env.action_space)
        self.env = env
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self._batch = _batcher(env.observation_space)
        self._action = single_action(env.action_space)

    def reset(
        self, *, seed: Sequence[int | None], options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Array]]:
        """Reset the environment with seed[0]; `options` is ignored, since there is only one to reset."""
        obs, info = self.env.reset(seed=seed[0])
        return self._batch(obs), _vector_info(info) if info else info

    def step(self, action: Array) -> StepResult:
        """Step the environment; raise ValueError for an action outside its space."""
        obs, reward, terminated, truncated, info = self.env.step(self._action(action))
        return (
            self._batch(obs),
            np.array((reward,), dtype=np.float64),
            _FLAGS[bool(terminated)],
            _FLAGS[bool(truncated)],
            _vector_info(info) if info else info,
        )

    def render(self) -> Sequence[Any]:
        """Return the environment's frame, in a tuple."""
        return (self.env.render(),)

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _vector_info(info: Mapping[str, Any]) -> dict[str, Array]:
    """Return the entries of one environment's info that the lab reads, with a leading axis of one."""
    out: dict[str, Array] = {}
    if "action_mask" in info:
        out["action_mask"] = np.asarray(info["action_mask"], dtype=np.bool_)[None]
    if "life_lost" in info:
        out["life_lost"] = np.array([info["life_lost"]], dtype=np.bool_)
    return out


class MaskedVector:
    """A Gymnasium vector whose autoreset is disabled; it checks actions.

    Raises:
        UsageError: the vector resets environments by itself, which would lose true successors, or a space isn't made
            of arrays of fixed shapes.
    """

    def __init__(self, envs: gymnasium.vector.VectorEnv):
        mode = envs.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.DISABLED:
            raise UsageError(
                f"{type(envs).__name__} has autoreset mode {mode} (allowed: AutoresetMode.DISABLED)"
            )
        require_known(envs.single_observation_space, envs.single_action_space)
        self.envs = envs
        self.num_envs = envs.num_envs
        self.single_observation_space = envs.single_observation_space
        self.single_action_space = envs.single_action_space
        self._action = vector_action(envs.single_action_space)

    def reset(
        self, *, seed: Sequence[int | None], options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Array]]:
        """Reset all environments, or those in options["reset_mask"]; the others keep their observations."""
        obs, info = self.envs.reset(seed=list(seed), options=options)  # type: ignore[arg-type]
        return obs, _known(info)

    def step(self, action: Array) -> StepResult:
        """Step all environments; raise ValueError for an action outside the space."""
        obs, reward, terminated, truncated, info = self.envs.step(self._action(action))
        return obs, reward, terminated, truncated, _known(info)

    def render(self) -> Sequence[Any]:
        """Return one rendered frame per environment."""
        return self.envs.render() or ()

    def close(self) -> None:
        """Close every environment."""
        self.envs.close()


def _known(info: Mapping[str, Any]) -> dict[str, Array]:
    return {
        key: np.asarray(info[key]).astype(np.bool_) for key in ("action_mask", "life_lost") if key in info
    }


def mask_of(info: Mapping[str, Array]) -> Array | None:
    """Return the legal actions, bool [N, A]; None for environments without masks.

    Where no action is legal (at an episode's end), all count as legal, so that a maximum exists.
    """
    mask = info.get("action_mask")
    return None if mask is None else mask | ~mask.any(axis=-1, keepdims=True)


def merge_masks(reset: Array, fresh: Array | None, mask: Array | None) -> Array | None:
    """Return the masks [N, A] after a masked reset: `fresh` where `reset` (bool [N]), elsewhere `mask`.

    Vectors return all-zero masks for the environments that weren't reset.
    """
    return fresh if fresh is None or mask is None else np.where(reset[:, None], fresh, mask)
