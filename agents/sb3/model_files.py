"""Policies from the .zip files that SB3 and sb3-contrib save.

Such a file holds pickles, which run whatever code their author put into them, and so does a file of VecNormalize's
statistics: nothing here reads one unless a person has asked for it. Which algorithm a file is of is told by its JSON.
"""

from __future__ import annotations

import json
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from rl_lab.agent import Policy
from rl_lab.checks import show_space, unknown_name
from rl_lab.environments.zero_based import from_zero_based, zero_based
from rl_lab.types import Array, Decision, EnvSpec, Obs, State, UsageError

from .normalising import Normaliser
from .policies import RecurrentSB3Policy, SB3Policy

MOST_DATA_BYTES = 2**27  # of a model's JSON; more isn't read


class ActingPolicy(SB3Policy):
    """A policy of an algorithm that estimates no value of observations alone, such as SAC."""

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return {}."""
        return {}


class MaskableSB3Policy(SB3Policy):
    """A policy of sb3-contrib that takes masks."""

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return SB3's deterministic actions [N, ...], legal ones where there is a mask."""
        action = self._policy.predict(self._seen(obs), deterministic=True, action_masks=mask)[0]
        return Decision(from_zero_based(self._actions, action))


class Algorithm(NamedTuple):
    """An algorithm, and how its policies act."""

    module: str
    name: str  # of its class there
    acts: type[SB3Policy] = SB3Policy


ALGORITHMS = {
    "dqn": Algorithm("stable_baselines3", "DQN"),
    "ppo": Algorithm("stable_baselines3", "PPO"),
    "a2c": Algorithm("stable_baselines3", "A2C"),
    "sac": Algorithm("stable_baselines3", "SAC", ActingPolicy),
    "td3": Algorithm("stable_baselines3", "TD3", ActingPolicy),
    "ddpg": Algorithm("stable_baselines3", "DDPG", ActingPolicy),
    "qrdqn": Algorithm("sb3_contrib", "QRDQN"),
    "tqc": Algorithm("sb3_contrib", "TQC", ActingPolicy),
    "trpo": Algorithm("sb3_contrib", "TRPO"),
    "maskable-ppo": Algorithm("sb3_contrib", "MaskablePPO", MaskableSB3Policy),
    "recurrent-ppo": Algorithm("sb3_contrib", "RecurrentPPO", RecurrentSB3Policy),
}
# By the module of the policy's class; DDPG's policies are TD3's, and act alike.
BY_POLICY = {
    "stable_baselines3.dqn.policies": "dqn",
    "stable_baselines3.sac.policies": "sac",
    "stable_baselines3.td3.policies": "td3",
    "sb3_contrib.qrdqn.policies": "qrdqn",
    "sb3_contrib.tqc.policies": "tqc",
    "sb3_contrib.common.maskable.policies": "maskable-ppo",
    "sb3_contrib.common.recurrent.policies": "recurrent-ppo",
}
# The others share their policies' classes: by an argument that one of them alone has.
BY_ARGUMENT = {"cg_max_steps": "trpo", "clip_range": "ppo", "exploration_fraction": "dqn"}


def read_policy(
    path: Path, spec: EnvSpec, envs: VecEnv, *, algorithm: str | None, statistics: Path | None, device: str
) -> tuple[Policy, str]:
    """Return the policy of a model file, which acts deterministically, and the name of its algorithm.

    Pickles in the files are run.

    Args:
        spec: of the environment in which it will act.
        envs: SB3's vector of that environment.
        algorithm: a name in ALGORITHMS; None: as the file tells.
        statistics: a file of VecNormalize's statistics; None for none.
        device: of the networks.

    Raises:
        UsageError: a file can't be read, or isn't of this algorithm, or the policy doesn't fit the environment.
    """
    data = _read_data(path)
    name = _named(path, data) if algorithm is None else _known(algorithm)
    policy = _load(path, name, device)
    for what, own, theirs in (
        ("observations", spec.observation_space, policy.observation_space),
        ("actions", spec.action_space, policy.action_space),
    ):
        if not _alike(zero_based(own), theirs):
            raise UsageError(
                f"model file {str(path)!r} takes {what} {show_space(theirs)};"
                f" {spec.env_id} has {show_space(own)} (allowed: the environment that it learned in)"
            )
    normaliser = Normaliser() if statistics is None else Normaliser(_load_statistics(statistics, envs))
    return ALGORITHMS[name].acts(policy, spec, normaliser), name


def _read_data(path: Path) -> dict[str, Any]:
    """Return the JSON of a model file; no code is run.

    Raises:
        UsageError: there is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo("data").file_size
            if size > MOST_DATA_BYTES:
                raise ValueError(f"its data has {size} bytes (allowed: up to {MOST_DATA_BYTES})")
            data = json.loads(archive.read("data"))
        if not isinstance(data, dict):
            raise ValueError("its data is no JSON object")
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, RecursionError, NotImplementedError) as error:
        raise UsageError(
            f"model file {str(path)!r} can't be read: {_line(error)} (allowed: a .zip that SB3 saved)"
        ) from error
    return data


def _named(path: Path, data: dict[str, Any]) -> str:
    """Return the algorithm that a model file's JSON tells. Raises UsageError if it tells none."""
    policy = data.get("policy_class")
    module = policy.get("__module__") if isinstance(policy, dict) else None
    if module in BY_POLICY:
        return BY_POLICY[module]
    for argument, name in BY_ARGUMENT.items():
        if argument in data:
            return name
    # A2C stores none of its own; its policies are those of PPO.
    if module == "stable_baselines3.common.policies":
        return "a2c"
    raise UsageError(
        f"model file {str(path)!r} doesn't tell its algorithm (allowed: with --algo {', '.join(ALGORITHMS)})"
    )


def _known(algorithm: str) -> str:
    if algorithm not in ALGORITHMS:
        raise UsageError(unknown_name("algorithm of SB3's", algorithm, list(ALGORITHMS)))
    return algorithm


def _load(path: Path, name: str, device: str) -> Any:
    """Return SB3's policy in a model file. Raises UsageError if the algorithm can't load it."""
    try:
        kind = getattr(import_module(ALGORITHMS[name].module), ALGORITHMS[name].name)
    except ImportError as error:
        raise UsageError(f"algorithm {name!r} needs a package that is missing: {error}") from error
    # Acting needs neither schedules, which may not unpickle in another Python, nor a replay buffer, and no seed is set
    # in the global generators.
    idle: dict[str, Any] = {
        "seed": None,
        "buffer_size": 1,
        "learning_rate": 0.0,
        "lr_schedule": _zero,
        "clip_range": _zero,
        "clip_range_vf": None,
        "exploration_schedule": _zero,
    }
    try:
        return kind.load(path, device=device, custom_objects=idle).policy
    except Exception as error:  # a pickle may raise anything
        raise UsageError(
            f"model file {str(path)!r} can't be read as {name}: {_line(error)}"
            " (allowed: --algo with the algorithm that saved it)"
        ) from error


def _zero(progress_remaining: float) -> float:
    return 0.0


def _load_statistics(path: Path, envs: VecEnv) -> VecNormalize:
    """Return VecNormalize with the statistics in a file, which no longer change. Raises UsageError if it can't."""
    try:
        normaliser = VecNormalize.load(str(path), envs)
        if not isinstance(normaliser, VecNormalize):
            raise TypeError(f"it holds a {type(normaliser).__name__}")
    except Exception as error:  # a pickle may raise anything
        raise UsageError(
            f"statistics {str(path)!r} can't be read: {_line(error)} (allowed: what VecNormalize.save wrote"
            " for this environment)"
        ) from error
    normaliser.training = False
    return normaliser


def _alike(own: spaces.Space, theirs: spaces.Space) -> bool:
    """Return whether two spaces hold values of the same form; bounds of a Box may differ.

    SB3 shows its image policies the channels first.
    """
    if isinstance(own, spaces.Dict) and isinstance(theirs, spaces.Dict):
        keys = own.spaces.keys() == theirs.spaces.keys()
        return keys and all(_alike(own[key], theirs[key]) for key in own.spaces)
    if isinstance(own, spaces.Box) and isinstance(theirs, spaces.Box):
        kinds = np.dtype(own.dtype).kind == np.dtype(theirs.dtype).kind
        last_first = len(own.shape) == 3 and (own.shape[2], *own.shape[:2]) == theirs.shape
        return kinds and (own.shape == theirs.shape or (last_first and own.dtype == np.uint8))
    return bool(own == theirs)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
