"""Minibatches of a rollout: shuffled steps, or for networks with a memory the whole sequences of some environments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from rl_lab.trees import map_leaves


class Minibatch(NamedTuple):
    """Steps [B] to learn from, or sequences [T, B] with the carry before them; then [B] below stands for [T, B]."""

    obs: Any  # [B, ...]
    action: Any  # int64 [B] or [B, K], float32 [B, D], or a tuple of them: as drawn (before it is clipped to the space)
    log_prob: Tensor  # float32 [B], under the policy that acted
    value: Tensor  # float32 [B], estimated when acting
    advantage: Tensor  # float32 [B]
    target: Tensor  # float32 [B], for the value
    mask: Tensor | None = None  # bool [B, A]
    is_first: Tensor | None = None  # bool [T, B], only for sequences
    state: tuple[Tensor, ...] = ()  # only for sequences, each part [B, ...]


class ReturnBatch(NamedTuple):
    """Steps [B] whose returns an action-value network is to learn, or sequences [T, B] with the carry before them."""

    obs: Any  # [B, ...]
    action: Tensor  # int64 [B], counted from 0
    target: Tensor  # float32 [B]
    is_first: Tensor | None = None  # bool [T, B], only for sequences
    state: tuple[Tensor, ...] = ()  # only for sequences, each part [B, ...]
    weight: Tensor | None = None  # of importance; every step of a rollout has the same


SomeBatch = TypeVar("SomeBatch", Minibatch, ReturnBatch)


def minibatches(
    whole: SomeBatch, size: int | None, epochs: int, rng: np.random.Generator
) -> Iterator[SomeBatch]:
    """Yield the minibatches of `epochs` passes over a rollout, each pass in a new random order.

    Sequences stay whole: environments are shuffled instead of steps, and a minibatch takes as many as fit.

    Args:
        whole: the rollout.
        size: steps of a minibatch, though the last one may have fewer and sequences need at least one
            environment; None: the whole rollout.
    """
    axis = whole.target.ndim - 1  # of the steps, or of the environments
    count, taken = _parts_of(whole, size)
    for _ in range(epochs):
        if taken >= count:
            yield whole
            continue
        order = torch.from_numpy(rng.permutation(count)).to(whole.target.device)
        shuffled = _part(whole, lambda leaf, at: leaf.index_select(at, order), axis)  # noqa: B023
        for start in range(0, count, taken):
            length = min(taken, count - start)
            yield _part(shuffled, lambda leaf, at: leaf.narrow(at, start, length), axis)  # noqa: B023


def number_of_minibatches(whole: SomeBatch, size: int | None, epochs: int) -> int:
    """Return how many `minibatches` of the same arguments there are."""
    count, taken = _parts_of(whole, size)
    return epochs * -(-count // taken)


def _parts_of(whole: SomeBatch, size: int | None) -> tuple[int, int]:
    """Return how many steps or environments a rollout has, and how many of them a minibatch takes."""
    count = whole.target.shape[-1]
    return count, count if size is None else max(1, min(count, size * count // whole.target.numel()))


def _part(batch: SomeBatch, take: Callable[[Tensor, int], Tensor], axis: int) -> SomeBatch:
    """Take a part of every tensor along the axis of steps or environments; in the carry that is axis 0."""
    state = map_leaves(lambda leaf: take(leaf, 0), batch.state)
    rest = map_leaves(lambda leaf: take(leaf, axis), batch._replace(state=()))
    return rest._replace(state=state)
