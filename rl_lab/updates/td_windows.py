"""Temporal-difference learning on windows of an episode, for networks with a carry.

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
from rl_lab.updates.td import Batch, Outcome, TDLoss, errors_of, select

if TYPE_CHECKING:
    from torch import Tensor

    from rl_lab.replay.sequences import Sequences
    from rl_lab.updates.td import Network


class NSteps(NamedTuple):
    """For each step of B windows, the sum over the m steps that begin with it, m up to n; each array is [T, B]."""

    reward: Array  # float32: discounted sum over the m steps
    discount: Array  # float32: gamma ** m
    terminated: Array  # bool: of the last of the m steps
    last: Array  # int64: index in the window of the last of the m steps


def n_steps_in_windows(reward: Array, terminated: Array, valid: Array, gamma: float, n_steps: int) -> NSteps:
    """Sum rewards over n steps, or until the episode (or a life) or the window ends; each argument array is [T, B].

    A step that isn't valid is summed alone.
    """
    total, count, going = reward.astype(np.float32), np.ones(reward.shape, np.int64), ~terminated
    for k in range(1, min(n_steps, len(reward))):
        going = going[:-1] & valid[k:]  # only steps with another one k steps later in the window
        total[:-k] += going * np.float32(gamma**k) * reward[k:]
        count[:-k] += going
        going = going & ~terminated[k:]
    last = np.arange(len(reward))[:, None] + count - 1
    ended = np.take_along_axis(terminated, last, axis=0)
    return NSteps(total, np.power(gamma, count).astype(np.float32), ended, last)


def batch_of_windows(drawn: Sequences, gamma: float, n_steps: int, tensor: Callable[[Any], Tensor]) -> Batch:
    """Return windows [T, B, ...] as a single batch [1, T, B, ...]; `tensor` moves an array to the device."""
    ahead = n_steps_in_windows(drawn.reward, drawn.terminated, drawn.valid, gamma, n_steps)
    mask = drawn.next_mask
    weight = drawn.learned / drawn.learned.mean()  # the loss is the mean over steps that are learned from
    fields = (
        drawn.obs, drawn.action, ahead.reward, ahead.discount, ahead.terminated.astype("float32"), None,
        None if mask is None else np.take_along_axis(mask, ahead.last[..., None], axis=0),
        (weight if drawn.weight is None else weight * drawn.weight).astype("float32"),
        drawn.state, ahead.last + 1, drawn.opens,
    )  # fmt: skip
    return Batch(*(map_leaves(lambda x: tensor(x).unsqueeze(0), field) for field in fields))


def mixed_priorities(errors: Array, learned: Array, eta: float) -> Array:
    """Return eta * max |error| + (1 - eta) * mean |error| of each window, [B] (Kapturowski et al., 2019).

    Args:
        errors: temporal-difference errors, [T, B].
        learned: bool [T, B]: the steps that count.
    """
    size = np.abs(errors) * learned
    return eta * size.max(axis=0) + (1 - eta) * size.sum(axis=0) / learned.sum(axis=0)


@dataclass(frozen=True)
class WindowedTDLoss(TDLoss):
    """The loss of Q(s, a) on windows, in which the network is unrolled from the stored carry.

    During the burn-in both networks only bring their carries up to date: its steps aren't learned from, and no
    gradient flows back into it. A window that opens an episode has no burn-in: all of it is learned from.
    """

    burn_in: int = 0
    """Steps at a window's beginning that are not learned from."""
    gamma: float = 0.99
    """Discount per environment step."""
    n_steps: int = 1
    """Steps that a target looks ahead at most."""
    eta: float = 0.9
    """Weight of the largest error in a window's priority; the mean error has weight 1 - eta."""
    has_dropout: bool = False
    """Whether the online network has dropout, which must not affect the choice of actions."""

    def add_next_values(self, target: Network, batch: Batch) -> Batch:
        """Return the batch with the target network's values at the bootstrap observations; windows have K = 1."""
        one = select(batch, 0)
        q = self._unroll(target, one)
        batch = batch._replace(next_q=_at(one.bootstrap, q).unsqueeze(0))
        if self.rule is None or not self.rule.needs_current:
            return batch
        return batch._replace(now_q=q[:-1].unsqueeze(0))

    def __call__(self, online: Network, batch: Batch) -> tuple[Tensor, ...]:
        """Return the loss [], Q(s, a) [T, B] and its targets [T, B]."""
        q = self._unroll(online, batch)  # [T + 1, B, A]
        next_online = _at(batch.bootstrap, self._selecting_values(online, batch, q)) if self.double else None
        return self.from_values(q[:-1], next_online, batch)

    def _selecting_values(self, online: Network, batch: Batch, q: Tensor) -> Tensor:
        """Return the values [T + 1, B, A] by which double Q-learning selects actions: q, but without dropout."""
        import torch

        if not self.has_dropout:
            return q.detach()
        with torch.no_grad():
            return self._unroll(online, batch)

    def batch(self, drawn: Sequences, size: int, tensor: Callable[[Any], Tensor]) -> Batch:
        """Return the windows drawn as a single batch [1, T, B, ...]; `tensor` moves an array to the device."""
        return batch_of_windows(drawn, self.gamma, self.n_steps, tensor)

    def errors(self, drawn: Sequences, outcome: Outcome) -> Array:
        """Return the error of each window, which sets its priority, float [B]."""
        errors = errors_of(outcome)[0].cpu().numpy()  # [T, B]
        return mixed_priorities(errors, drawn.learned, self.eta)

    def select_learned(self, drawn: Sequences, outcome: Outcome) -> Outcome:
        """Return the outcome without the burn-in and the steps after an episode's end."""
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
    """Return the values [T, B, ...] at the indices `place` [T, B] into the time axis of q [T + 1, B, ...]."""
    assert place is not None
    return q.gather(0, place.reshape(*place.shape, *[1] * (q.ndim - 2)).expand(-1, -1, *q.shape[2:]))


def _like(flag: Tensor, part: Tensor) -> Tensor:
    """Return flags [B] reshaped to broadcast against a part of the carry, [B, ...]."""
    return flag.reshape(-1, *[1] * (part.ndim - 1))
