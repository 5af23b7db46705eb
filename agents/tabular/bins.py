"""Cuts Box observations into bins, so that a table can hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
from gymnasium import spaces

from rl_lab.checks import show_space
from rl_lab.types import Array, Obs, UsageError

UNBOUNDED = 1e30  # bounds of this size are none: float32's largest number stands for infinity


def count_bins(bins: Sequence[int], low: Sequence[float], high: Sequence[float], space: spaces.Space) -> int:
    """Return how many rows a table of binned observations has.

    Raises:
        UsageError: the space isn't a Box, or the bins and their bounds don't fit it.
    """
    return prod(_edges(bins, low, high, space)[0].tolist())


def make_bin_of(
    bins: Sequence[int], low: Sequence[float], high: Sequence[float], space: spaces.Space
) -> Callable[[Obs], Array]:
    """Return a function from Box observations [N, ...] to their rows, int64 [N]; it refuses nan with a UsageError.

    The entries' bins are the digits of a row, the last entry's counting in ones. What lies outside falls into the
    outermost bin.

    Raises:
        UsageError: the space isn't a Box, or the bins and their bounds don't fit it.
    """
    counts, start, end = _edges(bins, low, high, space)
    weights = np.cumprod([1, *counts[:0:-1]], dtype=np.int64)[::-1]
    scale, last = counts / (end - start), counts - 1

    def row_of(obs: Obs) -> Array:
        entries = np.asarray(obs, np.float64).reshape(len(obs), -1)
        place = np.clip(np.floor((entries - start) * scale), 0, last)
        if (missing := np.isnan(place)).any():
            at = int(missing.any(axis=0).argmax())
            raise UsageError(f"entry {at} of the observation is nan, which is in no bin (allowed: numbers)")
        return place.astype(np.int64) @ weights

    return row_of


def _edges(
    bins: Sequence[int], low: Sequence[float], high: Sequence[float], space: spaces.Space
) -> tuple[Array, Array, Array]:
    """Return the number of bins of each entry, and where the first begins and the last ends, all [D].

    Raises:
        UsageError: the space isn't a Box, or the bins and their bounds don't fit it.
    """
    if not isinstance(space, spaces.Box):
        raise UsageError(f"bins {tuple(bins)} are for Box observations, not for {show_space(space)}")
    size = prod(space.shape)
    if len(bins) not in (1, size):
        raise UsageError(f"bins {tuple(bins)} must be one number, or {size}, one for each entry")
    bounds = []
    for name, given, own in (("bins_low", low, space.low), ("bins_high", high, space.high)):
        if given and len(given) != size:
            raise UsageError(f"{name} {tuple(given)} must be {size} numbers, one for each entry")
        bounds.append(np.asarray(given if given else own.ravel(), np.float64))
    start, end = bounds
    for name, bound in (("bins_low", start), ("bins_high", end)):
        if (none := ~(np.abs(bound) < UNBOUNDED)).any():
            raise UsageError(
                f"entry {int(np.argmax(none))} of the observation has no finite bound ({name} gives one)"
            )
    if (wrong := ~(start < end)).any():
        at = int(np.argmax(wrong))
        raise UsageError(f"bins_low {start[at]} of entry {at} must be below bins_high {end[at]}")
    return np.broadcast_to(np.asarray(bins, np.int64), size), start, end
