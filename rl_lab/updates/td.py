"""Temporal-difference targets and losses. The targets are pure functions of numpy arrays or torch tensors.

Only the losses import torch, so tabular agents don't need it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rl_lab.trees import flatten_leading, map_leaves

if TYPE_CHECKING:
    from torch import Tensor

    from rl_lab.replay.transitions import Transitions
    from rl_lab.types import Array

    Network = Callable[..., tuple[Tensor, Any]]  # maps observations to (action values [..., A], next carry)


def q_learning_target(reward: Any, discount: Any, terminated: Any, next_q_max: Any) -> Any:
    """Return r + discount * (1 - terminated) * max_a Q(s', a) (Watkins, 1989); all arrays are [B].

    Only `terminated` removes the bootstrap: a truncated episode keeps it. For n-step targets the reward is the
    discounted sum of the steps used, and the discount is gamma to the power of their number.
    """
    return reward + discount * (1 - terminated) * next_q_max


def double_q_target(
    reward: Any, discount: Any, terminated: Any, next_q_online: Any, next_q_target: Any
) -> Any:
    """Return the target of double Q-learning, [B].

    van Hasselt et al. (2016), "Deep Reinforcement Learning with Double Q-learning",
    https://arxiv.org/abs/1509.06461.

    Args:
        reward: [B], like discount and terminated; see `q_learning_target`.
        next_q_online: values that choose the action, [B, A].
        next_q_target: values of the chosen action are taken from these, [B, A].
    """
    best = next_q_online.argmax(-1)[..., None]
    chosen = (
        next_q_target.gather(-1, best)
        if hasattr(next_q_target, "gather")
        else _take_along(next_q_target, best)
    )
    return q_learning_target(reward, discount, terminated, chosen[..., 0])


def _take_along(values: Any, index: Any) -> Any:
    import numpy as np

    return np.take_along_axis(values, index, axis=-1)


# Scales of values ------------------------------------------------------------------------------------


def rescaled(value: Any, epsilon: float = 1e-3) -> Any:
    """Return h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x, which shrinks large values; any shape.

    Pohlen et al. (2018), "Observe and Look Further", https://arxiv.org/abs/1805.11593. The code avoids the
    difference, which would lose precision near 0.
    """
    return value / ((abs(value) + 1) ** 0.5 + 1) + epsilon * value


def unscaled(value: Any, epsilon: float = 1e-3) -> Any:
    """Return the x for which `rescaled` gives `value`; any shape. The textbook form would lose precision near 0."""
    root = (1 + 4 * epsilon * (abs(value) + 1 + epsilon)) ** 0.5
    share = (2 - 4 * epsilon / (root + 1 + 2 * epsilon)) / (root + 1)  # (sqrt(|x| + 1) - 1) / |h(x)|
    return value * share * (2 + abs(value) * share)


def _identity(value: Any) -> Any:
    return value


class Scale(NamedTuple):
    """The scale of a network's values. Both functions are increasing, so the best action is the same in any scale."""

    shrink: Callable[[Any], Any] = _identity  # from discounted rewards to the network's scale
    widen: Callable[[Any], Any] = _identity  # its inverse


IDENTITY_SCALE = Scale()
RESCALED = Scale(rescaled, unscaled)


# Losses of a Q-network, in torch ---------------------------------------------------------------------


class Batch(NamedTuple):
    """K batches for K gradient steps, on the device: each of B transitions, or of B windows of T steps.

    For windows, [K, B] below stands for [K, T, B] unless stated otherwise. Transitions have `next_obs`; windows
    have `state`, `bootstrap` and `opens` instead.
    """

    obs: Any  # [K, B, ...]; windows: [K, T + 1, B, ...]
    action: Tensor  # int64 [K, B]
    reward: Tensor  # float32 [K, B]: discounted sum over up to n steps
    discount: Tensor  # float32 [K, B]: gamma to the power of the number of those steps
    terminated: Tensor  # float32 [K, B]
    next_obs: Any  # [K, B, ...]; windows: None
    next_mask: Tensor | None  # bool [K, B, A]
    weight: Tensor | None  # float32 [K, B]: importance weights, 0 for steps not learned from; None: all 1
    state: tuple[Tensor, ...] = ()  # windows: the carry before them, each part [K, B, ...]
    bootstrap: Tensor | None = None  # windows: int64 [K, T, B], index of the observation to bootstrap from
    opens: Tensor | None = None  # windows: bool [K, B], the window opens an episode, so its carry is exact
    next_q: Tensor | None = None  # float32 [K, B, A]: of the target network; outputs with a rule (`returns`)
    now_q: Tensor | None = None  # the same at `obs`, for rules that need it
    draws: Any = None  # what is drawn anew for every batch, `draws.Draws`


class Outcome(NamedTuple):
    """The figures of K gradient steps."""

    loss: Tensor  # [K]
    norm: Tensor  # [K]: of the gradient before scaling
    prediction: Tensor  # [K, B]; windows: [K, T, B]
    target: Tensor  # [K, B]; windows: [K, T, B]
    error: Tensor | None = None  # the same, for the priorities; None: target - prediction


class Loss(Protocol):
    """The methods of a loss that an update calls, in the order of the calls.

    Batches are `Batch`es, or whatever else `batch` returns: a named tuple with `action` [K, ...].
    """

    def batch(self, drawn: Any, size: int, tensor: Callable[[Any], Tensor]) -> Any:
        """Return what was drawn as K batches of `size`: transitions [K, B, ...] or windows [K, T, B, ...].

        Args:
            drawn: `Transitions` [K * B, ...], or `Sequences`.
            tensor: moves an array to the device.
        """

    def add_next_values(self, target: Network, batch: Any) -> Any:
        """Return all K batches with the target network's values, `next_q`, where the loss needs any."""

    def __call__(self, online: Network, batch: Any) -> tuple[Tensor, ...]:
        """Return the loss [], predictions, targets and perhaps errors, [B] or [T, B], of one of the K batches."""

    def errors(self, drawn: Any, outcome: Outcome) -> Array:
        """Return the error of each transition or window drawn, float [B], which sets its priority."""

    def select_learned(self, drawn: Any, outcome: Outcome) -> Outcome:
        """Return the outcome without the predictions and targets of steps that weren't learned from."""


class Rule(Protocol):
    """What is learned of a batch instead of means, such as distributions: `returns.ReturnRule`."""

    @property
    def needs_current(self) -> bool:
        """Whether the target network's outputs at the current observations are needed, `now_q`."""

    def __call__(self, outputs: Tensor, next_online: Tensor | None, batch: Batch) -> tuple[Tensor, ...]:
        """Return the loss [], means, means of targets and errors, from outputs at `obs` and at the successors."""


@dataclass(frozen=True)
class TDLoss:
    """The loss of Q(s, a) on transitions, against targets from a network that is held fixed."""

    double: bool
    """Let the online network choose the action that the target network values."""
    loss: str
    """"huber" or "squared"."""
    scale: Scale = IDENTITY_SCALE
    """Scale of the network's values, in which errors are measured too."""
    rule: Rule | None = field(default=None, kw_only=True)
    """What is learned of a batch instead of means; None: means."""

    def batch(self, drawn: Any, size: int, tensor: Callable[[Any], Tensor]) -> Batch:
        """Split the transitions drawn into K batches [K, size, ...]; `tensor` moves an array to the device."""
        return batch_of_transitions(drawn, max(1, len(drawn.action) // size), tensor)

    def add_next_values(self, target: Network, batch: Batch) -> Batch:
        """Evaluate the successors of all K batches at once, as gradient steps don't change the target network."""
        next_q = target(flatten_leading(batch.next_obs))[0]
        batch = batch._replace(next_q=next_q.unflatten(0, batch.action.shape))
        if self.rule is None or not self.rule.needs_current:
            return batch
        now_q = target(flatten_leading(batch.obs))[0]
        return batch._replace(now_q=now_q.unflatten(0, batch.action.shape))

    def __call__(self, online: Network, batch: Batch) -> tuple[Tensor, ...]:
        """Return the loss [], Q(s, a) [B] and its targets [B] of one of the K batches."""
        next_online = _without_gradient(online, batch.next_obs) if self.double else None
        return self.from_values(online(batch.obs)[0], next_online, batch)

    def from_values(self, q: Tensor, next_online: Tensor | None, batch: Batch) -> tuple[Tensor, ...]:
        """Return the loss [], Q(s, a) [...] and its targets [...] of one of the K batches.

        Args:
            q: the online network's values [..., A] of the batch's steps.
            next_online: its values [..., A] of their successors; None without double Q-learning.
        """
        if self.rule is not None:
            return self.rule(q, next_online, batch)
        chosen = q.gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
        target = self.targets(next_online, batch)
        assert chosen.shape == target.shape
        return self._mean(chosen, target, batch.weight), chosen, target

    def targets(self, next_online: Tensor | None, batch: Batch) -> Tensor:
        """Return the targets [...], in which illegal actions have the value -inf; `next_online` is [..., A] or None."""
        args = batch.reward, batch.discount, batch.terminated
        assert batch.next_q is not None
        next_q = _legal(self.scale.widen(batch.next_q), batch.next_mask)
        if next_online is None:
            return self.scale.shrink(q_learning_target(*args, next_q.amax(-1)))
        return self.scale.shrink(double_q_target(*args, _legal(next_online, batch.next_mask), next_q))

    def errors(self, drawn: Any, outcome: Outcome) -> Array:
        """Return the temporal-difference errors [B]."""
        return errors_of(outcome).flatten().cpu().numpy()

    def select_learned(self, drawn: Any, outcome: Outcome) -> Outcome:
        """Return the outcome as it is: every transition counts."""
        return outcome

    def _mean(self, q: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        from torch.nn.functional import huber_loss, mse_loss

        loss = huber_loss if self.loss == "huber" else mse_loss
        return loss(q, target) if weight is None else (loss(q, target, reduction="none") * weight).mean()


def errors_of(outcome: Outcome) -> Tensor:
    """Return the errors that set priorities, [K, B] or for windows [K, T, B]."""
    return outcome.target - outcome.prediction if outcome.error is None else outcome.error


def batch_of_transitions(drawn: Transitions, steps: int, tensor: Callable[[Any], Tensor]) -> Batch:
    """Split transitions [K * B, ...] into batches [K, B, ...] for K = `steps`; `tensor` moves arrays to the device."""
    fields: Any = (
        drawn.obs, drawn.action, drawn.reward, drawn.discount, drawn.terminated.astype("float32"),
        drawn.next_obs, drawn.next_mask, drawn.weight,
    )  # fmt: skip
    return map_leaves(lambda x: tensor(x.reshape(steps, -1, *x.shape[1:])), Batch(*fields))


def _without_gradient(network: Network, obs: Any) -> Tensor:
    import torch

    with torch.no_grad():
        return network(obs)[0]


def _legal(q: Tensor, mask: Tensor | None) -> Tensor:
    return q if mask is None else q.masked_fill(~mask, float("-inf"))


def select(batch: Batch, k: int | slice) -> Batch:
    """Return the k-th of K batches, without the leading axis, or a slice of the K batches."""
    return map_leaves(lambda leaf: leaf[k], batch)
