"""Distributions over actions of several parts: MultiDiscrete, MultiBinary, Dict and Tuple, and small Boxes of integers.

The parts are independent given the observation, so the log-probability of an action is the sum of those of its parts,
and so is the entropy. An action mask is bool [N, M]: the values of every discrete entry side by side, as in
sb3-contrib's MaskablePPO; an entry none of whose values is legal has all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.environments.actions import Composite, action_dtype, counts_of, first_of, leaf_spaces
from rl_lab.nn.distributions import (
    Categorical,
    CategoricalHead,
    DiagonalGaussian,
    Distribution,
    Drawn,
    Evaluate,
    categorical,
    draw_index,
)
from rl_lab.policies import legal
from rl_lab.types import Array, UsageError

MOST_VALUES = 256  # of an entry of a Box of integers that is drawn from a categorical distribution

# Several categorical entries -------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """Where the logits of K entries, side by side in one vector [sum of counts], lie in a table [K, largest count]."""

    counts: tuple[int, ...]

    @cached_property
    def total(self) -> int:
        """The number of logits."""
        return sum(self.counts)

    @cached_property
    def table(self) -> Array:
        """The position of each value's logit, int64 [K, largest count]; 0 where an entry has no such value."""
        starts = np.cumsum([0, *self.counts[:-1]])
        return np.where(self.exists, starts[:, None] + np.arange(max(self.counts)), 0)

    @cached_property
    def exists(self) -> Array:
        """Which places of the table are values, bool [K, largest count]."""
        return np.arange(max(self.counts)) < np.array(self.counts)[:, None]


@dataclass(frozen=True)
class EvaluateEntries:
    """Evaluates actions int64 [..., K], counted from 0, under the logits [..., sum of counts] of their entries."""

    layout: Layout

    def __call__(self, logits: Tensor, action: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the log-probability and the entropy, [...] each; mask is bool [..., sum of counts]."""
        table, exists = (
            torch.as_tensor(x, device=logits.device) for x in (self.layout.table, self.layout.exists)
        )
        allowed = exists.expand(*logits.shape[:-1], *exists.shape)
        if mask is not None:
            told = mask[..., table] & exists
            allowed = torch.where(told.any(-1, keepdim=True), told, allowed)
        log_prob, entropy = categorical(logits[..., table], action, allowed)
        return log_prob.sum(-1), entropy.sum(-1)


class Categoricals:
    """Independent categorical distributions over the K flattened entries of a space of whole numbers.

    Args:
        counts: how many values each entry has, [K].
        first: the smallest value of each entry, in the space's shape and dtype.
    """

    def __init__(self, counts: Sequence[int], first: Array):
        self._layout, self._first = Layout(tuple(counts)), first
        self.mask_size = self._layout.total
        self.evaluate: Evaluate = EvaluateEntries(self._layout)

    def make_head(self, features: int) -> nn.Module:
        """Return the layer that computes the logits [..., sum of counts]."""
        return CategoricalHead(features, self._layout.total)

    def draw(self, parameters: Array, rng: np.random.Generator, mask: Array | None) -> Drawn:
        """Draw actions [N, ...]; the raw ones are int64 [N, K], counted from 0."""
        index, log_prob = draw_index(self._logits(parameters, mask), rng)
        return Drawn(self._values(index), index, log_prob.sum(-1))

    def mode(self, parameters: Array, mask: Array | None) -> Array:
        """Return the actions [N, ...] with the first largest logit of each entry."""
        return self._values(self._logits(parameters, mask).argmax(-1))

    def probabilities(self, parameters: Array, mask: Array | None) -> Array | None:
        """Return None: there is one distribution per entry."""
        return None

    def figures(self, parameters: Array, mask: Array | None) -> dict[str, Array]:
        """Return `logits` [N, sum of counts], -inf for illegal values of entries that have a legal one."""
        table = self._logits(parameters, mask)
        shown = np.empty_like(parameters)
        shown[:, self._layout.table[self._layout.exists]] = table[:, self._layout.exists]
        return {"logits": shown}

    def _logits(self, parameters: Array, mask: Array | None) -> Array:
        """Return the logits of the entries [N, K, largest count], -inf where a value is illegal or doesn't exist.

        Raises:
            UsageError: the mask is of another size.
        """
        layout = self._layout
        allowed = np.broadcast_to(layout.exists, (len(parameters), *layout.exists.shape))
        if mask is not None:
            if mask.shape[-1] != layout.total:
                raise UsageError(f"action_mask has {mask.shape[-1]} values (allowed: {layout.total})")
            told = mask[:, layout.table] & layout.exists
            allowed = np.where(told.any(-1, keepdims=True), told, allowed)
        return legal(parameters[:, layout.table], allowed)

    def _values(self, index: Array) -> Array:
        """Return entries int64 [N, K], counted from 0, as values of the space, [N, ...]."""
        return index.reshape(len(index), *self._first.shape).astype(self._first.dtype) + self._first


# Parts of several kinds ------------------------------------------------------------------------------


class JointHead(nn.Module):
    """Maps features [..., F] to a tuple of the parts' parameters."""

    def __init__(self, heads: Sequence[nn.Module]):
        super().__init__()
        self.parts = nn.ModuleList(heads)

    def forward(self, features: Tensor) -> tuple[Any, ...]:
        """Return the parameters of each part."""
        return tuple(part(features) for part in self.parts)


@dataclass(frozen=True)
class EvaluateParts:
    """Evaluates a tuple of the parts' raw actions under a tuple of their parameters."""

    parts: tuple[Evaluate, ...]
    mask_sizes: tuple[int, ...]

    def __call__(
        self, parameters: tuple[Any, ...], action: tuple[Any, ...], mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the log-probability and the entropy, [...] each, summed over the parts."""
        masks = _split(mask, self.mask_sizes, lambda m, sizes: m.split(sizes, dim=-1))
        pieces = zip(self.parts, parameters, action, masks, strict=True)
        found = [evaluate(*piece) for evaluate, *piece in pieces]
        log_prob, entropy = (torch.stack(values).sum(0) for values in zip(*found, strict=True))
        return log_prob, entropy


class Joint:
    """Independent distributions over the parts of a Dict or Tuple space, nested or not."""

    def __init__(self, parts: Sequence[Distribution]):
        self._parts = parts
        self._mask_sizes = tuple(part.mask_size for part in parts)
        self.mask_size = sum(self._mask_sizes)
        self.evaluate: Evaluate = EvaluateParts(tuple(part.evaluate for part in parts), self._mask_sizes)

    def make_head(self, features: int) -> nn.Module:
        """Return the parts' heads side by side."""
        return JointHead([part.make_head(features) for part in self._parts])

    def draw(self, parameters: tuple[Any, ...], rng: np.random.Generator, mask: Array | None) -> Drawn:
        """Draw actions float64 [N, D], one part after the other; the raw ones are a tuple of theirs."""
        pieces = zip(self._parts, parameters, self._masks(mask), strict=True)
        drawn = [part.draw(of_part, rng, m) for part, of_part, m in pieces]
        raw, log_probs = tuple(d.raw for d in drawn), [d.log_prob for d in drawn]
        return Drawn(_side_by_side([d.action for d in drawn]), raw, np.sum(log_probs, axis=0))

    def mode(self, parameters: tuple[Any, ...], mask: Array | None) -> Array:
        """Return the most likely action of each part, float64 [N, D]."""
        pieces = zip(self._parts, parameters, self._masks(mask), strict=True)
        return _side_by_side([part.mode(of_part, m) for part, of_part, m in pieces])

    def probabilities(self, parameters: Any, mask: Array | None) -> Array | None:
        """Return None: there is one distribution per part."""
        return None

    def figures(self, parameters: tuple[Any, ...], mask: Array | None) -> dict[str, Array]:
        """Return the parts' figures side by side."""
        pieces = zip(self._parts, parameters, self._masks(mask), strict=True)
        shown = [part.figures(of_part, m) for part, of_part, m in pieces]
        names = dict.fromkeys(name for part in shown for name in part)
        return {
            name: np.concatenate([part[name] for part in shown if name in part], axis=1) for name in names
        }

    def _masks(self, mask: Array | None) -> Sequence[Any]:
        """Return the masks of the parts.

        Raises:
            UsageError: the mask is of another size.
        """
        if mask is not None and mask.shape[-1] != self.mask_size:
            raise UsageError(f"action_mask has {mask.shape[-1]} values (allowed: {self.mask_size})")
        return _split(mask, self._mask_sizes, lambda m, sizes: np.split(m, np.cumsum(sizes)[:-1], axis=-1))


def _split(mask: Any, sizes: tuple[int, ...], split: Callable[[Any, list[int]], Sequence[Any]]) -> list[Any]:
    """Return each part's share of a mask [..., M], None for parts without masks."""
    if mask is None:
        return [None] * len(sizes)
    shares = split(mask, list(sizes))
    return [share if size else None for share, size in zip(shares, sizes, strict=True)]


def _side_by_side(actions: Sequence[Array]) -> Array:
    return np.concatenate([a.reshape(len(a), -1).astype(np.float64) for a in actions], axis=1)


# By space --------------------------------------------------------------------------------------------


def make_distribution(space: spaces.Space, *, log_std: float = 0.0) -> Distribution:
    """Make the distribution for an action space that `refuse_actions` accepts.

    A Box of integers has a categorical distribution per entry if none has more than MOST_VALUES values, and otherwise,
    also without bounds, a normal one whose draws are rounded and clipped.

    Args:
        log_std: the initial logarithm of the standard deviations of normal distributions.
    """
    if isinstance(space, Composite):
        return Joint([make_distribution(leaf, log_std=log_std) for leaf in leaf_spaces(space)])
    if isinstance(space, spaces.Discrete):
        return Categorical(space)
    if isinstance(space, spaces.Box):
        few = few_values(space)
        return DiagonalGaussian(space, log_std) if few is None else Categoricals(few, space.low)
    counts = counts_of(space)
    assert counts is not None
    return Categoricals(counts, first_of(space))


def few_values(space: spaces.Box) -> list[int] | None:
    """Return how many values each entry of a Box of integers has; None if one has too many, or there are fractions."""
    if action_dtype(space).kind == "f":
        return None
    bounds = zip(space.low.ravel().tolist(), space.high.ravel().tolist(), strict=True)
    counts = [int(high) - int(low) + 1 for low, high in bounds]
    return counts if max(counts) <= MOST_VALUES else None


def refuse_actions(space: spaces.Space) -> str | None:
    """Return what is missing in an action space for there to be a distribution (a few words), or None if nothing is."""
    if isinstance(space, Composite) and not leaf_spaces(space):
        return "actions with at least one part"
    return None
