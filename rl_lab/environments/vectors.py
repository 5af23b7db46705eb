"""Vectors of environments without autoreset.

Every vector here returns true successors: a finished environment stays finished until it is reset with its
own seed and a mask (`reset(seed=..., options={"reset_mask": done})`). Of `info` only the entries that the
lab reads are passed on: "action_mask", bool [N, A], and what `LifeLoss` says, bool [N].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from rl_lab.environments.actions import several_actions, single_action, vector_action
from rl_lab.environments.contract import Contract
from rl_lab.environments.wrappers import LIFE_LOST
from rl_lab.types import Array, Obs, UsageError

READ = ("action_mask", LIFE_LOST)  # the entries of `info` that the lab reads

StepResult = tuple[Obs, Array, Array, Array, dict[str, Array]]


class VectorEnv(Protocol):
    """N environments without autoreset.

    One whose observations are known to be finite in their own dtype also has the attribute `checked`, True.
    """

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


# Vectors of one flag, made once and never written to.
NEVER, ALWAYS = np.zeros(1, np.bool_), np.ones(1, np.bool_)
_FLAGS = NEVER, ALWAYS
for _flag in _FLAGS:
    _flag.flags.writeable = False


class SingleVector:
    """A vector of one environment, at a third of SyncVectorEnv's cost. Observations are copies.

    Raises:
        UsageError: a space isn't made of arrays of fixed shapes.
    """

    num_envs = 1
    checked = True  # by the contract

    def __init__(self, env: gymnasium.Env):
        self.env = env if isinstance(env, Contract) else Contract(env)
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
        """Step the environment with its action [1, ...]; raise ValueError for one outside its space."""
        obs, number, terminated, truncated, info = self.env.step(self._action(action))
        reward = np.empty(1)  # faster than np.array([number])
        reward[0] = number
        return (
            self._batch(obs),
            reward,
            _FLAGS[terminated],
            _FLAGS[truncated],
            _vector_info(info) if "action_mask" in info or LIFE_LOST in info else {},
        )

    def render(self) -> Sequence[Any]:
        """Return the environment's frame, in a tuple."""
        return (self.env.render(),)

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


class LocalVector:
    """A vector of environments that are stepped one after another, at less than SyncVectorEnv's cost.

    Observations are copies.

    Args:
        envs: each held to its contract.

    Raises:
        UsageError: their spaces differ.
    """

    checked = True  # by the contract

    def __init__(self, envs: Sequence[Contract]):
        self.envs, self.num_envs = list(envs), len(envs)
        self.single_observation_space = envs[0].observation_space
        self.single_action_space = envs[0].action_space
        for env in envs:
            if (env.observation_space, env.action_space) != (envs[0].observation_space, envs[0].action_space):
                raise UsageError(
                    f"environment {env.env_index} has other spaces than environment 0 (allowed: the same)"
                )
        self._join = _joiner(self.single_observation_space)
        self._actions = several_actions(self.single_action_space)
        self._obs: list[Any] = [None] * self.num_envs
        self._over = [False] * self.num_envs

    def reset(
        self, *, seed: Sequence[int | None], options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Array]]:
        """Reset all environments, or those in options["reset_mask"]; the others keep their observations."""
        rest = dict(options or {})
        mask = rest.pop("reset_mask", None)
        infos: list[Mapping[str, Any]] = [{}] * self.num_envs
        for i in range(self.num_envs) if mask is None else np.flatnonzero(mask).tolist():
            self._obs[i], infos[i] = self.envs[i].reset(seed=seed[i], options=rest)
            self._over[i] = False
        return self._join(self._obs), _joined_info(infos)

    def step(self, action: Array) -> StepResult:
        """Step all environments with actions [N, ...]; raise ValueError for one outside the space."""
        assert True not in self._over  # a finished environment is reset first
        steps = [env.step(a) for env, a in zip(self.envs, self._actions(action), strict=True)]
        obs, reward, terminated, truncated, infos = zip(*steps, strict=True)
        self._obs, self._over = list(obs), [a or b for a, b in zip(terminated, truncated, strict=True)]
        return (
            self._join(obs),
            np.array(reward),
            np.array(terminated),
            np.array(truncated),
            _joined_info(infos),
        )

    def render(self) -> Sequence[Any]:
        """Return one rendered frame per environment."""
        return tuple(env.render() for env in self.envs)

    def close(self) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()


def _joiner(space: spaces.Space) -> Callable[[Sequence[Any]], Obs]:
    """Return a function that copies N observations of the space into one batch, [N, ...]."""
    if isinstance(space, spaces.Dict):
        parts = {key: _joiner(part) for key, part in space.spaces.items()}
        return lambda obs: {key: join([one[key] for one in obs]) for key, join in parts.items()}
    if isinstance(space, spaces.Tuple):
        columns = [_joiner(part) for part in space.spaces]
        return lambda obs: tuple(join([one[k] for one in obs]) for k, join in enumerate(columns))
    dtype = space.dtype
    return lambda obs: np.array(obs, dtype=dtype)


def _joined_info(infos: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """Return the entries of N environments' infos that the lab reads, bool [N, ...]; zeros where one has none."""
    joined = {}
    for key in READ:
        if (some := next((info[key] for info in infos if key in info), None)) is not None:
            none = np.zeros_like(some, np.bool_)
            joined[key] = np.array([info.get(key, none) for info in infos], np.bool_)
    return joined


def _batcher(space: spaces.Space) -> Callable[[Any], Obs]:
    """Return a function that copies one observation of the space into a batch of one."""
    if isinstance(space, spaces.Dict):
        parts = {key: _batcher(part) for key, part in space.spaces.items()}
        return lambda obs: {key: batch(obs[key]) for key, batch in parts.items()}
    if isinstance(space, spaces.Tuple):
        columns = [_batcher(part) for part in space.spaces]
        return lambda obs: tuple(batch(x) for batch, x in zip(columns, obs, strict=True))
    dtype, axes = space.dtype, 1 + len(space.shape or ())
    if space.shape == ():

        def batch_of_number(obs: Any) -> Array:
            batch = np.empty(1, dtype)
            batch[0] = obs
            return batch

        return batch_of_number
    return lambda obs: np.array(obs, ndmin=axes)  # the contract has checked the dtype


class ReadInfo(gymnasium.Wrapper):
    """Keeps of `info` only what the lab reads, since Gymnasium's vectors fail on entries that vary in form."""

    keeps_model = True

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        obs, info = self.env.reset(**kwargs)
        return obs, _read(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, _read(info)


def _read(info: Mapping[str, Any]) -> dict[str, Any]:
    return {key: info[key] for key in READ if key in info}


def _vector_info(info: Mapping[str, Any]) -> dict[str, Array]:
    """Return the entries of one environment's info that the lab reads, bool with a leading axis of one.

    They are copies; the contract has checked their types.
    """
    found = {}
    if "action_mask" in info:
        found["action_mask"] = info["action_mask"][None].copy()
    if LIFE_LOST in info:
        found[LIFE_LOST] = np.array([info[LIFE_LOST]])
    return found


class MaskedVector:
    """A Gymnasium vector whose autoreset is disabled; it checks actions.

    Raises:
        UsageError: the vector resets environments by itself, which would lose true successors.
    """

    def __init__(self, envs: gymnasium.vector.VectorEnv):
        mode = envs.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.DISABLED:
            raise UsageError(
                f"{type(envs).__name__} has autoreset mode {mode} (allowed: AutoresetMode.DISABLED)"
            )
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
        return obs, known(info)

    def step(self, action: Array) -> StepResult:
        """Step all environments with actions [N, ...]; raise ValueError for one outside the space."""
        obs, reward, terminated, truncated, info = self.envs.step(self._action(action))
        return obs, reward, terminated, truncated, known(info)

    def render(self) -> Sequence[Any]:
        """Return one rendered frame per environment."""
        return self.envs.render() or ()

    def close(self) -> None:
        """Close every environment."""
        self.envs.close()


def known(info: Mapping[str, Any]) -> dict[str, Array]:
    """Return the entries of a vector's info that the lab reads: masks bool [N, A], lost lives bool [N]."""
    return {key: np.asarray(info[key]).astype(np.bool_) for key in READ if key in info}
