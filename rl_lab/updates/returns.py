"""Targets and losses of what networks say of returns: means, categorical distributions, quantiles.

Bellemare et al. (2017), https://arxiv.org/abs/1707.06887; Dabney et al. (2018), https://arxiv.org/abs/1710.10044 and
https://arxiv.org/abs/1806.06923; Vieillard et al. (2020), "Munchausen Reinforcement Learning",
https://arxiv.org/abs/2007.14430; Osband et al. (2016), https://arxiv.org/abs/1602.04621.

Below, `...` stands for [B], or for windows [T, B]; with H heads for [B, H] or [T, B, H], each head learning by itself
from the target network's head of the same number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import huber_loss, mse_loss

from rl_lab.nn.return_kinds import MEANS, Categorical, Means, Quantiles
from rl_lab.updates.munchausen import Munchausen
from rl_lab.updates.td import IDENTITY_SCALE, Batch, Scale


class Distribution(NamedTuple):
    """What a return may be, and how probable that is."""

    atoms: Tensor  # [..., M]
    weights: Tensor | None  # [..., M], summing to 1; None: all equally likely

    def mean(self) -> Tensor:
        """Return the mean [...]."""
        return self.atoms.mean(-1) if self.weights is None else (self.atoms * self.weights).sum(-1)


class DistributionLoss(Protocol):
    """The distance of what a network says of one action from a target."""

    @property
    def kind(self) -> Any:
        """What the network's outputs mean."""

    @property
    def scale(self) -> Scale:
        """Scale of the network's values."""

    def chosen(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Return the outputs [..., K] of actions [...] among those of all, [..., A, K] or [..., A]."""

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the mean [...] of the outputs [..., K] of one action."""

    def distributions(self, outputs: Tensor) -> Distribution:
        """Return every action's distribution, [..., A, K]."""

    def mixed(self, distributions: Distribution, policy: Tensor) -> Distribution:
        """Return the distribution [..., M] of a policy [..., A] over actions with distributions [..., A, K]."""

    def __call__(self, outputs: Tensor, target: Distribution, fractions: Tensor | None) -> Tensor:
        """Return the loss [...] of outputs [..., K]; `fractions` are those at which they were asked for."""

    def errors(self, losses: Tensor, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the errors [...] that set priorities, from losses, means and means of targets, each [...]."""


def _errors_of_means(losses: Tensor, prediction: Tensor, target: Tensor) -> Tensor:
    return target - prediction


def chosen_rows(outputs: Tensor, action: Tensor) -> Tensor:
    """Return the rows [..., K] of actions [...] among outputs [..., A, K]."""
    index = action[..., None, None].expand(*action.shape, 1, outputs.shape[-1])
    return outputs.gather(-2, index).squeeze(-2)


@dataclass(frozen=True)
class MeansLoss:
    """The loss of means, as in `td.TDLoss`."""

    loss: str = "huber"
    """"huber" or "squared"."""
    scale: Scale = IDENTITY_SCALE
    """Scale of the network's values, in which errors are measured too."""
    kind: Means = MEANS
    """What the network's outputs mean."""

    def chosen(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Return Q(s, a) [..., 1] from action values [..., A]."""
        return outputs.gather(-1, action.unsqueeze(-1))

    def mean(self, outputs: Tensor) -> Tensor:
        """Return Q(s, a) [...] from [..., 1]."""
        return outputs.squeeze(-1)

    def distributions(self, outputs: Tensor) -> Distribution:
        """Return the action values as distributions of a single atom, [..., A, 1]."""
        return Distribution(self.scale.widen(outputs).unsqueeze(-1), None)

    def mixed(self, distributions: Distribution, policy: Tensor) -> Distribution:
        """Return the mean of the policy's values, [..., 1]."""
        return Distribution((distributions.atoms * policy.unsqueeze(-1)).sum(-2), None)

    def __call__(self, outputs: Tensor, target: Distribution, fractions: Tensor | None) -> Tensor:
        """Return the loss [...] of values [..., 1]."""
        loss = huber_loss if self.loss == "huber" else mse_loss
        return loss(outputs, self.scale.shrink(target.atoms), reduction="none").squeeze(-1)

    errors = staticmethod(_errors_of_means)


@dataclass(frozen=True)
class CategoricalLoss:
    """The Kullback-Leibler divergence of predicted probabilities from the target, projected onto the same atoms."""

    kind: Categorical
    """The atoms."""
    scale: Scale = IDENTITY_SCALE
    """The atoms are in units of reward."""

    def chosen(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Return the logits [..., K] of actions [...]."""
        return chosen_rows(outputs, action)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the mean [...] of logits [..., K]."""
        return self.kind.means(outputs)

    def distributions(self, outputs: Tensor) -> Distribution:
        """Return the atoms and probabilities [..., A, K]."""
        return Distribution(*self.kind.atoms(outputs))

    def mixed(self, distributions: Distribution, policy: Tensor) -> Distribution:
        """Return the mixture, with the atoms of all actions, [..., A * K]."""
        assert distributions.weights is not None
        weights = distributions.weights * policy.unsqueeze(-1)
        return Distribution(distributions.atoms.flatten(-2), weights.flatten(-2))

    def project(self, target: Distribution) -> Tensor:
        """Return the probabilities [..., K] of the atoms nearest to a target [..., M], which is clipped to their range.

        Each atom of the target is divided between its two neighbours in proportion to its nearness, so that the mean
        stays the same.
        """
        assert target.weights is not None
        kind, atoms = self.kind, target.atoms.clamp(self.kind.v_min, self.kind.v_max)
        distance = (atoms.unsqueeze(-1) - kind.support(atoms)).abs() / kind.spacing  # [..., M, K]
        return (target.weights.unsqueeze(-1) * (1 - distance).clamp(min=0)).sum(-2)

    def __call__(self, outputs: Tensor, target: Distribution, fractions: Tensor | None) -> Tensor:
        """Return the divergence [...] of logits [..., K]; its gradient is that of the cross-entropy."""
        wanted = self.project(target)
        return (torch.xlogy(wanted, wanted) - wanted * outputs.log_softmax(-1)).sum(-1)

    def errors(self, losses: Tensor, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the divergences [...], as in Rainbow."""
        return losses


@dataclass(frozen=True)
class QuantileLoss:
    """The quantile Huber loss of every quantile against every atom of the target."""

    kind: Quantiles
    """The quantiles."""
    scale: Scale = IDENTITY_SCALE
    """The quantiles are in units of reward."""

    def chosen(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Return the quantiles [..., K] of actions [...]."""
        return chosen_rows(outputs, action)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the mean [...] of quantiles [..., K]."""
        return outputs.mean(-1)

    def distributions(self, outputs: Tensor) -> Distribution:
        """Return the quantiles [..., A, K]."""
        return Distribution(outputs, None)

    def mixed(self, distributions: Distribution, policy: Tensor) -> Distribution:
        """Return the policy's mean of each quantile, [..., K], as in M-IQN."""
        return Distribution((distributions.atoms * policy.unsqueeze(-1)).sum(-2), None)

    def __call__(self, outputs: Tensor, target: Distribution, fractions: Tensor | None) -> Tensor:
        """Return the loss [...] of quantiles [..., K]: summed over them, and the mean over the target's atoms."""
        fractions = self.kind.fractions(outputs) if fractions is None else fractions  # [K] or [B, K]
        assert target.weights is None
        error = target.atoms.unsqueeze(-2) - outputs.unsqueeze(-1)  # [..., K, M]
        size = huber_loss(error, torch.zeros_like(error), reduction="none")
        return ((fractions.unsqueeze(-1) - (error < 0).float()).abs() * size).mean(-1).sum(-1)

    errors = staticmethod(_errors_of_means)


@dataclass(frozen=True)
class ReturnRule:
    """What becomes of one batch: the loss of the chosen actions' outputs against targets from the target network."""

    loss: DistributionLoss
    """Of one action's outputs."""
    soft: Munchausen | None = None
    """Values successors by a softmax policy, and rewards likely actions; None: the best action is taken."""
    heads: int = 1
    """Heads side by side."""

    @property
    def needs_current(self) -> bool:
        """Whether the target network's values of the current observations are needed."""
        return self.soft is not None

    def __call__(
        self, outputs: Tensor, next_online: Tensor | None, batch: Batch
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the loss [], and means, means of targets and errors, each [B] or [T, B].

        Args:
            outputs: the online network's at the batch's steps, [..., A, K] or [..., A].
            next_online: the same at their successors; None without double Q-learning.
        """
        action, weight = self._per_head(batch.action), self._weight(batch)
        target = self.target(next_online, batch)
        mine = self.loss.chosen(outputs, action)
        fractions = None if batch.draws is None else batch.draws.online[1]
        losses = self.loss(mine, target, self._per_head(fractions, -2))
        prediction, wanted = self.loss.mean(mine), self.loss.scale.shrink(target.mean())
        assert losses.shape == prediction.shape == wanted.shape
        errors = self.loss.errors(losses, prediction, wanted)
        total = losses.mean() if weight is None else (losses * weight).mean()
        if self.heads > 1:
            prediction, wanted = prediction.mean(-1), wanted.mean(-1)
            errors = self._over_heads(errors.abs(), batch)
        return total, prediction, wanted, errors.detach()

    @torch.no_grad()
    def target(self, next_online: Tensor | None, batch: Batch) -> Distribution:
        """Return the distribution of the targets, [..., M]."""
        assert batch.next_q is not None
        reward, discount, terminated, mask, action = (
            self._per_head(x, axis)
            for x, axis in (
                (batch.reward, -1), (batch.discount, -1), (batch.terminated, -1), (batch.next_mask, -2),
                (batch.action, -1),
            )
        )  # fmt: skip
        following, means = self.loss.distributions(batch.next_q), self.loss.kind.means
        if self.soft is None:
            q = means(batch.next_q if next_online is None else next_online)
            best = (q if mask is None else q.masked_fill(~mask, float("-inf"))).argmax(-1)
            weights = None if following.weights is None else chosen_rows(following.weights, best)
            after = Distribution(chosen_rows(following.atoms, best), weights)
        else:
            policy, surprise = self.soft.policy(means(batch.next_q), mask)
            after = self.loss.mixed(
                following._replace(atoms=following.atoms + surprise.unsqueeze(-1)), policy
            )
            assert batch.now_q is not None
            reward = reward + self.soft.bonus(means(batch.now_q), action)
        keeps = (discount * (1 - terminated)).unsqueeze(-1)
        return after._replace(atoms=reward.unsqueeze(-1) + keeps * after.atoms)

    def _per_head(self, x: Any, axis: int = -1) -> Any:
        """Return a tensor with an axis of heads before `axis` from the end; it has length 1 except for actions."""
        if x is None or self.heads == 1:
            return x
        x = x.unsqueeze(axis)
        return x.expand(*x.shape[:-1], self.heads) if x.dtype == torch.int64 else x

    def _over_heads(self, errors: Tensor, batch: Batch) -> Tensor:
        """Return the mean [...] of errors [..., H] over the heads that learn from a step; 0 where none does."""
        learns = None if batch.draws is None else batch.draws.learns
        if learns is None:
            return errors.mean(-1)
        return (errors * learns).sum(-1) / learns.sum(-1).clamp(min=1)

    def _weight(self, batch: Batch) -> Tensor | None:
        """Return the weights [...] of the losses; None: all 1."""
        weight = self._per_head(batch.weight)
        if batch.draws is None or batch.draws.learns is None:
            return weight
        return batch.draws.learns if weight is None else weight * batch.draws.learns
