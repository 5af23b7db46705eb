"""SB3's VecNormalize around the lab's environments, and its statistics as plain tensors among the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from rl_lab.types import Obs

PREFIX = "normaliser."  # of the names that the statistics have among the weights; no policy's names begin so
MOMENTS = ("mean", "var", "count")


class Normaliser:
    """What a policy needs of VecNormalize's statistics, which go on changing while SB3 learns.

    Args:
        envs: SB3's vector of environments; one that isn't a VecNormalize normalises nothing.
    """

    def __init__(self, envs: VecEnv | None = None):
        self._envs = envs if isinstance(envs, VecNormalize) else None

    def observations(self, obs: Obs) -> Obs:
        """Return observations [N, ...] as the policy's network sees them."""
        return obs if self._envs is None or not self._envs.norm_obs else self._envs.normalize_obs(obs)

    @property
    def value_scale(self) -> float:
        """The factor by which the network's values are multiplied to be those of the environment's own rewards."""
        if self._envs is None or not self._envs.norm_reward:
            return 1.0
        return float(np.sqrt(self._envs.ret_rms.var + self._envs.epsilon))

    def weights(self) -> dict[str, torch.Tensor]:
        """Return copies of the statistics, float64 tensors."""
        return {
            f"{PREFIX}{name}.{moment}": torch.tensor(getattr(statistics, moment), dtype=torch.float64)
            for name, statistics in self._statistics().items()
            for moment in MOMENTS
        }

    def load(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Take the statistics out of weights, and return the others.

        Raises:
            RuntimeError: names or shapes differ from those of the statistics.
        """
        own = {name: np.asarray(value) for name, value in weights.items() if name.startswith(PREFIX)}
        expected = {name: tuple(value.shape) for name, value in self.weights().items()}
        if (given := {name: value.shape for name, value in own.items()}) != expected:
            raise RuntimeError(f"statistics of normalisation {given}, expected {expected}")
        for name, statistics in self._statistics().items():
            mean, var, count = (own[f"{PREFIX}{name}.{moment}"] for moment in MOMENTS)
            statistics.mean, statistics.var, statistics.count = mean.copy(), var.copy(), float(count)
        return {name: value for name, value in weights.items() if name not in own}

    def _statistics(self) -> dict[str, RunningMeanStd]:
        if self._envs is None:
            return {}
        observed: Any = (
            self._envs.obs_rms if self._envs.norm_obs else None
        )  # of vectors, so no dict of several
        own = {} if observed is None else {"observations": observed}
        return own | ({"returns": self._envs.ret_rms} if self._envs.norm_reward else {})


def normalised(envs: VecEnv, config: Any) -> VecEnv:
    """Return the environments in a VecNormalize as an algorithm's config asks for; as they are if it asks for none."""
    if not (config.normalise_observations or config.normalise_rewards):
        return envs
    return VecNormalize(
        envs,
        norm_obs=config.normalise_observations,
        norm_reward=config.normalise_rewards,
        gamma=config.gamma,
    )
