"""Actions as classes: a number for every action of a discrete space, in one entry or several.

The network has an output for each value of each entry, side by side. An action of several entries is the class whose
entries, as digits in mixed radix, are its values; entries are independent given the observation, so that their
cross-entropies add up.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_lab.environments.actions import action_dtype, action_shape, counts_of, first_of, leaf_spaces
from rl_lab.nn.joint_distributions import EvaluateEntries, Layout
from rl_lab.policies import greedy, legal
from rl_lab.types import Array

from .labelled_steps import NO_LABEL, cross_entropy

MOST_CLASSES = 2**31  # the code of a step holds two classes in an int64


class ActionClasses:
    """The classes of a space whose parts are all discrete."""

    def __init__(self, space: spaces.Space):
        leaves = leaf_spaces(space)
        counts = [n for leaf in leaves for n in counts_of(leaf) or ()]
        self.num_classes, self.num_outputs, self.num_entries = prod(counts), sum(counts), len(counts)
        self._layout = Layout(tuple(counts))
        self._evaluate = EvaluateEntries(self._layout)
        self._weights = np.cumprod([1, *counts[:0:-1]], dtype=np.int64)[::-1].copy()  # [K]
        self._counts = np.array(counts)
        self._first = np.concatenate([first_of(leaf).astype(np.int64).ravel() for leaf in leaves])  # [K]
        self._shape, self._dtype = action_shape(space), action_dtype(space)

    def of_actions(self, actions: Array) -> Array:
        """Return the classes int64 [N] of actions [N, ...]."""
        return (actions.reshape(len(actions), -1).astype(np.int64) - self._first) @ self._weights

    def to_actions(self, classes: Array) -> Array:
        """Return the actions [N, ...] of classes int64 [N]."""
        values = self._digits(classes) + self._first
        return values.reshape(len(classes), *self._shape).astype(self._dtype)

    def _digits(self, classes: Array) -> Array:
        """Return the entries of classes [...], counted from 0, int64 [..., K]."""
        return classes[..., None] // self._weights % self._counts

    def predict(self, logits: Array, mask: Array | None = None) -> Array:
        """Return the likeliest legal classes int64 [N], the first ones if tied; logits and mask are [N, M]."""
        if self.num_entries == 1:
            return greedy(logits, mask)
        exists = self._layout.exists
        table = legal(legal(logits, mask)[:, self._layout.table], exists)
        return table.argmax(-1) @ self._weights

    def count_legal(self, mask: Array) -> Array:
        """Return how many classes a mask [N, M] allows, int64 [N]."""
        ends = np.cumsum(self._counts)
        return np.add.reduceat(mask, np.concatenate([[0], ends[:-1]]), axis=-1, dtype=np.int64).prod(axis=-1)

    def losses(self, logits: Array, label: Array) -> Array:
        """Return the cross-entropies float64 [N] of logits [N, M] and labels int64 [N]."""
        table = legal(logits[:, self._layout.table], self._layout.exists)
        chosen = np.take_along_axis(table, self._digits(label)[..., None], axis=-1)[..., 0]
        return (np.logaddexp.reduce(table, axis=-1) - chosen).sum(-1)

    def cross_entropy(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the sum [] of the cross-entropies of logits [..., M] and labels [...]; NO_LABEL is left out."""
        if self.num_entries == 1:
            return cross_entropy(logits, label)
        weights, counts = (torch.as_tensor(x, device=label.device) for x in (self._weights, self._counts))
        known = label != NO_LABEL
        digits = torch.where(known, label, 0)[..., None] // weights % counts
        log_prob, _ = self._evaluate(logits, digits)
        return -(log_prob * known).sum()

    def predicted(self, logits: Tensor) -> Tensor:
        """Return the likeliest classes int64 [...] for logits [..., M]."""
        if self.num_entries == 1:
            return logits.argmax(-1)
        table, exists, weights = (
            torch.as_tensor(x, device=logits.device)
            for x in (self._layout.table, self._layout.exists, self._weights)
        )
        return (logits[..., table].masked_fill(~exists, float("-inf")).argmax(-1) * weights).sum(-1)


def refuse_actions(space: spaces.Space) -> str | None:
    """Return what is needed of the action space (a few words), or None if its actions can be classes."""
    counts = [counts_of(leaf) for leaf in leaf_spaces(space)]
    if not counts or any(c is None for c in counts):
        return "actions whose parts are all discrete"
    if (classes := prod(n for c in counts for n in c or ())) > MOST_CLASSES:
        return f"at most {MOST_CLASSES} different actions, not {classes}"
    return None
