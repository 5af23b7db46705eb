"""Parts of a rollout to learn from: shuffled steps, or with a memory whole sequences of environments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rl_lab.trees import map_leaves


class Minibatch(NamedTuple):
    """Steps [B] to learn from, or whole sequences [T, B] with the carry before them."""

    obs: Any  # [B, ...]
    action: Tensor  # int64 [B] or float32 [B, D], as drawn
    log_prob: Tensor  # float32 [B], of the policy that acted
    value: Tensor  # float32 [B], of that time
    advantage: Tensor  # float32 [B]
    target: Tensor  # float32 [B], of the value
    mask: Tensor | None = None  # bool [B, A]
    is_first: Tensor | None = None  # bool [T, B], of sequences
    state: tuple[Tensor, ...] = ()  # of sequences, each [B, ...]


def minibatches(
    whole: Minibatch, size: int | None, epochs: int, rng: np.random.Generator
) -> Iterator[Minibatch]:
    """Yield the minibatches of so many passes over a rollout, each in an order of its own.

    Sequences stay whole: then environments are shuffled, and as many go together as fit.

    Args:
        size: steps of a minibatch (the last one may have fewer), of at least one environment; None: all.
    """
    axis = whole.log_prob.ndim - 1  # that of the steps, or of the environments
    count = whole.log_prob.shape[axis]
    taken = count if size is None else max(1, size * count // whole.log_prob.numel())
    for _ in range(epochs):
        if taken >= count:
            yield whole
            continue
        order = torch.from_numpy(rng.permutation(count)).to(whole.log_prob.device)
        shuffled = _part(whole, lambda leaf, at: leaf.index_select(at, order), axis)  # noqa: B023
        for start in range(0, count, taken):
            length = min(taken, count - start)
            yield _part(shuffled, lambda leaf, at: leaf.narrow(at, start, length), axis)  # noqa: B023


def _part(batch: Minibatch, take: Callable[[Tensor, int], Tensor], axis: int) -> Minibatch:
    """Take a part of every tensor along the axis of steps or environments, which the carry has at 0."""
    state = map_leaves(lambda leaf: take(leaf, 0), batch.state)
    rest = map_leaves(lambda leaf: take(leaf, axis), batch._replace(state=()))
    return rest._replace(state=state)
