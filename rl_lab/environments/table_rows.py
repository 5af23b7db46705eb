"""Numbers the observations of discrete spaces, also those in parts, as the rows of a table."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
from gymnasium import spaces

from rl_lab.environments.actions import counts_of, first_of, parts_of
from rl_lab.trees import leaves_of
from rl_lab.types import Array, Obs


def count_rows(space: spaces.Space) -> int | None:
    """Return how many observations there are; None if a part of the space isn't discrete."""
    counts = counts_in(space)
    return None if counts is None else prod(counts)


def make_row_of(space: spaces.Space) -> Callable[[Obs], Array]:
    """Return a function from observations [N, ...] to their rows, int64 [N], for a space with `count_rows`.

    Rows are numbers in mixed radix: the last entry of the last part counts in ones. A Dict's parts come by sorted key.
    """
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return lambda obs: obs
    counts = counts_in(space)
    assert counts is not None
    weights = np.cumprod([1, *counts[:0:-1]], dtype=np.int64)[::-1]  # of each entry
    first = np.array(firsts_in(space), np.int64)

    def row_of(obs: Obs) -> Array:
        leaves = [np.asarray(leaf, np.int64) for leaf in leaves_of(obs, sort_keys=True)]
        entries = np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
        return (entries - first) @ weights

    return row_of


def counts_in(space: spaces.Space) -> list[int] | None:
    """Return how many values each entry has, all parts side by side."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return counts_of(space)
    parts = [counts_in(part) for _, part in parts_of(space)]
    return None if None in parts else [n for part in parts if part is not None for n in part]


def firsts_in(space: spaces.Space) -> list[int]:
    """Return the smallest value of each entry, all parts side by side."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return [first for _, part in parts_of(space) for first in firsts_in(part)]
    return [int(x) for x in first_of(space).ravel()]
