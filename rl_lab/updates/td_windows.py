"""Temporal-difference learning over windows of an episode, for networks with a carry.

Kapturowski et al. (2019), "Recurrent Experience Replay in Distributed Reinforcement Learning" (R2D2),
https://openreview.net/forum?id=r1lyTjAqYX, after Hausknecht & Stone (2015), "Deep Recurrent Q-Learning for
Partially Observable MDPs", https://arxiv.org/abs/1507.06527.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rl_lab.trees import map_leaves
from rl_lab.types import Array
from rl_lab.updates.td import Batch, Outcome, TDLoss, select

if TYPE_CHECKING:
    from torch import Tensor

    from rl_lab.replay.sequences import Sequences
    from rl_lab.updates.td import Network


class NSteps(NamedTuple):
    """For each step of windows the m steps from it on, m up to n; each array is [T, B]."""

    reward: Array  # float32: of the m steps, discounted
    discount: Array  # float32: gamma ** m
    terminated: Array  # bool: the last of them did
    last: Array  # int64: the place of the last of them in the window


def n_steps_in_windows(reward: Array, terminated: Array, valid: Array, gamma: float, n_steps: int) -> NSteps:
    """Sum rewards until n steps, the episode (a lost life too) or the window [T, B] ends, whichever comes first.

    A step that isn't valid stands for itself alone.
    """
    total, count, going = reward.astype(np.float32), np.ones(reward.shape, np.int64), ~terminated
    for k in range(1, min(n_steps, len(reward))):
        going = going[:-1] & valid[k:]  # of the steps that have one k further on
        total[:-k] += going * np.float32(gamma**k) * reward[k:]
        count[:-k] += going
        going = going & ~terminated[k:]
    last = np.arange(len(reward))[:, None] + count - 1
    ended = np.take_along_axis(terminated, last, axis=0)
    return NSteps(total, np.power(gamma, count).astype(np.float32), ended, last)


def batch_of_windows(drawn: Sequences, gamma: float, n_steps: int, tensor: Callable[[Any], Tensor]) -> Batch:
    """Return one batch of windows; `tensor` moves an array to the device."""
    ahead = n_steps_in_windows(drawn.reward, drawn.terminated, drawn.valid, gamma, n_steps)
    mask = drawn.next_mask
    weight = drawn.learned / drawn.learned.mean()  # the mean over what is learned from
    fields = (
        drawn.obs, drawn.action, ahead.reward, ahead.discount, ahead.terminated.astype("float32"), None,
        None if mask is None else np.take_along_axis(mask, ahead.last[..., None], axis=0),
        (weight if drawn.weight is None else weight * drawn.weight).astype("float32"),
        drawn.state, ahead.last + 1, drawn.opens,
    )  # fmt: skip
    return Batch(*(map_leaves(lambda x: tensor(x).unsqueeze(0), field) for field in fields))


def mixed_priorities(errors: Array, learned: Array, eta: float) -> Array:
    """Return eta max |error| + (1 - eta) mean |error| over the learned steps of each window, [T, B] to [B]."""
    size = np.abs(errors) * learned
    return eta * size.max(axis=0) + (1 - eta) * size.sum(axis=0) / learned.sum(axis=0)


@dataclass(frozen=True)
class WindowedTDLoss(TDLoss):
    """The same over windows: the network is unrolled from the carry that they were acted with.

    Over the burn-in, of which no step counts, both networks only bring their carries up to date: no
    gradient passes its end. Where a window opens an episode there is none; it is learned from as a whole.
    """

    burn_in: int = 0
    """Steps at a window's beginning that are not learned from."""
    gamma: float = 0.99
    """Discount per environment step."""
    n_steps: int = 1
    """The most steps that a target looks ahead."""
    eta: float = 0.9
    """How much the largest error of a window counts for its priority, beside the mean."""
    drops: bool = False
    """The online network drops where it has a gradient; choices never do."""

    def prepare(self, target: Network, batch: Batch) -> Batch:
        """Unroll the target network; windows come one batch at a time."""
        one = select(batch, 0)
        return batch._replace(next_q=_at(one.bootstrap, self._unroll(target, one)).unsqueeze(0))

    def __call__(self, online: Network, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, Q(s, a) [T, B] and its targets [T, B]."""
        q = self._unroll(online, batch)  # [T + 1, B, A]
        return self.of(
            q[:-1], _at(batch.bootstrap, self._chooses(online, batch, q)) if self.double else None, batch
        )

    def _chooses(self, online: Network, batch: Batch, q: Tensor) -> Tensor:
        """Return the values [T + 1, B, A] that double Q-learning chooses by: q, unless some of it was dropped."""
        import torch

        if not self.drops:
            return q.detach()
        with torch.no_grad():
            return self._unroll(online, batch)

    def batch(self, drawn: Sequences, size: int, tensor: Callable[[Any], Tensor]) -> Batch:
        """Return the windows that a replay drew as one batch."""
        return batch_of_windows(drawn, self.gamma, self.n_steps, tensor)

    def errors(self, drawn: Sequences, outcome: Outcome) -> Array:
        """Return how far off each window was, for its priority [B]."""
        errors = (outcome.target - outcome.prediction)[0].cpu().numpy()  # [T, B]
        return mixed_priorities(errors, drawn.learned, self.eta)

    def learned_from(self, drawn: Sequences, outcome: Outcome) -> Outcome:
        """Leave out the burn-in and what lies behind an episode's end."""
        import torch

        learned = torch.as_tensor(drawn.learned, device=outcome.target.device)  # [T, B]
        return outcome._replace(prediction=outcome.prediction[:, learned], target=outcome.target[:, learned])

    def _unroll(self, network: Network, batch: Batch) -> Tensor:
        import torch

        steps, width = batch.action.shape
        never = torch.zeros(steps + 1, width, dtype=torch.bool, device=batch.action.device)
        if self.burn_in == 0:
            return network(batch.obs, batch.state, never)[0]
        opens, k = batch.opens, self.burn_in
        assert opens is not None
        with torch.set_grad_enabled(torch.is_grad_enabled() and bool(opens.any())):
            before, carry = network(map_leaves(lambda x: x[:k], batch.obs), batch.state, never[:k])
        carry = tuple(torch.where(_like(opens, part), part, part.detach()) for part in carry)
        q, _ = network(map_leaves(lambda x: x[k:], batch.obs), carry, never[k:])
        return torch.cat((before, q))


def _at(place: Tensor | None, q: Tensor) -> Tensor:
    """Return the values [T, B, A] at places [T, B] of a window's observations, out of q [T + 1, B, A]."""
    assert place is not None
    return q.gather(0, place.unsqueeze(-1).expand(-1, -1, q.shape[-1]))


def _like(flag: Tensor, part: Tensor) -> Tensor:
    """Return flags [B] with as many axes as a part of the carry, [B, ...]."""
    return flag.reshape(-1, *[1] * (part.ndim - 1))
