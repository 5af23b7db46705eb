"""Temporal-difference targets and losses as pure functions; the targets take numpy arrays and torch tensors alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from rl_lab.replay.sequences import Sequences
    from rl_lab.replay.transitions import Transitions

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


# What a Q-network minimises, in torch ----------------------------------------------------------------


class Batch(NamedTuple):
    """K batches for K gradient steps, on the device: of B transitions, or [K, T, B] of windows.

    Transitions have `next_obs`; windows have `state` instead, and the successor of obs[:, t] at t + 1.
    """

    obs: Any  # [K, B, ...]; windows [K, T + 1, B, ...]
    action: Tensor  # int64 [K, B]
    reward: Tensor  # float32 [K, B], of n steps
    discount: Tensor  # float32 [K, B], gamma to the power of those steps
    terminated: Tensor  # float32 [K, B]
    next_obs: Any  # [K, B, ...]; None for windows
    next_mask: Tensor | None  # bool [K, B, A]
    weight: Tensor | None  # float32 [K, B]: importance, or of windows which steps count; None: all alike
    state: tuple[Tensor, ...] = ()  # the carry before the windows, each [K, B, ...]
    next_q: Tensor | None = None  # float32 [K, B, A] of the target network


def batch_of_transitions(drawn: Transitions, steps: int, tensor: Callable[[Any], Tensor]) -> Batch:
    """Split what was drawn into batches for so many gradient steps; `tensor` moves an array to the device."""
    fields = (
        drawn.obs, drawn.action, drawn.reward, drawn.discount, drawn.terminated.astype("float32"),
        drawn.next_obs, drawn.next_mask, drawn.weight,
    )  # fmt: skip
    return Batch(
        *(map_leaves(lambda x: tensor(x.reshape(steps, -1, *x.shape[1:])), field) for field in fields)
    )


def batch_of_windows(drawn: Sequences, gamma: float, tensor: Callable[[Any], Tensor]) -> Batch:
    """Return one batch of windows; `tensor` moves an array to the device."""
    weight = drawn.valid / drawn.valid.mean()
    fields = (
        drawn.obs, drawn.action, drawn.reward, 0 * drawn.reward + gamma, drawn.terminated.astype("float32"),
        None, drawn.next_mask, weight.astype("float32"), drawn.state,
    )  # fmt: skip
    return Batch(*(map_leaves(lambda x: tensor(x).unsqueeze(0), field) for field in fields))


@dataclass(frozen=True)
class TDLoss:
    """The error of Q(s, a) against targets from a network that stands still."""

    double: bool
    """Let the online network choose the action that the target network values."""
    loss: str
    """"huber" or "squared"."""

    def prepare(self, target: Network, batch: Batch) -> Batch:
        """Value the successors of all K batches at once: no gradient step changes the target network."""
        return batch._replace(next_q=target(together(batch.next_obs))[0].unflatten(0, batch.action.shape))

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
        """Return the targets [...]; illegal actions are worth nothing."""
        args = batch.reward, batch.discount, batch.terminated
        assert batch.next_q is not None
        next_q = _legal(batch.next_q, batch.next_mask)
        if next_online is None:
            return q_learning_target(*args, next_q.amax(-1))
        return double_q_target(*args, _legal(next_online, batch.next_mask), next_q)

    def _mean(self, q: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        from torch.nn.functional import huber_loss, mse_loss

        loss = huber_loss if self.loss == "huber" else mse_loss
        return loss(q, target) if weight is None else (loss(q, target, reduction="none") * weight).mean()


@dataclass(frozen=True)
class WindowedTDLoss(TDLoss):
    """The same over windows: the network is unrolled from the carry that they were acted with.

    Weights count each step that belongs to the window's episode; they have a mean of 1.
    """

    def prepare(self, target: Network, batch: Batch) -> Batch:
        """Unroll the target network; windows come one batch at a time."""
        one = select(batch, 0)
        return batch._replace(next_q=self._unroll(target, one)[1:].unsqueeze(0))

    def __call__(self, online: Network, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, Q(s, a) [T, B] and its targets [T, B]."""
        q = self._unroll(online, batch)  # [T + 1, B, A]
        return self.of(q[:-1], q[1:].detach() if self.double else None, batch)

    def _unroll(self, network: Network, batch: Batch) -> Tensor:
        import torch

        steps, width = batch.action.shape
        none = torch.zeros(steps + 1, width, dtype=torch.bool, device=batch.action.device)
        return network(batch.obs, batch.state, none)[0]


def _without_gradient(network: Network, obs: Any) -> Tensor:
    import torch

    with torch.no_grad():
        return network(obs)[0]


def _legal(q: Tensor, mask: Tensor | None) -> Tensor:
    return q if mask is None else q.masked_fill(~mask, float("-inf"))


def together(tree: Any) -> Any:
    """Join the two leading axes of every tensor of a tree."""
    return map_leaves(lambda leaf: leaf.flatten(0, 1), tree)


def select(batch: Batch, k: int) -> Batch:
    """Return the k-th of K batches."""
    return Batch(*(map_leaves(lambda leaf: leaf[k], field) for field in batch))


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to every leaf of nested dicts and tuples; None stays None."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: map_leaves(function, part) for key, part in tree.items()}
    if isinstance(tree, tuple):
        return tuple(map_leaves(function, part) for part in tree)
    return function(tree)
