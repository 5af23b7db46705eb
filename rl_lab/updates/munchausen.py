"""Munchausen learning: the target policy is a softmax, and its log-probability of the action is part of the reward.

Vieillard et al. (2020), "Munchausen Reinforcement Learning", https://arxiv.org/abs/2007.14430.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Munchausen:
    """A softmax of the target network's action values, and what it adds to rewards."""

    alpha: float = 0.9
    """Share of the log-probability that is added to the reward."""
    temperature: float = 0.03
    """Of the softmax, in units of reward."""
    lowest: float = -1.0
    """Bound from below of temperature * log-probability, as it is added to the reward."""

    def policy(self, q: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return probabilities and -temperature * log-probabilities, each [..., A], of action values [..., A].

        Args:
            mask: legal actions, bool [..., A]; illegal ones have probability 0, and 0 in the second result.
        """
        if mask is not None:
            q = q.masked_fill(~mask, float("-inf"))
        log_p = (q / self.temperature).log_softmax(-1)
        return log_p.exp(), (-self.temperature * log_p).masked_fill(torch.isinf(log_p), 0.0)

    def bonus(self, q: Tensor, action: Tensor) -> Tensor:
        """Return what is added to the rewards [...] of actions [...] where the action values are [..., A]."""
        log_p = (q / self.temperature).log_softmax(-1).gather(-1, action.unsqueeze(-1)).squeeze(-1)
        return self.alpha * (self.temperature * log_p).clamp(self.lowest, 0.0)
