"""Temporal-difference targets and losses as pure functions; the targets take numpy arrays and torch tensors alike.

torch is imported by the losses alone, so that tabular agents do without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rl_lab.trees import flatten_leading, map_leaves

if TYPE_CHECKING:
    from torch import Tensor

    from rl_lab.replay.transitions import Transitions
    from rl_lab.types import Array

    Network = Callable[..., tuple[Tensor, Any]]  # observations to (action values [..., A], next carry)


def q_learning_target(reward: Any, discount: Any, terminated: Any, next_q_max: Any) -> Any:
    """Return r + discount * (1 - terminated) * max_a Q(s', a); shapes [B] (Watkins, 1989).

    A truncated episode keeps its bootstrap: only `terminated` zeroes it. For n steps the reward is their
    discounted sum and the discount gamma to the power of the steps that were really used.
    """
    return reward + discount * (1 - terminated) * next_q_max


def double_q_target(
    reward: Any, discount: Any, terminated: Any, next_q_online: Any, next_q_target: Any
) -> Any:
    """Return the target of double Q-learning (van Hasselt et al., 2016, "Deep RL with Double Q-learning").

    Args:
        next_q_online: [B, A] chooses the action.
        next_q_target: [B, A] values it.
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
    """Return h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x, which large values shrink under; any shape.

    Pohlen et al. (2018), "Observe and Look Further", https://arxiv.org/abs/1805.11593. Written without the
    difference, which would cancel near 0.
    """
    return value / ((abs(value) + 1) ** 0.5 + 1) + epsilon * value


def unscaled(value: Any, epsilon: float = 1e-3) -> Any:
    """Return x of h(x): the exact inverse of `rescaled`, without its textbook form's cancellation."""
    root = (1 + 4 * epsilon * (abs(value) + 1 + epsilon)) ** 0.5
    share = (2 - 4 * epsilon / (root + 1 + 2 * epsilon)) / (root + 1)  # (sqrt(|x| + 1) - 1) / |h(x)|
    return value * share * (2 + abs(value) * share)


def _as_it_is(value: Any) -> Any:
    return value


class Scale(NamedTuple):
    """In which scale a network gives values; both functions rise, so that the best action is the same."""

    shrink: Callable[[Any], Any] = _as_it_is  # from discounted rewards to the network's scale
    widen: Callable[[Any], Any] = _as_it_is  # and back


IN_REWARDS = Scale()
RESCALED = Scale(rescaled, unscaled)


# What a Q-network minimises, in torch ----------------------------------------------------------------


class Batch(NamedTuple):
    """K batches for K gradient steps, on the device: of B transitions, or [K, T, B] of windows.

    Transitions have `next_obs`; windows have `state`, `bootstrap` and `opens` instead.
    """

    obs: Any  # [K, B, ...]; windows [K, T + 1, B, ...]
    action: Tensor  # int64 [K, B]
    reward: Tensor  # float32 [K, B], of n steps
    discount: Tensor  # float32 [K, B], gamma to the power of those steps
    terminated: Tensor  # float32 [K, B]
    next_obs: Any  # [K, B, ...]; None for windows
    next_mask: Tensor | None  # bool [K, B, A]
    weight: Tensor | None  # float32 [K, B]: importance; 0 for a window's step that doesn't count; None: all 1
    state: tuple[Tensor, ...] = ()  # the carry before the windows, each [K, B, ...]
    bootstrap: Tensor | None = (
        None  # int64 [K, T, B]: index in the window of the observation to bootstrap from
    )
    opens: Tensor | None = None  # bool [K, B]: the window opens an episode, so its carry is exact
    next_q: Tensor | None = None  # float32 [K, B, A], by the target network


class Outcome(NamedTuple):
    """What K gradient steps found; B stands for the batch's axes."""

    loss: Tensor  # [K]
    norm: Tensor  # [K], of the gradient before it was scaled
    prediction: Tensor  # [K, B]
    target: Tensor  # [K, B]


class Loss(Protocol):
    """All that an update asks of a loss, in the order in which it asks."""

    def batch(self, drawn: Any, size: int, tensor: Callable[[Any], Tensor]) -> Batch:
        """Return what a replay drew as K batches of `size`; `tensor` moves an array to the device."""

    def prepare(self, target: Network, batch: Batch) -> Batch:
        """Add the target network's values for all K batches."""

    def __call__(self, online: Network, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss [], predictions [B] and targets [B] of one of the K batches."""

    def errors(self, drawn: Any, outcome: Outcome) -> Array:
        """Return how far off each transition or window drawn was, float [B], for its priority."""

    def learned_from(self, drawn: Any, outcome: Outcome) -> Outcome:
        """Return the outcome of only those steps that were learned from."""


@dataclass(frozen=True)
class TDLoss:
    """The error of Q(s, a) against targets from a network that stands still."""

    double: bool
    """Let the online network choose the action that the target network values."""
    loss: str
    """"huber" or "squared"."""
    scale: Scale = IN_REWARDS
    """Scale in which the network gives values and errors are measured."""

    def batch(self, drawn: Any, size: int, tensor: Callable[[Any], Tensor]) -> Batch:
        """Split the transitions drawn into batches of `size`."""
        return batch_of_transitions(drawn, max(1, len(drawn.action) // size), tensor)

    def prepare(self, target: Network, batch: Batch) -> Batch:
        """Value the successors of all K batches at once: no gradient step changes the target network."""
        next_q = target(flatten_leading(batch.next_obs))[0]
        return batch._replace(next_q=next_q.unflatten(0, batch.action.shape))

    def __call__(self, online: Network, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, Q(s, a) [B] and its targets [B] of one of the K batches."""
        next_online = _without_gradient(online, batch.next_obs) if self.double else None
        return self.of(online(batch.obs)[0], next_online, batch)

    def of(self, q: Tensor, next_online: Tensor | None, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, Q(s, a) and its targets, given the values q and those of the successors [..., A]."""
        chosen = q.gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
        target = self.targets(next_online, batch)
        assert chosen.shape == target.shape
        return self._mean(chosen, target, batch.weight), chosen, target

    def targets(self, next_online: Tensor | None, batch: Batch) -> Tensor:
        """Return the targets [...]; illegal actions have the value -inf."""
        args = batch.reward, batch.discount, batch.terminated
        assert batch.next_q is not None
        next_q = _legal(self.scale.widen(batch.next_q), batch.next_mask)
        if next_online is None:
            return self.scale.shrink(q_learning_target(*args, next_q.amax(-1)))
        return self.scale.shrink(double_q_target(*args, _legal(next_online, batch.next_mask), next_q))

    def errors(self, drawn: Any, outcome: Outcome) -> Array:
        """Return the temporal-difference errors [B]."""
        return (outcome.target - outcome.prediction).flatten().cpu().numpy()

    def learned_from(self, drawn: Any, outcome: Outcome) -> Outcome:
        """Return the outcome as it is: every transition counts."""
        return outcome

    def _mean(self, q: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        from torch.nn.functional import huber_loss, mse_loss

        loss = huber_loss if self.loss == "huber" else mse_loss
        return loss(q, target) if weight is None else (loss(q, target, reduction="none") * weight).mean()


def batch_of_transitions(drawn: Transitions, steps: int, tensor: Callable[[Any], Tensor]) -> Batch:
    """Split what was drawn into batches for so many gradient steps; `tensor` moves an array to the device."""
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
    """Return the k-th of K batches, or with a slice some of them."""
    return map_leaves(lambda leaf: leaf[k], batch)
