"""Confidence intervals from the stratified bootstrap, widened for few runs.

The runs of each task are resampled on their own (Agarwal et al. 2021, section 4.1). With few runs, the plain percentile
interval is too narrow: resampling underestimates the variance by the factor (n - 1) / n, and takes quantiles of the
normal distribution where those of Student's t are needed. The expanded percentile interval corrects both by taking
quantiles further out: Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69(4),
2015, https://arxiv.org/abs/1411.5279, section 3.3. With several tasks, the degrees of freedom are Welch's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rl_lab.evaluation.comparison.aggregates import Aggregate, interquartile_mean
from rl_lab.evaluation.comparison.scores import require_count, require_fraction, score_table
from rl_lab.evaluation.statistics import Estimate
from rl_lab.types import Array

RESAMPLES = 5000
BATCH_NUMBERS = 2**18  # resampled scores held at once; what is computed of them may be 50 times as large


class Band(NamedTuple):
    """Numbers and their pointwise intervals, each [P]; nan where there is a single run."""

    value: Array
    low: Array
    high: Array


def aggregate_interval(
    scores: ArrayLike,
    aggregate: Aggregate = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    expand: bool = True,
) -> Estimate:
    """Return an aggregate of scores and its interval; (nan, nan) for a single run, which can't be resampled.

    Args:
        scores: [runs], or [runs, tasks].
        aggregate: maps scores [..., runs, tasks] to [...].
        expand: widen the percentile interval for few runs; without, it is the paper's.

    Raises:
        UsageError: scores are unusable, or a number is out of range.
    """
    table = score_table(scores)
    low, high = bootstrap([table], aggregate, confidence, resamples, seed, expand)
    return Estimate(float(aggregate(table)), float(low), float(high))


def bootstrap(
    tables: list[Array],
    statistic: Callable[..., Array],
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    expand: bool = True,
) -> tuple[Array, Array]:
    """Return the lower and the upper ends of the intervals of a statistic of one or more agents' scores.

    Args:
        tables: of each agent, [..., runs, tasks]. Leading axes are points, each with its own interval, that share their
            resamples: points of a curve, thresholds of a profile.
        statistic: maps resampled tables, [B, ..., runs, tasks] each, to [B, ...].

    Returns:
        Two arrays [...]; nan where an agent has a single run.

    Raises:
        UsageError: a number is out of range.
    """
    require_fraction("confidence", confidence)
    require_count("resamples", resamples)
    if min(table.shape[-2] for table in tables) < 2:
        nothing = np.full(tables[0].shape[:-2], np.nan)
        return nothing, nothing
    drawn = np.concatenate([statistic(*batch) for batch in _resampled(tables, resamples, seed)])  # [B, ...]
    tail = _tails(tables, confidence) if expand else np.full(drawn.shape[1:], (1.0 - confidence) / 2.0)
    drawn.sort(axis=0)
    return _quantile(drawn, tail), _quantile(drawn, 1.0 - tail)


def _resampled(tables: list[Array], resamples: int, seed: int) -> Iterator[list[Array]]:
    """Yield batches of resampled tables, [b, ..., runs, tasks] of each agent."""
    rng = np.random.default_rng(seed)
    size = max(1, BATCH_NUMBERS // sum(table.size for table in tables))
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        yield [_resample(table, rng, count) for table in tables]


def _resample(table: Array, rng: np.random.Generator, count: int) -> Array:
    """Draw the runs of each task on their own, with replacement; all points share what is drawn."""
    runs, tasks = table.shape[-2:]
    rows = rng.integers(0, runs, (count, runs, tasks))
    return np.moveaxis(table[..., rows, np.arange(tasks)], -3, 0)


def _tails(tables: list[Array], confidence: float) -> Array:
    """Return the probability to leave out at each end, [...]: less than half of 1 - confidence with few runs."""
    from scipy import special  # quicker to load than scipy.stats, which has the same

    runs = [np.full(table.shape[-1], table.shape[-2]) for table in tables]
    n = np.concatenate(runs)  # of each agent and task
    variance = np.concatenate([table.var(axis=-2, ddof=1) for table in tables], axis=-1) / n  # of their means
    total = variance.sum(axis=-1, keepdims=True)
    share = np.divide(variance, total, out=np.full(variance.shape, 1.0 / len(n)), where=total > 0)
    freedom = 1.0 / (share**2 / (n - 1)).sum(axis=-1)  # Welch and Satterthwaite
    shrunk = (share * (n - 1) / n).sum(axis=-1)  # by so much resampling underestimates the variance
    quantile = special.stdtrit(freedom, (1.0 - confidence) / 2.0)
    return special.ndtr(quantile / np.sqrt(shrunk))


def _quantile(ordered: Array, probability: Array) -> Array:
    """Return the quantiles of sorted columns [B, ...], each at its own probability [...], linearly interpolated."""
    place = probability * (len(ordered) - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, len(ordered) - 1)
    low = np.take_along_axis(ordered, below[None], axis=0)[0]
    high = np.take_along_axis(ordered, above[None], axis=0)[0]
    return low + (place - below) * (high - low)
