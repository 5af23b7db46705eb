"""The interquartile mean, and curves of several runs on a common grid; `comparison` has intervals and tests.

Agarwal, Schwarzer, Castro, Courville, Bellemare: "Deep Reinforcement Learning at the Edge of the Statistical
Precipice", NeurIPS 2021, https://arxiv.org/abs/2108.13264.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rl_lab.types import Array

Curve = tuple[ArrayLike, ArrayLike]  # steps [P], values [P]


class Estimate(NamedTuple):
    """A number and its interval, which is (nan, nan) if a single run is all there is."""

    value: float
    low: float
    high: float


def iqm(scores: ArrayLike, axis: int | None = None) -> Any:
    """Return the interquartile mean: the mean without the smallest and the largest quarter of the values.

    As in the paper's own code, floor(n / 4) values are cut at each end and none is weighted by a fraction, so
    that with fewer than four values it is their mean.

    Raises:
        ValueError: there are no scores.
    """
    values = np.asarray(scores, dtype=float)
    if values.size == 0:
        raise ValueError("iqm of no scores: at least one is needed")
    if axis is None:
        values, axis = values.ravel(), 0
    length = values.shape[axis]
    cut = length // 4
    middle = np.partition(values, (cut, length - cut - 1), axis)
    return np.take(middle, range(cut, length - cut), axis).mean(axis=axis)


def cvar(scores: ArrayLike, level: float) -> float:
    """Return the conditional value at risk: the mean of the lowest share `level` of the values.

    Where that is no whole number of values, the last one counts in part: of ten values at level 0.25 the lowest two
    count fully and the third by half. At level 1 it is the mean.

    Args:
        scores: [n].
        level: in (0, 1].

    Raises:
        ValueError: there are no scores, or the level is out of range.
    """
    values = np.sort(np.asarray(scores, dtype=float).ravel())
    if values.size == 0:
        raise ValueError("cvar of no scores: at least one is needed")
    if not 0 < level <= 1:
        raise ValueError(f"level must lie in (0, 1], got {level}")
    share = level * values.size
    weights = np.clip(share - np.arange(values.size), 0, 1)
    return float(weights @ values / weights.sum())


def interpolate_curves(curves: Sequence[Curve]) -> tuple[Array, Array]:
    """Interpolate curves with different evaluation points linearly onto a common grid, without extrapolation.

    If a curve has several points at the same step, the last one counts. Points that aren't finite are left out.

    Returns:
        The grid [G], which is every point of any curve within the range common to all, and the values [runs, G].
        G is 0 if the ranges don't overlap.
    """
    cleaned = [_sorted_curve(*curve) for curve in curves]
    if not cleaned or any(steps.size == 0 for steps, _ in cleaned):
        return np.empty(0), np.empty((len(cleaned), 0))
    first = max(steps[0] for steps, _ in cleaned)
    last = min(steps[-1] for steps, _ in cleaned)
    grid = np.unique(np.concatenate([steps for steps, _ in cleaned]))
    grid = grid[(grid >= first) & (grid <= last)]
    return grid, np.stack([np.interp(grid, steps, values) for steps, values in cleaned])


def _sorted_curve(steps: ArrayLike, values: ArrayLike) -> tuple[Array, Array]:
    points = dict(zip(np.asarray(steps, float).tolist(), np.asarray(values, float).tolist(), strict=True))
    curve = np.array(sorted(points.items()), dtype=float).reshape(-1, 2)  # [P, (step, value)]
    curve = curve[np.isfinite(curve).all(axis=1)]
    return curve[:, 0], curve[:, 1]
