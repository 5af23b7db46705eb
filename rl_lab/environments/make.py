"""Makes environments by name: one, or a vector of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import entry_points
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import NormalizeObservation, NormalizeReward

from rl_lab.environments.contract import Contract
from rl_lab.environments.masks import MaskFromObservation
from rl_lab.environments.vectors import MaskedVector, ReadInfo, SingleVector, VectorEnv
from rl_lab.environments.workers import WorkerVector
from rl_lab.environments.wrappers import LifeLoss
from rl_lab.types import UsageError

PREPROCESSING = ("auto", "none", "atari")


def make_env(
    env_id: str,
    env_kwargs: Mapping[str, Any] | None = None,
    *,
    preprocess: str = "auto",
    life_loss_terminates: bool = False,
    render_mode: str | None = None,
) -> gymnasium.Env:
    """Make one environment from a Gymnasium id, "module:id", or an id of an installed `rl_lab.envs` namespace.

    Wrappers, from the inside out: the environment's own; for Atari, preprocessing (84x84 grey, every 4th
    frame) and a stack of 4 frames; `MaskFromObservation` where a Dict observation holds the mask; `LifeLoss`.

    Args:
        env_kwargs: keyword arguments for the environment.
        preprocess: "auto" (Atari preprocessing for ALE ids), "atari" or "none".
        life_loss_terminates: report lost lives in `info`, so that they zero the bootstrap.

    Raises:
        UsageError: an unknown id, wrong arguments, a missing package, or a wrapper with memory across episodes.
    """
    _load_namespace(env_id)
    kwargs = dict(env_kwargs or {}) | ({"render_mode": render_mode} if render_mode else {})
    is_atari = resolve_preprocessing(env_id, preprocess) == "atari"
    if is_atari:
        kwargs.setdefault("frameskip", 1)  # the preprocessing skips frames itself
    with _as_usage_errors(env_id, kwargs):
        env = gymnasium.make(env_id, **kwargs)
        require_no_memory_across_episodes(env)
        env = _atari(env) if is_atari else env
    env = MaskFromObservation(env) if MaskFromObservation.fits(env) else env
    return LifeLoss(env) if life_loss_terminates else env


def _load_namespace(env_id: str) -> None:
    """Import the module that registers ids such as `namespace/Name-v0`, if an installed package names one."""
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
def _as_usage_errors(env_id: str, kwargs: dict[str, Any]) -> Iterator[None]:
    """Turn errors about an environment's id, arguments or installation into a UsageError of one line."""
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
    hint = f"; close: {', '.join(close)}" if close else ""
    return f"unknown environment {env_id!r} (allowed: a Gymnasium id, namespace/id or module:id{hint})"


def require_no_memory_across_episodes(env: gymnasium.Env) -> None:
    """Raise UsageError where a wrapper normalises: an episode would depend on the ones before it."""
    layer = env
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, NormalizeObservation | NormalizeReward):
            raise UsageError(
                f"wrapper {type(layer).__name__} remembers across episodes: normalise in the agent"
            )
        layer = layer.env


def resolve_preprocessing(env_id: str, preprocess: str) -> str:
    """Return "atari" or "none"; "auto" means "atari" for ALE ids.

    Raises:
        UsageError: an unknown name, or "atari" for another environment.
    """
    if preprocess == "atari" and "ALE/" not in env_id:
        raise UsageError(f"preprocess 'atari' needs a game, ALE/..., not {env_id!r}")
    if preprocess not in PREPROCESSING:
        raise UsageError(f"preprocess {preprocess!r} is unknown (allowed: {', '.join(PREPROCESSING)})")
    is_atari = preprocess == "atari" or (preprocess == "auto" and env_id.startswith("ALE/"))
    return "atari" if is_atari else "none"


def _atari(env: gymnasium.Env) -> gymnasium.Env:
    """Preprocess as Machado et al. (2018), "Revisiting the Arcade Learning Environment", and stack 4 frames."""
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

    return FrameStackObservation(AtariPreprocessing(env), 4)


def make_envs(
    env_id: str,
    num_envs: int = 1,
    env_kwargs: Mapping[str, Any] | None = None,
    *,
    preprocess: str = "auto",
    life_loss_terminates: bool = False,
    vector: str = "sync",
    env_timeout_seconds: float = 60.0,
    render_mode: str | None = None,
) -> VectorEnv:
    """Make a vector of environments. For the other arguments see `make_env`.

    Args:
        vector: "sync" (all in this process) or "async" (each in its own).
        env_timeout_seconds: the longest that a step or reset may take in a process of its own.

    Raises:
        UsageError: an unknown environment or `vector`, or `num_envs` below 1.
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
    _load_namespace(env_id)
    return vector_of(make, num_envs, vector=vector, env_timeout_seconds=env_timeout_seconds)


def vector_of(
    make: Callable[[], gymnasium.Env],
    num_envs: int,
    *,
    vector: str = "sync",
    env_timeout_seconds: float = 60.0,
) -> VectorEnv:
    """Make a vector of the environments that `make` makes, each held to the `Contract`.

    Raises:
        UsageError: `vector` is unknown.
    """
    if vector not in ("sync", "async"):
        raise UsageError(f"vector {vector!r} is unknown (allowed: sync, async)")
    makers = [partial(_held, make, i) for i in range(num_envs)]
    if vector == "async":
        return WorkerVector(makers, env_timeout_seconds)
    if num_envs == 1:
        return SingleVector(make())
    return MaskedVector(SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED))


def _held(make: Callable[[], gymnasium.Env], env_index: int) -> gymnasium.Env:
    """Make an environment that is held to the contract, and passes on only the info that is read."""
    return ReadInfo(Contract(make(), env_index))
