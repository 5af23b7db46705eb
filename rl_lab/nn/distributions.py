"""Distributions over actions: acting draws from them in numpy, learning evaluates them in torch.

Illegal actions have probability exactly 0. Box actions are drawn without regard to their bounds; the
environment receives the clipped action, rounded if the space is of integers, and the log-probability belongs to the
one that was drawn. `joint_distributions` builds distributions over actions of several parts from these.
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
WHOLE = 2.0**53  # up to which float64 holds every whole number


# parameters, raw actions, mask -> log-probabilities and entropies
Evaluate = Callable[[Any, Any, Tensor | None], tuple[Tensor, Tensor]]


class Drawn(NamedTuple):
    """Actions that were drawn."""

    action: Array  # [N, ...]: for the environment, clipped to its bounds
    raw: Any  # as drawn and as `evaluate` takes it: [N, ...], or a tuple of such arrays
    log_prob: Array  # float32 [N]: of `raw`


class Distribution(Protocol):
    """A distribution over the actions of one space. Its parameters are what its head returns."""

    mask_size: int  # values that an action mask tells about; 0 if there are no masks for such actions

    @property
    def evaluate(self) -> Evaluate:
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

    def figures(self, parameters: Any, mask: Array | None) -> dict[str, Array]:
        """Return the parameters [N, ...] as `Policy.inspect` gives them: `logits`, or `mean` and `std`."""


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
        self.num_actions = self.mask_size = int(space.n)
        self._first = int(space.start)

    def make_head(self, features: int) -> nn.Module:
        """Return the layer that computes the logits."""
        return CategoricalHead(features, self.num_actions)

    def draw(self, parameters: Array, rng: np.random.Generator, mask: Array | None) -> Drawn:
        """Draw actions int64 [N]; the raw ones are counted from 0."""
        index, log_prob = draw_index(legal(parameters, mask), rng)
        return Drawn(index + self._first, index, log_prob)

    def mode(self, parameters: Array, mask: Array | None) -> Array:
        """Return the first legal action with the largest logit, int64 [N]."""
        return legal(parameters, mask).argmax(-1) + self._first

    def probabilities(self, parameters: Array, mask: Array | None) -> Array | None:
        """Return the probabilities [N, A]."""
        return np.exp(log_softmax(legal(parameters, mask)))

    def figures(self, parameters: Array, mask: Array | None) -> dict[str, Array]:
        """Return `logits` [N, A], -inf for illegal actions."""
        return {"logits": legal(parameters, mask)}


def draw_index(logits: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw indices int64 [...] by logits [..., A]; return them and their log-probabilities, float32 [...].

    The Gumbel-max trick never picks a logit of -inf.
    """
    log_p = log_softmax(logits)
    index = (log_p + rng.gumbel(size=log_p.shape)).argmax(-1)
    return index, np.take_along_axis(log_p, index[..., None], axis=-1)[..., 0]


def log_softmax(logits: Array) -> Array:
    """Return the logarithms of the probabilities [..., A] of logits [..., A]."""
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
    mask_size = 0

    def __init__(self, space: spaces.Box, log_std: float = 0.0):
        self.space, self.size, self.log_std = space, prod(space.shape), log_std
        self._rounds = np.dtype(space.dtype).kind != "f"

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

    def figures(self, parameters: tuple[Array, Array], mask: Array | None) -> dict[str, Array]:
        """Return `mean` and `std` [N, D], before clipping."""
        mean, log_std = parameters
        return {"mean": mean, "std": np.broadcast_to(np.exp(log_std), mean.shape)}

    def _clipped(self, raw: Array) -> Array:
        shaped = raw.reshape(len(raw), *self.space.shape)
        if self._rounds:
            low, high = (
                np.clip(b.astype(np.float64), -WHOLE, WHOLE) for b in (self.space.low, self.space.high)
            )
            return np.clip(np.rint(shaped), low, high).astype(self.space.dtype)
        return np.clip(shaped.astype(self.space.dtype), self.space.low, self.space.high)
