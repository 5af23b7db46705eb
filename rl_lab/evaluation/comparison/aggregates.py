"""Aggregates: one number for the scores of all runs on all tasks.

Agarwal, Schwarzer, Castro, Courville, Bellemare: "Deep Reinforcement Learning at the Edge of the Statistical
Precipice", NeurIPS 2021, https://arxiv.org/abs/2108.13264, section 4.

Each maps scores [..., runs, tasks] to [...], so that thousands of resampled tables are aggregated at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rl_lab.evaluation.statistics import iqm
from rl_lab.types import Array

Aggregate = Callable[[Array], Array]  # [..., runs, tasks] to [...]


def mean(scores: Array) -> Array:
    """Return the mean of all scores."""
    return scores.mean(axis=(-2, -1))


def median(scores: Array) -> Array:
    """Return the median over tasks of each task's mean."""
    return np.median(scores.mean(axis=-2), axis=-1)


def interquartile_mean(scores: Array) -> Array:
    """Return the mean of the middle half of all scores, runs and tasks pooled; floor(n / 4) are cut at each end."""
    return iqm(scores.reshape(*scores.shape[:-2], -1), axis=-1)


def optimality_gap(scores: Array, threshold: float = 1.0) -> Array:
    """Return by how much scores fall short of a threshold on average; what lies above it makes up for nothing."""
    return threshold - np.minimum(scores, threshold).mean(axis=(-2, -1))


AGGREGATES: dict[str, Aggregate] = {
    "iqm": interquartile_mean,
    "median": median,
    "mean": mean,
    "optimality_gap": optimality_gap,
}
