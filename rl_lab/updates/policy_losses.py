"""The losses of policy gradients, as pure functions of tensors that all have the same shape.

The shapes [...] below are [B], or [T, B] with a memory, float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_lab.updates.minibatches import Minibatch

# log pi(a | s), log pi_old(a | s) and advantage, [...] each, and the clip range [] -> loss []
Surrogate = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Network = Callable[..., tuple[Any, Tensor, Any]]  # obs, carry, is_first -> parameters, value, next carry


def score_function(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip_range: Tensor) -> Tensor:
    """Return -mean(A log pi(a | s)) [], whose gradient is that of Williams (1992).

    Args:
        log_prob: log pi(a | s), [...].
        old_log_prob: unused.
        advantage: A, [...].
        clip_range: unused.
    """
    return -(advantage * log_prob).mean()


def clipped_surrogate(
    log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip_range: Tensor
) -> Tensor:
    """Return -mean(min(r A, clip(r, 1 - c, 1 + c) A)) [] with r = pi / pi_old (Schulman et al., 2017, eq. 7).

    Args:
        log_prob: log pi(a | s), [...].
        old_log_prob: log pi_old(a | s), [...], of the policy that acted.
        advantage: A, [...].
        clip_range: c, [].
    """
    ratio = (log_prob - old_log_prob).exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return -torch.minimum(ratio * advantage, clipped * advantage).mean()


def squared_error(value: Tensor, old_value: Tensor, target: Tensor, clip: float | None = None) -> Tensor:
    """Return mean((value - target)^2) [] of tensors [...]; with `clip`, values move at most `clip` from `old_value`."""
    if clip is not None:
        value = old_value + (value - old_value).clamp(-clip, clip)
    return (value - target).square().mean()


def normalised(advantage: Tensor) -> Tensor:
    """Return (A - mean) / (std + 1e-8) of advantages of any shape; a single advantage is returned unchanged."""
    if advantage.numel() == 1:
        return advantage
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8)


def approximate_kl(log_prob: Tensor, old_log_prob: Tensor) -> Tensor:
    """Return mean(r - 1 - log r) [] of log-probabilities [...]: an unbiased, never negative estimate of KL(old, new).

    Schulman (2020), "Approximating KL Divergence", http://joschu.net/blog/kl-approx.html
    """
    log_ratio = log_prob - old_log_prob
    return (log_ratio.expm1() - log_ratio).mean()


def clipped_fraction(log_prob: Tensor, old_log_prob: Tensor, clip_range: Tensor) -> Tensor:
    """Return the share [] of steps whose probability ratio differs from 1 by more than the clip range [].

    With a clip range of 0, that of A2C, rounding alone makes them differ.

    Args:
        log_prob: log-probabilities of the steps' actions, [...].
        old_log_prob: the same when they were taken, [...].
    """
    return (((log_prob - old_log_prob).exp() - 1).abs() > clip_range).float().mean()


FIGURES = ("loss", "policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")


@dataclass(frozen=True)
class Objective:
    """The loss of a minibatch: surrogate + vf_coef * squared error of the value - ent_coef * entropy."""

    evaluate: Callable[[Any, Any, Tensor | None], tuple[Tensor, Tensor]]
    """Maps the distribution's parameters, actions [..., D] or [...] (a tuple of them for actions in parts) and a mask
    [..., A] to log-probability and entropy, [...] each."""
    surrogate: Surrogate
    """Loss of the policy."""
    vf_coef: float
    """Weight of the value's loss."""
    ent_coef: float
    """Weight of the entropy bonus."""
    normalise_advantages: bool
    """Normalise the advantages of each minibatch."""
    value_clip: float | None = None
    """How far a value may move from the old one; None: any distance."""

    def __call__(self, network: Network, batch: Minibatch, clip_range: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss [], and the FIGURES [6] without a gradient; `clip_range` is []."""
        parameters, value, _ = network(batch.obs, batch.state, batch.is_first)
        log_prob, entropy = self.evaluate(parameters, batch.action, batch.mask)
        assert log_prob.shape == entropy.shape == value.shape == batch.log_prob.shape == batch.target.shape
        advantage = normalised(batch.advantage) if self.normalise_advantages else batch.advantage
        policy_loss = self.surrogate(log_prob, batch.log_prob, advantage, clip_range)
        value_loss = squared_error(value, batch.value, batch.target, self.value_clip)
        mean_entropy = entropy.mean()
        loss = policy_loss + self.vf_coef * value_loss - self.ent_coef * mean_entropy
        old = batch.log_prob
        with torch.no_grad():
            figures = torch.stack([
                loss, policy_loss, value_loss, mean_entropy,
                approximate_kl(log_prob, old), clipped_fraction(log_prob, old, clip_range),
            ])  # fmt: skip
        return loss, figures.detach()
