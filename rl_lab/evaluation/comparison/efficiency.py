"""Sample-efficiency curves: what a number of steps, or of seconds, buys.

Agarwal et al. 2021, https://arxiv.org/abs/2108.13264: an aggregate of the scores of all runs on all tasks at each point
of training, with pointwise intervals.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rl_lab.evaluation.comparison.aggregates import Aggregate, interquartile_mean
from rl_lab.evaluation.comparison.intervals import Band, bootstrap
from rl_lab.evaluation.statistics import Curve, interpolate_curves
from rl_lab.types import Array, UsageError


def efficiency_curve(
    tasks: Sequence[Sequence[Curve]],
    aggregate: Aggregate = interquartile_mean,
    *,
    grid: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[Array, Band]:
    """Return a grid of steps or seconds [P] and the aggregate of all runs there, with pointwise intervals.

    Curves are interpolated linearly, and never extrapolated: the grid covers what all runs have in common.

    Args:
        tasks: for each task, one curve for each run: its steps (or seconds) and its scores there, normalised if there
            are several tasks. Every task needs as many runs.
        grid: where to evaluate; points outside the common range are left out. By default every point of any curve.

    Returns:
        Without a common range, everything is empty.

    Raises:
        UsageError: tasks have no runs or different numbers of them, or a number is out of range.
    """
    curves = [curve for runs in tasks for curve in runs]
    runs = {len(task) for task in tasks}
    if len(runs) != 1 or not curves:
        raise UsageError(
            f"the tasks have {[len(task) for task in tasks]} runs: the same number, at least 1, is needed"
        )
    points, values = interpolate_curves(curves)  # [G], [tasks * runs, G]
    if grid is not None and points.size:
        points, values = _at(np.unique(np.asarray(grid, dtype=float)), points, values)
    if not points.size:
        return points, Band(points, points, points)
    scores = values.T.reshape(-1, len(tasks), *runs).swapaxes(1, 2)  # [P, runs, tasks]
    low, high = bootstrap([scores], aggregate, confidence, resamples, seed)
    return points, Band(aggregate(scores), low, high)


def _at(grid: Array, points: Array, values: Array) -> tuple[Array, Array]:
    """Return the part of a grid within the range of points [G], and values [R, G] there."""
    inside = grid[(grid >= points[0]) & (grid <= points[-1])]
    return inside, np.stack([np.interp(inside, points, row) for row in values])
