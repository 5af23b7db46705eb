"""Performance profiles: which fraction of runs scores above each threshold.

Agarwal et al. 2021, https://arxiv.org/abs/2108.13264, section 4.2 ("score distributions"), after Dolan and Moré 2002.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rl_lab.evaluation.comparison.aggregates import mean
from rl_lab.evaluation.comparison.intervals import RESAMPLES, Band, bootstrap
from rl_lab.evaluation.comparison.scores import score_table
from rl_lab.types import Array, UsageError


def performance_profile(
    scores: ArrayLike,
    thresholds: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    expand: bool = True,
) -> Band:
    """Return the fraction of runs that score above each threshold, averaged over tasks, with pointwise intervals.

    Args:
        scores: [runs], or [runs, tasks], normalised if there are several tasks.
        thresholds: [P].

    Raises:
        UsageError: scores or thresholds are unusable, or a number is out of range.
    """
    table, bounds = score_table(scores), _thresholds(thresholds)
    above = (table > bounds[:, None, None]).astype(float)  # [P, runs, tasks]
    low, high = bootstrap([above], mean, confidence, resamples, seed, expand)
    return Band(mean(above), low, high)


def _thresholds(thresholds: ArrayLike) -> Array:
    bounds = np.asarray(thresholds, dtype=float)
    if bounds.ndim != 1 or not np.isfinite(bounds).all():
        raise UsageError(f"thresholds must be a list of finite numbers, got {thresholds!r}")
    return bounds
