"""What a network says of an action's return: its mean, or a whole distribution.

Bellemare et al. (2017), "A Distributional Perspective on Reinforcement Learning", https://arxiv.org/abs/1707.06887
(categorical, C51); Dabney et al. (2018), "Distributional Reinforcement Learning with Quantile Regression",
https://arxiv.org/abs/1710.10044 (QR-DQN), and "Implicit Quantile Networks for Distributional Reinforcement
Learning", https://arxiv.org/abs/1806.06923 (IQN).

Outputs of a network are tensors [..., A] for means, and [..., A, K] for distributions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rl_lab.types import Array


class ReturnKind(Protocol):
    """One way to describe returns. Instances are hashable: they are part of the key of compiled code."""

    @property
    def width(self) -> int:
        """The number K of outputs per action while acting."""

    def means(self, outputs: Tensor) -> Tensor:
        """Return the action values [..., A] of outputs [..., A, K], or [..., A] for means."""

    def means_in_numpy(self, outputs: Array) -> Array:
        """Do the same for arrays."""


class DistributionKind(ReturnKind, Protocol):
    """One way to describe the distribution of returns."""

    def atoms(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what a return may be, [..., K], and how probable that is, [..., K], for outputs [..., K].

        Without probabilities all are equally likely.
        """


@dataclass(frozen=True)
class Means:
    """The mean of each action's return, and nothing else."""

    width: int = 1

    def means(self, outputs: Tensor) -> Tensor:
        """Return the outputs [..., A] as they are."""
        return outputs

    def means_in_numpy(self, outputs: Array) -> Array:
        """Return the outputs [..., A] as they are."""
        return outputs


MEANS = Means()


@dataclass(frozen=True)
class Categorical:
    """Probabilities of fixed returns, which divide [v_min, v_max] evenly; outputs are their logits."""

    v_min: float
    v_max: float
    width: int

    @property
    def spacing(self) -> float:
        """The distance between two atoms."""
        return (self.v_max - self.v_min) / (self.width - 1)

    def support(self, like: Tensor) -> Tensor:
        """Return the atoms [K], on the device of `like`."""
        return torch.linspace(self.v_min, self.v_max, self.width, device=like.device)

    def means(self, outputs: Tensor) -> Tensor:
        """Return the action values [..., A] of logits [..., A, K]."""
        return outputs.softmax(-1) @ self.support(outputs)

    def means_in_numpy(self, outputs: Array) -> Array:
        """Do the same for arrays."""
        weights = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        support = np.linspace(self.v_min, self.v_max, self.width, dtype=np.float32)
        return (weights @ support) / weights.sum(axis=-1)

    def atoms(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the atoms and their probabilities, both [..., K], of logits [..., K]."""
        return self.support(outputs).expand(outputs.shape), outputs.softmax(-1)


@dataclass(frozen=True)
class Quantiles:
    """Returns at the middles of K equally probable parts; outputs are these returns."""

    width: int

    def fractions(self, like: Tensor) -> Tensor:
        """Return the probabilities [K] of lower returns that the outputs stand for: (2 i + 1) / (2 K)."""
        return midpoints(self.width, like.device)

    def means(self, outputs: Tensor) -> Tensor:
        """Return the action values [..., A] of quantiles [..., A, K]."""
        return outputs.mean(-1)

    def means_in_numpy(self, outputs: Array) -> Array:
        """Do the same for arrays."""
        return outputs.mean(axis=-1)

    def atoms(self, outputs: Tensor) -> tuple[Tensor, None]:
        """Return the quantiles [..., K] themselves, which are equally likely."""
        return outputs, None


@dataclass(frozen=True)
class ImplicitQuantiles(Quantiles):
    """Returns at any fractions asked for: drawn at random to learn, `width` fixed ones to act."""

    learned: int = 64  # fractions of the prediction
    target: int = 64  # fractions of the target


def midpoints(count: int, device: torch.device | None = None) -> Tensor:
    """Return the middles of `count` equal parts of [0, 1], [count]."""
    return (torch.arange(count, dtype=torch.float32, device=device) + 0.5) / count
