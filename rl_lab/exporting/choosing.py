"""How actions follow from a network's outputs, as torch modules: the greedy choice of each kind of action space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.environments.actions import (
    Composite,
    action_dtype,
    action_shape,
    counts_of,
    first_of,
    leaf_spaces,
)
from rl_lab.exporting.entries import Entry, Mean, OneOf
from rl_lab.nn.distributions import WHOLE, GaussianHead
from rl_lab.nn.joint_distributions import Layout, few_values
from rl_lab.types import Array


class Choice(nn.Module):
    """Maps the scores of all values of an action, [N, M], and a mask bool [N, M] or None, to actions [N, ...]."""

    mask_size: int  # values that a mask tells about; 0 without masks
    num_scores: int

    def entries(self) -> list[Entry]:
        """Return the numbers of an action in their order."""
        raise NotImplementedError

    def flat(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Return the actions float64 [N, D], flattened."""
        return self(scores, mask).flatten(1).double()


class First(Choice):
    """The first legal action with the largest score, for Discrete spaces and whatever has one entry."""

    def __init__(self, count: int, first: Array, dtype: Any):
        super().__init__()
        self.mask_size = self.num_scores = count
        self.shape, self.first, self.dtype = first.shape, int(first.ravel()[0]), _torch_dtype(dtype)

    def entries(self) -> list[Entry]:
        """Return the only one."""
        return [OneOf(self.first, self.num_scores)]

    def forward(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Return the actions [N, ...]."""
        index = _legal(scores, mask).argmax(-1) + self.first
        return index.reshape(-1, *self.shape).to(self.dtype)

    def flat(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Return the actions float64 [N, 1]."""
        return self(scores, mask).reshape(-1, 1).double()


class EachEntry(Choice):
    """The first legal value with the largest score of each entry.

    Args:
        frees: an entry none of whose values is legal has all of them, instead of its first.
    """

    table: Tensor
    exists: Tensor
    first: Tensor

    def __init__(self, counts: Sequence[int], first: Array, shape: tuple[int, ...], dtype: Any, frees: bool):
        super().__init__()
        layout = Layout(tuple(counts))
        self.mask_size = self.num_scores = layout.total
        self.shape, self.dtype, self.frees = shape, _torch_dtype(dtype), frees
        self.register_buffer("table", torch.from_numpy(layout.table.copy()))
        self.register_buffer("exists", torch.from_numpy(layout.exists.copy()))
        self.register_buffer("first", torch.from_numpy(first.astype(np.int64).ravel()))

    def entries(self) -> list[Entry]:
        """Return one for each count."""
        return list(map(OneOf, self.first.tolist(), self.exists.sum(-1).tolist()))

    def forward(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Return the actions [N, ...]."""
        allowed = self.exists
        if mask is not None:
            told = mask[:, self.table] & self.exists
            allowed = torch.where(told.any(-1, keepdim=True), told, self.exists) if self.frees else told
        index = _legal(scores[:, self.table], allowed).argmax(-1) + self.first
        return index.reshape(-1, *self.shape).to(self.dtype)


class Means(Choice):
    """The means of normal distributions, clipped to the bounds, and rounded where the space holds whole numbers."""

    low: Tensor
    high: Tensor
    mask_size = 0

    def __init__(self, space: spaces.Box):
        super().__init__()
        self.shape, self.num_scores = space.shape, int(np.prod(space.shape))
        self.dtype, self.rounds = _torch_dtype(space.dtype), np.dtype(space.dtype).kind != "f"
        low, high = space.low, space.high
        if self.rounds:
            low, high = (np.clip(b.astype(np.float64), -WHOLE, WHOLE) for b in (low, high))
        self.register_buffer("low", torch.from_numpy(np.array(low)))
        self.register_buffer("high", torch.from_numpy(np.array(high)))

    def entries(self) -> list[Entry]:
        """Return one for each mean."""
        return [Mean(self.rounds)] * self.num_scores

    def forward(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Return the actions [N, ...]."""
        shaped = scores.reshape(scores.shape[0], *self.shape)
        shaped = shaped.round().double() if self.rounds else shaped.to(self.dtype)
        return torch.minimum(torch.maximum(shaped, self.low), self.high).to(self.dtype)


class Parts(Choice):
    """The choices of the parts of a Dict or Tuple space, flattened side by side, float64 [N, D]."""

    def __init__(self, choices: Sequence[Choice]):
        super().__init__()
        self.choices = nn.ModuleList(choices)
        self.mask_sizes = [choice.mask_size for choice in choices]
        self.mask_size, self.num_scores = sum(self.mask_sizes), sum(c.num_scores for c in choices)

    def entries(self) -> list[Entry]:
        """Return those of the parts, side by side."""
        return [entry for choice in self.choices for entry in choice.entries()]  # type: ignore[operator]

    def forward(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Return the actions float64 [N, D]."""
        chosen, at, told = [], 0, 0
        for choice in self.choices:
            assert isinstance(choice, Choice)
            part = None if mask is None or not choice.mask_size else mask[:, told : told + choice.mask_size]
            chosen.append(choice.flat(scores[:, at : at + choice.num_scores], part))
            at, told = at + choice.num_scores, told + choice.mask_size
        return torch.cat(chosen, 1)


def choice_of(space: spaces.Space) -> Choice:
    """Return how a distribution's most likely action follows from its parameters, side by side."""
    if isinstance(space, Composite):
        return Parts([choice_of(leaf) for leaf in leaf_spaces(space)])
    if isinstance(space, spaces.Discrete):
        return First(int(space.n), first_of(space), np.int64)
    if isinstance(space, spaces.Box):
        few = few_values(space)
        return Means(space) if few is None else EachEntry(few, space.low, space.shape, space.dtype, True)
    counts = counts_of(space)
    assert counts is not None
    return EachEntry(counts, first_of(space), tuple(space.shape or ()), space.dtype, True)


def choice_of_classes(space: spaces.Space) -> Choice:
    """Return how an action follows from the outputs of a classifier or of action values: entry by entry."""
    leaves = leaf_spaces(space)
    counts = [n for leaf in leaves for n in counts_of(leaf) or ()]
    first = np.concatenate([first_of(leaf).astype(np.int64).ravel() for leaf in leaves])
    shape, dtype = action_shape(space), action_dtype(space)
    if len(counts) == 1:
        return First(counts[0], first.reshape(shape), dtype)
    return EachEntry(counts, first, shape, dtype, False)


def side_by_side(parameters: Any) -> Tensor:
    """Return what a policy's head gives as scores [N, M]: logits and means, without standard deviations."""
    return parameters if isinstance(parameters, Tensor) else torch.cat(list(parameters), 1)


class MeansAlone(nn.Module):
    """The head of a normal distribution without its deviations."""

    def __init__(self, head: GaussianHead):
        super().__init__()
        self.head = nn.Linear(head.in_features, head.out_features)
        self.head.weight, self.head.bias = head.weight, head.bias

    def forward(self, features: Tensor) -> Tensor:
        """Return the means [N, D]."""
        return self.head(features)


def _legal(scores: Tensor, mask: Tensor | None) -> Tensor:
    return scores if mask is None else scores.masked_fill(~mask, float("-inf"))


def _torch_dtype(dtype: Any) -> torch.dtype:
    return torch.from_numpy(np.zeros(1, dtype)).dtype
