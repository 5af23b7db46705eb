"""Distributions over actions: acting draws from them in numpy, learning evaluates them in torch.

Illegal actions have probability exactly 0. Box actions are drawn without regard to their bounds; the
environment receives the clipped action, and the log-probability belongs to the unclipped one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi, prod
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.nn.layers import Linear
from rl_lab.policies import legal
from rl_lab.types import Array

HALF_LOG_TWO_PI = 0.5 * log(2 * pi)


class Drawn(NamedTuple):
    """Actions that were drawn."""

    action: Array  # [N, ...]: for the environment, clipped to its bounds
    raw: Array  # [N, ...]: as drawn
    log_prob: Array  # float32 [N]: of `raw`


class Distribution(Protocol):
    """A distribution over the actions of one space. Its parameters are what its head returns."""

    @property
    def evaluate(self) -> Callable[[Any, Tensor, Tensor | None], tuple[Tensor, Tensor]]:
        """A pure function that maps parameters, actions and a mask to log-probabilities and entropies, [...] each.

        Actions are int64 [...], or float32 [..., D] if they are continuous; the mask is bool [..., A] or None.
        """

    def make_head(self, features: int) -> nn.Module:
        """Return the layer that maps features [..., F] to parameters."""

    def draw(self, parameters: Any, rng: np.random.Generator, mask: Array | None) -> Drawn:
        """Draw an action for each of N environments, given numpy parameters [N, ...] and mask bool [N, A]."""

    def mode(self, parameters: Any, mask: Array | None) -> Array:
        """Return the most likely action for each environment, [N, ...], the first one if several are tied.

        Parameters are numpy arrays [N, ...], and the mask is bool [N, A], as for `draw`.
        """

    def probabilities(self, parameters: Any, mask: Array | None) -> Array | None:
        """Return the probabilities [N, A] from which `draw` draws; None for continuous actions."""


# Discrete --------------------------------------------------------------------------------------------


class CategoricalHead(Linear):
    """Maps features [..., F] to logits [..., A]."""


def categorical(logits: Tensor, action: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the log-probability and the entropy, [...] each, of action int64 [...] under logits [..., A].

    Actions outside the mask, bool [..., A], have probability 0.
    """
    if mask is not None:  # a finite value, so that gradients are finite too; its exponential is still 0
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    log_p = logits.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return log_p.gather(-1, action.unsqueeze(-1)).squeeze(-1), entropy


class Categorical:
    """The distribution over Discrete actions; its parameters are logits [..., A]."""

    evaluate = staticmethod(categorical)

    def __init__(self, space: spaces.Discrete):
        self.num_actions = int(space.n)

    def make_head(self, features: int) -> nn.Module:
        """Return the layer that computes the logits."""
        return CategoricalHead(features, self.num_actions)

    def draw(self, parameters: Array, rng: np.random.Generator, mask: Array | None) -> Drawn:
        """Draw actions int64 [N] by the Gumbel-max trick, which never picks a logit of -inf."""
        log_p = _log_softmax(legal(parameters, mask))
        action = (log_p + rng.gumbel(size=log_p.shape)).argmax(-1)
        return Drawn(action, action, log_p[np.arange(len(action)), action])

    def mode(self, parameters: Array, mask: Array | None) -> Array:
        """Return the first legal action with the largest logit, int64 [N]."""
        return legal(parameters, mask).argmax(-1)

    def probabilities(self, parameters: Array, mask: Array | None) -> Array | None:
        """Return the probabilities [N, A]."""
        return np.exp(_log_softmax(legal(parameters, mask)))


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


# Box -------------------------------------------------------------------------------------------------


class GaussianHead(Linear):
    """Maps features [..., F] to means [..., D], beside state-independent log standard deviations [D]."""

    def __init__(self, features: int, size: int, log_std: float):
        super().__init__(features, size)
        self.log_std = nn.Parameter(torch.full((size,), log_std))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return means [..., D] and log standard deviations [D]."""
        return super().forward(features), self.log_std


def diagonal_gaussian(
    parameters: tuple[Tensor, Tensor], action: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the log-density and the entropy, [...] each, of action [..., D] under (mean [..., D], log std [D])."""
    mean, log_std = parameters
    scaled = (action - mean) / log_std.exp()
    log_prob = -(0.5 * scaled.square() + log_std + HALF_LOG_TWO_PI).sum(-1)
    entropy = (log_std + 0.5 + HALF_LOG_TWO_PI).sum(-1)
    return log_prob, entropy.expand(log_prob.shape)


class DiagonalGaussian:
    """Independent normal distributions over the D flattened entries of Box actions."""

    evaluate = staticmethod(diagonal_gaussian)

    def __init__(self, space: spaces.Box, log_std: float = 0.0):
        self.space, self.size, self.log_std = space, prod(space.shape), log_std

    def make_head(self, features: int) -> nn.Module:
        """Return the layer of means and deviations."""
        return GaussianHead(features, self.size, self.log_std)

    def draw(self, parameters: tuple[Array, Array], rng: np.random.Generator, mask: Array | None) -> Drawn:
        """Draw actions; the raw ones are float32 [N, D]."""
        mean, log_std = parameters
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        log_prob = -(0.5 * np.square(noise) + log_std + np.float32(HALF_LOG_TWO_PI)).sum(-1)
        raw = mean + np.exp(log_std) * noise
        return Drawn(self._clipped(raw), raw, log_prob)

    def mode(self, parameters: tuple[Array, Array], mask: Array | None) -> Array:
        """Return the means, clipped to the bounds, [N, ...] in the shape of the space."""
        return self._clipped(parameters[0])

    def probabilities(self, parameters: Any, mask: Array | None) -> Array | None:
        """Return None, since densities aren't probabilities."""
        return None

    def _clipped(self, raw: Array) -> Array:
        shaped = raw.reshape(len(raw), *self.space.shape).astype(self.space.dtype)
        return np.clip(shaped, self.space.low, self.space.high)


def make_distribution(space: spaces.Space, *, log_std: float = 0.0) -> Distribution:
    """Make the distribution for an action space that `supports` accepts."""
    if isinstance(space, spaces.Box):
        return DiagonalGaussian(space, log_std)
    assert isinstance(space, spaces.Discrete)
    return Categorical(space)


SUPPORTED_ACTIONS = "Discrete actions that start at 0 or Box actions of one float or more"


def supports(space: spaces.Space) -> bool:
    """Return whether there is a distribution for an action space, as SUPPORTED_ACTIONS says in words."""
    if isinstance(space, spaces.Discrete):
        return bool(space.start == 0)
    return isinstance(space, spaces.Box) and np.dtype(space.dtype).kind == "f" and 0 not in space.shape
