"""Environments by name, and vectors of them without autoreset.

Every vector here hands out true successors: a finished environment stays finished until it is
reset with its own seed and a mask (`reset(seed=..., options={"reset_mask": done})`). Of `info`
only what the lab reads passes: "action_mask" bool [N, A] and "life_lost" bool [N].
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import entry_points
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import NormalizeObservation, NormalizeReward

from rl_lab.types import Array, Obs, UsageError

StepResult = tuple[Obs, Array, Array, Array, dict[str, Array]]
PREPROCESSING = ("auto", "none", "atari")


class VectorEnv(Protocol):
    """N environments without autoreset."""

    num_envs: int
    single_observation_space: spaces.Space
    single_action_space: spaces.Space

    def reset(
        self, *, seed: Sequence[int | None], options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Array]]:
        """Reset every environment, or those in options["reset_mask"], with its own seed."""

    def step(self, action: Array) -> StepResult:
        """Step all environments: next_obs, reward, terminated, truncated (each [N]), info."""

    def render(self) -> Sequence[Any]:
        """Return one frame an environment."""

    def close(self) -> None:
        """Free what the environments hold."""


# One environment ---------------------------------------------------------------------------------


def make_env(
    env_id: str,
    env_kwargs: Mapping[str, Any] | None = None,
    *,
    preprocess: str = "auto",
    life_loss_terminates: bool = False,
    render_mode: str | None = None,
) -> gymnasium.Env:
    """Make one environment from a Gymnasium id, "module:id", or an id of an installed `rl_lab.envs` namespace.

    Wrappers from the inside out: the environment's own, Atari preprocessing (84x84 grey, every 4th frame),
    4 frames stacked, life accounting. With `life_loss_terminates` a lost life zeroes the bootstrap.

    Raises:
        UsageError: unknown id or arguments, or a wrapper that remembers across episodes.
    """
    _load_namespace(env_id)
    kwargs = dict(env_kwargs or {}) | ({"render_mode": render_mode} if render_mode else {})
    is_atari = resolve_preprocessing(env_id, preprocess) == "atari"
    if is_atari:
        kwargs.setdefault("frameskip", 1)  # the preprocessing skips frames itself
    with _errors_of_usage(env_id, kwargs):
        env = gymnasium.make(env_id, **kwargs)
        _refuse_memory_across_episodes(env)
        env = _atari(env) if is_atari else env
    return LifeLoss(env) if life_loss_terminates else env


def _load_namespace(env_id: str) -> None:
    """Import the one module that registers ids such as `namespace/Name-v0`."""
    if ":" in env_id or "/" not in env_id or env_id in gymnasium.registry:
        return
    for entry in entry_points(group="rl_lab.envs", name=env_id.split("/")[0]):
        try:
            module: Any = entry.load()
        except ImportError as error:
            raise UsageError(f"environment {env_id!r} needs a package that is missing: {error}") from error
        if module.__name__ == "ale_py":  # without this every game prints a banner
            module.ALEInterface.setLoggerMode(module.LoggerMode.Error)


@contextmanager
def _errors_of_usage(env_id: str, kwargs: dict[str, Any]) -> Iterator[None]:
    """Say in one line what is wrong with an environment's name, its arguments or its installation."""
    try:
        yield
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        missing = error.name is not None and error.name != env_id.split(":")[0].split("/")[0]
        raise UsageError(f"environment {env_id!r}: {error}" if missing else _unknown(env_id)) from error
    except gymnasium.error.UnregisteredEnv as error:
        raise UsageError(_unknown(env_id)) from error
    except gymnasium.error.DependencyNotInstalled as error:
        raise UsageError(f"environment {env_id!r} needs a package that is missing: {error}") from error
    except (gymnasium.error.Error, TypeError, ValueError, LookupError, AssertionError) as error:
        raise UsageError(f"environment {env_id!r} with {kwargs}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _unknown(env_id: str) -> str:
    close = difflib.get_close_matches(env_id, gymnasium.registry, n=3)
    hint = f"close: {', '.join(close)}" if close else "a Gymnasium id, namespace/id or module:id"
    return f"unknown environment {env_id!r} (allowed: {hint})"


def _refuse_memory_across_episodes(env: gymnasium.Env) -> None:
    """A normaliser in the environment would make an episode depend on those before it."""
    layer = env
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, NormalizeObservation | NormalizeReward):
            raise UsageError(
                f"wrapper {type(layer).__name__} remembers across episodes: normalise in the agent"
            )
        layer = layer.env


def resolve_preprocessing(env_id: str, preprocess: str) -> str:
    """Return "atari" or "none": auto takes the former for ALE ids.

    Raises:
        UsageError: an unknown name, or atari for another environment.
    """
    if preprocess == "atari" and "ALE/" not in env_id:
        raise UsageError(f"preprocess 'atari' needs a game, ALE/..., not {env_id!r}")
    if preprocess not in PREPROCESSING:
        raise UsageError(f"preprocess {preprocess!r} is unknown (allowed: {', '.join(PREPROCESSING)})")
    is_atari = preprocess == "atari" or (preprocess == "auto" and env_id.startswith("ALE/"))
    return "atari" if is_atari else "none"


def _atari(env: gymnasium.Env) -> gymnasium.Env:
    """Wrap as Machado et al. (2018), "Revisiting the Arcade Learning Environment": 84x84 grey, 4 stacked."""
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

    return FrameStackObservation(AtariPreprocessing(env), 4)


class LifeLoss(gymnasium.Wrapper):
    """Say in info["life_lost"] where a life was lost; the episode goes on."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self._lives = 0

    def reset(self, **kwargs):
        """Reset the count of lives with the game."""
        obs, info = self.env.reset(**kwargs)
        info["life_lost"], self._lives = False, info.get("lives", 0)
        return obs, info

    def step(self, action):
        """Step, and compare the lives with those before."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        lives = info.get("lives", 0)
        info["life_lost"], self._lives = lives < self._lives, lives
        return obs, reward, terminated, truncated, info


# Vectors -----------------------------------------------------------------------------------------


def make_envs(
    env_id: str,
    num_envs: int = 1,
    env_kwargs: Mapping[str, Any] | None = None,
    *,
    preprocess: str = "auto",
    life_loss_terminates: bool = False,
    vector: str = "sync",
    render_mode: str | None = None,
) -> VectorEnv:
    """Make a vector of `num_envs` environments; `vector` is "sync" (one process) or "async" (one each).

    Raises:
        UsageError: unknown environment, or num_envs below 1.
    """
    if num_envs < 1:
        raise UsageError(f"num_envs must be at least 1, got {num_envs}")
    make = partial(
        make_env,
        env_id,
        env_kwargs,
        preprocess=preprocess,
        life_loss_terminates=life_loss_terminates,
        render_mode=render_mode,
    )
    if vector == "async":
        _load_namespace(env_id)
        return MaskedVector(AsyncVectorEnv([make] * num_envs, autoreset_mode=AutoresetMode.DISABLED))
    if vector != "sync":
        raise UsageError(f"vector {vector!r} is unknown (allowed: sync, async)")
    if num_envs == 1:
        return SingleVector(make())
    return MaskedVector(SyncVectorEnv([make] * num_envs, autoreset_mode=AutoresetMode.DISABLED))


def _batcher(space: spaces.Space) -> Callable[[Any], Obs]:
    """Return the function that copies one observation of the space into a batch of one."""
    if isinstance(space, spaces.Dict):
        parts = {key: _batcher(part) for key, part in space.spaces.items()}
        return lambda obs: {key: batch(obs[key]) for key, batch in parts.items()}
    if isinstance(space, spaces.Tuple):
        columns = [_batcher(part) for part in space.spaces]
        return lambda obs: tuple(batch(x) for batch, x in zip(columns, obs, strict=True))
    dtype = space.dtype
    if space.shape is None or dtype is None:
        raise UsageError(
            f"observation space {space} has no fixed shape (allowed: Box, Discrete, Dict, Tuple, ...)"
        )
    return lambda obs: np.array((obs,), dtype=dtype)


class SingleVector:
    """A vector of one: the same interface at a third of SyncVectorEnv's cost. Observations are copies."""

    num_envs = 1

    def __init__(self, env: gymnasium.Env):
        self.env = env
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self._batch = _batcher(env.observation_space)
        self._action = _unbatcher(env.action_space)

    def reset(
        self, *, seed: Sequence[int | None], options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Array]]:
        """Reset the environment; a mask of one has nothing to choose."""
        obs, info = self.env.reset(seed=seed[0])
        return self._batch(obs), _vector_info(info) if info else info

    def step(self, action: Array) -> StepResult:
        """Step the environment; an action outside its space is refused."""
        obs, reward, terminated, truncated, info = self.env.step(self._action(action))
        return (
            self._batch(obs),
            np.array((reward,), dtype=np.float64),
            np.array((terminated,), dtype=np.bool_),
            np.array((truncated,), dtype=np.bool_),
            _vector_info(info) if info else info,
        )

    def render(self) -> Sequence[Any]:
        """Return the one frame."""
        return (self.env.render(),)

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _unbatcher(space: spaces.Space) -> Callable[[Array], Any]:
    """Return the function that takes the one action out of a batch and checks it against the space."""
    if isinstance(space, spaces.Discrete):
        first, beyond = int(space.start), int(space.start + space.n)

        def discrete(action: Array) -> int:
            a = action[0]
            if not first <= a < beyond or a != int(a):
                raise _outside(a, space)
            return int(a)

        return discrete

    def any_space(action: Array) -> Any:
        if not space.contains(action[0]):
            raise _outside(action[0], space)
        return action[0]

    return any_space


def _outside(action: Any, space: spaces.Space) -> ValueError:
    return ValueError(f"action {action} is outside the action space {space}")


def _vector_info(info: Mapping[str, Any]) -> dict[str, Array]:
    """Keep what the lab reads of one environment's info, as a vector of one."""
    out: dict[str, Array] = {}
    if "action_mask" in info:
        out["action_mask"] = np.asarray(info["action_mask"], dtype=np.bool_)[None]
    if "life_lost" in info:
        out["life_lost"] = np.array([info["life_lost"]], dtype=np.bool_)
    return out


class MaskedVector:
    """A Gymnasium vector whose autoreset is disabled, with checked actions.

    Raises:
        UsageError: the vector resets by itself, so that a true successor would be lost.
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

    def reset(
        self, *, seed: Sequence[int | None], options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Array]]:
        """Reset all, or those in options["reset_mask"]; the others keep their observations."""
        obs, info = self.envs.reset(seed=list(seed), options=options)  # type: ignore[arg-type]
        return obs, _known(info)

    def step(self, action: Array) -> StepResult:
        """Step all environments; an action outside the space is refused."""
        self._check(action)
        obs, reward, terminated, truncated, info = self.envs.step(action)
        return obs, reward, terminated, truncated, _known(info)

    def _check(self, action: Array) -> None:
        space = self.single_action_space
        if isinstance(space, spaces.Discrete):
            bad = (
                (action < space.start)
                | (action >= space.start + space.n)
                | (action != action.astype(np.int64))
            )
        else:
            bad = np.array([not space.contains(a) for a in action])
        if np.count_nonzero(bad):
            raise _outside(action[np.argmax(bad)], space)

    def render(self) -> Sequence[Any]:
        """Return one frame an environment."""
        return self.envs.render() or ()

    def close(self) -> None:
        """Close every environment."""
        self.envs.close()


def _known(info: Mapping[str, Any]) -> dict[str, Array]:
    return {
        key: np.asarray(info[key]).astype(np.bool_) for key in ("action_mask", "life_lost") if key in info
    }


def mask_of(info: Mapping[str, Array]) -> Array | None:
    """Return the legal actions bool [N, A]; None for an environment without masks.

    Where none is legal (an end, which nobody acts in) all are, so that a maximum exists.
    """
    mask = info.get("action_mask")
    return None if mask is None else mask | ~mask.any(axis=-1, keepdims=True)


def merge_masks(reset: Array, fresh: Array | None, mask: Array | None) -> Array | None:
    """Return the masks after a masked reset: vectors return all-zero ones for environments not reset."""
    return fresh if fresh is None or mask is None else np.where(reset[:, None], fresh, mask)
