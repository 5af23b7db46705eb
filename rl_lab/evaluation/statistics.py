"""Statistics for few runs: interquartile mean, stratified bootstrap and probability of improvement.

Agarwal, Schwarzer, Castro, Courville, Bellemare: "Deep Reinforcement Learning at the Edge of the Statistical
Precipice", NeurIPS 2021, https://arxiv.org/abs/2108.13264. Scores are one number per run: [runs], or
[runs, tasks], in which case the runs of each task are resampled separately.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rl_lab.types import Array

Curve = tuple[ArrayLike, ArrayLike]  # steps [P], values [P]


class Interval(NamedTuple):
    """A percentile interval; (nan, nan) for a single run, which can't be resampled."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A number and its interval."""

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


def bootstrap_interval(
    scores: ArrayLike,  # [runs] or [runs, tasks]
    statistic: Callable[[Array], Any] = iqm,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Return the percentile bootstrap interval of `statistic(scores)`, stratified by task.

    With two or three runs it nearly spans minimum to maximum, and is still too narrow.

    Args:
        scores: [runs], or [runs, tasks].
        statistic: maps such scores to a number.

    Raises:
        ValueError: scores aren't finite, or have another shape.
    """
    columns = _columns(scores)

    def of_resample(*resampled: Array) -> Any:
        return statistic(np.stack(resampled, axis=1))

    if np.ndim(scores) == 1:  # scipy computes all resamples at once if the statistic has an axis
        return _percentile_interval(columns, statistic, seed, confidence, resamples)
    return _percentile_interval(columns, of_resample, seed, confidence, resamples)


def curve_interval(
    values: Array,  # [runs, G]
    statistic: Callable[..., Any] = iqm,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> tuple[Array, Array]:
    """Return the pointwise interval of `statistic(values, axis)` as low [G] and high [G], resampling whole runs."""
    if len(values) < 2:
        nothing = np.full(values.shape[1], np.nan)
        return nothing, nothing
    from scipy import stats  # takes most of a second to load

    result = stats.bootstrap(
        (values,),
        statistic,
        axis=0,
        vectorized=True,
        batch=100,  # limits memory to 100 resampled copies of the curves
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return result.confidence_interval.low, result.confidence_interval.high


def probability_of_improvement(
    x: ArrayLike,  # [runs of x] or [runs of x, tasks]
    y: ArrayLike,  # [runs of y] or [runs of y, tasks]
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Estimate:
    """Return the probability that a run of x beats a run of y, averaged over tasks; ties count one half.

    It is the Mann-Whitney U statistic divided by the number of pairs. For the interval, x and y are resampled
    independently.

    Raises:
        ValueError: x and y have different numbers of tasks, or scores are unusable.
    """
    of_x, of_y = _columns(x), _columns(y)
    if len(of_x) != len(of_y):
        raise ValueError(f"x has {len(of_x)} tasks and y has {len(of_y)}: both need the same")

    def average(*columns: Array) -> float:
        pairs = zip(columns[: len(of_x)], columns[len(of_x) :], strict=True)
        return float(np.mean([_win_rate(a, b) for a, b in pairs]))

    interval = _percentile_interval(of_x + of_y, average, seed, confidence, resamples)
    return Estimate(average(*of_x, *of_y), *interval)


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


def _win_rate(x: Array, y: Array) -> float:
    return float(np.mean((np.sign(x[:, None] - y[None, :]) + 1) / 2))


def _columns(scores: ArrayLike) -> tuple[Array, ...]:
    """Return the scores of each task, [runs] each; raise ValueError for scores that are unusable."""
    values = np.asarray(scores, dtype=float)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(f"scores have the shape {values.shape}: [runs] or [runs, tasks] is needed")
    if not np.isfinite(values).all():
        raise ValueError("scores hold nan or inf: leave missing runs out")
    return (values,) if values.ndim == 1 else tuple(values.T)


def _percentile_interval(
    columns: tuple[Array, ...],
    statistic: Callable[..., Any],
    seed: int,
    confidence: float,
    resamples: int,
) -> Interval:
    if min(map(len, columns)) < 2:
        return Interval(np.nan, np.nan)
    from scipy import stats

    result = stats.bootstrap(
        columns,
        statistic,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(float(result.confidence_interval.low), float(result.confidence_interval.high))
