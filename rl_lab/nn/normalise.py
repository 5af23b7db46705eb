"""Running normalisation of observations and rewards.

Statistics are the buffers of a module, so that they travel with the weights: into the checkpoint and to
whoever loads a policy. They change only where `observe` is called, which an agent does with the steps
that it learns from; evaluation calls the module alone and leaves them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.nn.images import is_image
from rl_lab.types import Array, Obs

CLIP = 10.0  # bound of what is normalised, as in SB3's VecNormalize
EPSILON = 1e-8  # added to variances
PREFIX = "rewards."  # of the rewards' moments among the weights


class RunningMoments(nn.Module):
    """Mean and variance over everything observed, float64, merged batch by batch.

    Chan, Golub & LeVeque (1979), "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances";
    for one sample at a time it is Welford's (1962). The buffers stay on the CPU, where the environments are.
    """

    count: Tensor  # float64 []
    mean: Tensor  # float64 [...]
    squares: Tensor  # float64 [...]: sum of the squared distances from the mean

    def __init__(self, shape: Sequence[int] = ()):
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(tuple(shape), dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(tuple(shape), dtype=torch.float64))

    def _apply(self, fn: Any, recurse: bool = True) -> RunningMoments:
        return self

    def observe(self, batch: Array) -> None:
        """Take in samples [N, ...]."""
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
        """The population's variance [...]; 1 before two samples were seen."""
        count = float(self.count)
        return self.squares.numpy() / count if count > 1 else np.ones(self.squares.shape)

    @property
    def deviation(self) -> Array:
        """The standard deviation [...], never 0."""
        return np.sqrt(self.variance + EPSILON)


class ObservationNormaliser(nn.Module):
    """Subtracts the mean and divides by the standard deviation, entry by entry, within [-clip, clip].

    Of Dict and Tuple observations each part is treated on its own. Images and discrete parts pass as they are.

    Args:
        space: of a single environment.
    """

    def __init__(self, space: spaces.Space, clip: float = CLIP):
        super().__init__()
        self.clip = clip
        self.keys: list[Any] = []
        self.parts = nn.ModuleList()
        self.moments: RunningMoments | None = None
        if isinstance(space, spaces.Dict | spaces.Tuple):
            named = dict(space.spaces) if isinstance(space, spaces.Dict) else dict(enumerate(space.spaces))
            self.keys = sorted(named)
            self.parts.extend(ObservationNormaliser(named[key], clip) for key in self.keys)
        elif isinstance(space, spaces.Box) and not is_image(space):
            self.moments = RunningMoments(space.shape)

    @property
    def has_moments(self) -> bool:
        """Say whether there is anything to normalise."""
        return self.moments is not None or any(part.has_moments for part in self.parts)

    def observe(self, obs: Obs) -> None:
        """Take in numpy observations [N, ...] that are learned from."""
        for key, part in zip(self.keys, self.parts, strict=True):
            part.observe(obs[key])  # type: ignore[operator]
        if self.moments is not None:
            self.moments.observe(obs)

    def forward(self, obs: Any) -> Any:
        """Return observations [..., as in the space], normalised to float32: numpy gives numpy, tensors tensors."""
        if self.keys:
            done = {key: part(obs[key]) for key, part in zip(self.keys, self.parts, strict=True)}
            return done if isinstance(obs, dict) else tuple(done[key] for key in self.keys)
        if self.moments is None:
            return obs
        mean, scale = self.moments.mean.numpy(), 1 / self.moments.deviation
        if isinstance(obs, Tensor):
            there = [
                torch.from_numpy(np.asarray(x)).to(obs.device) for x in (mean, scale)
            ]  # float64, as below
            return ((obs.double() - there[0]) * there[1]).clamp(-self.clip, self.clip).float()
        return np.clip((obs - mean) * scale, -self.clip, self.clip).astype(np.float32)


class RewardNormaliser(nn.Module):
    """Divides rewards by the standard deviation of the discounted return, within [-clip, clip].

    As SB3's VecNormalize does: the return is that of the rewards so far, R = gamma * R + r. It stays out of the
    weights, since it is as wide as the vector that is trained on: save `returns` beside them.
    """

    def __init__(self, gamma: float, num_envs: int, clip: float = CLIP):
        super().__init__()
        self.gamma, self.clip = gamma, clip
        self.moments = RunningMoments()
        self.returns = np.zeros(num_envs)  # float64 [N], of the open episodes

    def observe(self, reward: Array, is_first: Array) -> None:
        """Take in a vector step's rewards [N]; `is_first` [N] says where the step opened an episode."""
        self.returns = np.where(is_first, 0.0, self.returns) * self.gamma + reward
        self.moments.observe(self.returns)

    @property
    def scale(self) -> float:
        """What rewards are multiplied by."""
        return float(1 / self.moments.deviation)

    def forward(self, reward: Any) -> Any:
        """Return rewards of any shape, scaled: numpy gives numpy, tensors tensors."""
        bounds = (-self.clip, self.clip)
        scaled = reward * self.scale
        return scaled.clamp(*bounds) if isinstance(reward, Tensor) else np.clip(scaled, *bounds)


class Statistics:
    """The running moments that an agent takes of the steps it learns from; what is None isn't taken.

    The observations' are a part of the network. The rewards' join its weights: whoever loads these finds in them
    in which scale the network gives values. Only the open episodes' returns are saved beside them.
    """

    def __init__(self, observations: ObservationNormaliser | None, rewards: RewardNormaliser | None = None):
        self._observations, self._rewards = observations, rewards
        self.any = observations is not None or rewards is not None

    def observe(self, obs: Obs) -> None:
        """Take in observations [K, ...]."""
        if self._observations is not None:
            self._observations.observe(obs)

    def observe_rewards(self, reward: Array, is_first: Array) -> None:
        """Take in a vector step's rewards [N]."""
        if self._rewards is not None:
            self._rewards.observe(reward, is_first)

    @property
    def reward_scale(self) -> float:
        """What rewards are multiplied by."""
        return 1.0 if self._rewards is None else self._rewards.scale

    def scaled(self, reward: Array) -> Array:
        """Return single steps' rewards as they are learned from, bounded too where they are scaled."""
        return reward if self._rewards is None else self._rewards(reward)

    def weights(self) -> dict[str, Tensor]:
        """Return the rewards' moments by names that no part of a network has; live."""
        state = {} if self._rewards is None else self._rewards.state_dict()
        return {PREFIX + name: moment for name, moment in state.items()}

    def load_weights(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Take the rewards' moments in, in place; return the weights that are the network's."""
        own = {k.removeprefix(PREFIX): torch.as_tensor(v) for k, v in weights.items() if k.startswith(PREFIX)}
        if self._rewards is not None:
            self._rewards.load_state_dict(own)
        return {name: weight for name, weight in weights.items() if not name.startswith(PREFIX)}

    def state_dict(self) -> dict[str, Any]:
        """Return what the weights don't hold."""
        return {} if self._rewards is None else {"returns": self._rewards.returns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state in."""
        if self._rewards is not None:
            self._rewards.returns = np.array(state["returns"])
