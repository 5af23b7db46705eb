"""Running normalisation of observations and rewards.

The statistics are buffers of a module, so that they are saved and loaded with the weights. They change only
through `observe`, which an agent calls with the steps that it learns from; evaluation only calls the module and
leaves them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.nn.images import is_image
from rl_lab.trees import sorted_keys
from rl_lab.types import Array, Obs

CLIP = 10.0  # bound on normalised values, as in SB3's VecNormalize
EPSILON = 1e-8  # added to variances
PREFIX = "rewards."  # of the names that the rewards' moments have among the weights


class RunningMoments(nn.Module):
    """Mean and variance of everything observed, in float64, updated batch by batch.

    Chan, Golub & LeVeque (1979), "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances";
    for one sample at a time this is Welford's algorithm (1962). The buffers stay on the CPU, like environments.
    """

    count: Tensor  # float64 []
    mean: Tensor  # float64 [...]
    squares: Tensor  # float64 [...]: sum of squared deviations from the mean

    def __init__(self, shape: Sequence[int] = ()):
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(tuple(shape), dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(tuple(shape), dtype=torch.float64))

    def _apply(self, fn: Any, recurse: bool = True) -> RunningMoments:  # so that .to(device) leaves it alone
        return self

    def observe(self, batch: Array) -> None:
        """Include samples [N, ...] in the moments."""
        if not len(batch):
            return
        count, mean, squares = (buffer.numpy() for buffer in (self.count, self.mean, self.squares))  # views
        batch = np.asarray(batch, np.float64)
        new_mean = batch.mean(axis=0)
        apart, total = new_mean - mean, count + len(batch)
        squares += np.square(batch - new_mean).sum(axis=0) + np.square(apart) * (count * len(batch) / total)
        mean += apart * (len(batch) / total)
        count[...] = total

    @property
    def variance(self) -> Array:
        """The population variance [...]; 1 until there are two samples."""
        count = float(self.count)
        return self.squares.numpy() / count if count > 1 else np.ones(self.squares.shape)

    @property
    def deviation(self) -> Array:
        """The standard deviation [...], never 0."""
        return np.sqrt(self.variance + EPSILON)


class ObservationNormaliser(nn.Module):
    """Subtracts the mean, divides by the standard deviation, and clips to [-clip, clip], entry by entry.

    The parts of Dict and Tuple observations are normalised separately. Images and discrete parts stay as they are.

    Args:
        space: the observation space of a single environment.
        channels: that of `is_image`, which tells what an image is.
    """

    def __init__(self, space: spaces.Space, clip: float = CLIP, channels: str = "auto"):
        super().__init__()
        self.clip = clip
        self.keys: list[Any] = []
        self.parts = nn.ModuleList()
        self.moments: RunningMoments | None = None
        if isinstance(space, spaces.Dict | spaces.Tuple):
            named = dict(space.spaces) if isinstance(space, spaces.Dict) else dict(enumerate(space.spaces))
            self.keys = sorted_keys(named)
            self.parts.extend(ObservationNormaliser(named[key], clip, channels) for key in self.keys)
        elif isinstance(space, spaces.Box) and not is_image(space, channels):
            self.moments = RunningMoments(space.shape)

    @property
    def has_moments(self) -> bool:
        """Whether there is anything to normalise."""
        return self.moments is not None or any(part.has_moments for part in self.parts)

    def observe(self, obs: Obs) -> None:
        """Include numpy observations [N, ...] in the statistics."""
        for key, part in zip(self.keys, self.parts, strict=True):
            part.observe(obs[key])  # type: ignore[operator]
        if self.moments is not None:
            self.moments.observe(obs)

    def forward(self, obs: Any) -> Any:
        """Return normalised observations, float32 of the same shapes: arrays for arrays, tensors for tensors."""
        if self.keys:
            done = {key: part(obs[key]) for key, part in zip(self.keys, self.parts, strict=True)}
            return done if isinstance(obs, dict) else tuple(done[key] for key in self.keys)
        if self.moments is None:
            return obs
        mean, scale = self.moments.mean.numpy(), 1 / self.moments.deviation
        if isinstance(obs, Tensor):
            # in float64, as for arrays
            centre, factor = (torch.from_numpy(np.asarray(x)).to(obs.device) for x in (mean, scale))
            return ((obs.double() - centre) * factor).clamp(-self.clip, self.clip).float()
        return np.clip((obs - mean) * scale, -self.clip, self.clip).astype(np.float32)


class RewardNormaliser(nn.Module):
    """Divides rewards by the standard deviation of the discounted return, and clips to [-clip, clip].

    As in SB3's VecNormalize, the return is that of the rewards so far, R = gamma * R + r. The running returns
    aren't among the weights, since their number is that of the environments; save `returns` beside them.
    """

    def __init__(self, gamma: float, num_envs: int, clip: float = CLIP):
        super().__init__()
        self.gamma, self.clip = gamma, clip
        self.moments = RunningMoments()
        self.returns = np.zeros(num_envs)  # float64 [N]: of the open episodes

    def observe(self, reward: Array, is_first: Array) -> None:
        """Include a vector step's rewards [N] in the statistics; is_first is bool [N]."""
        self.returns = np.where(is_first, 0.0, self.returns) * self.gamma + reward
        self.moments.observe(self.returns)

    @property
    def scale(self) -> float:
        """The factor by which rewards are multiplied."""
        return float(1 / self.moments.deviation)

    def forward(self, reward: Any) -> Any:
        """Return scaled and clipped rewards of any shape: arrays for arrays, tensors for tensors."""
        bounds = (-self.clip, self.clip)
        scaled = reward * self.scale
        return scaled.clamp(*bounds) if isinstance(reward, Tensor) else np.clip(scaled, *bounds)


class Statistics:
    """The normalisers that an agent updates with the steps it learns from; either may be None.

    The observations' normaliser is part of the network. The rewards' moments are saved among the weights, so that
    whoever loads them knows the scale of the network's values; only the returns of the open episodes are saved
    beside them.
    """

    def __init__(self, observations: ObservationNormaliser | None, rewards: RewardNormaliser | None = None):
        self._observations, self._rewards = observations, rewards
        self.any = observations is not None or rewards is not None

    def observe(self, obs: Obs) -> None:
        """Update the observations' statistics with observations [K, ...]."""
        if self._observations is not None:
            self._observations.observe(obs)

    def observe_rewards(self, reward: Array, is_first: Array) -> None:
        """Update the rewards' statistics with a vector step's rewards [N]; is_first is bool [N]."""
        if self._rewards is not None:
            self._rewards.observe(reward, is_first)

    @property
    def reward_scale(self) -> float:
        """The factor by which rewards are multiplied; 1 without a normaliser."""
        return 1.0 if self._rewards is None else self._rewards.scale

    def scaled(self, reward: Array) -> Array:
        """Return rewards of single steps, [...], scaled and clipped as SB3 does; as they are without a normaliser."""
        return reward if self._rewards is None else self._rewards(reward)

    def weights(self) -> dict[str, Tensor]:
        """Return the rewards' moments as live tensors [], under names that no part of a network has."""
        state = {} if self._rewards is None else self._rewards.state_dict()
        return {PREFIX + name: moment for name, moment in state.items()}

    def load_weights(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Load the rewards' moments in place; return the other weights, which are the network's."""
        own = {k.removeprefix(PREFIX): torch.as_tensor(v) for k, v in weights.items() if k.startswith(PREFIX)}
        if self._rewards is not None:
            self._rewards.load_state_dict(own)
        return {name: weight for name, weight in weights.items() if not name.startswith(PREFIX)}

    def state_dict(self) -> dict[str, Any]:
        """Return the state that isn't among the weights: the returns of the open episodes."""
        return {} if self._rewards is None else {"returns": self._rewards.returns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state."""
        if self._rewards is not None:
            self._rewards.returns = np.array(state["returns"])
