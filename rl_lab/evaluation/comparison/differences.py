"""Tests of a difference between agents with a fixed number of runs: permutation tests, corrected for several pairs.

Patterson, Neumann, White, White: "Empirical Design in Reinforcement Learning", JMLR 25, 2024,
https://arxiv.org/abs/2304.01315; Holm: "A Simple Sequentially Rejective Multiple Test Procedure", 1979. scipy's
permutation_test would move scores from one task to another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rl_lab.evaluation.comparison.scores import require_count, score_tables
from rl_lab.types import Array, UsageError

PERMUTATIONS = 9999
TIE = 1e-10  # relative to the scores: sums that differ by less are equal up to rounding


class Difference(NamedTuple):
    """How two agents differ."""

    x: str
    y: str
    difference: float
    """Mean score of x less that of y."""
    p_value: float
    """How often a difference at least as large arises between equal agents."""
    adjusted_p_value: float
    """The same, corrected for the number of pairs that are compared (Holm)."""


def compare_agents(
    scores: Mapping[str, ArrayLike],
    pairs: Sequence[tuple[str, str]] | None = None,
    *,
    paired: bool = True,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Difference]:
    """Test the difference of each pair of agents, corrected for the number of pairs.

    Calling all pairs different whose adjusted p-value is at most alpha is wrong about any of them with probability at
    most alpha.

    Args:
        scores: of each agent, [runs] or [runs, tasks].
        pairs: which to compare; by default all.

    Raises:
        UsageError: scores are unusable, or an agent is unknown.
    """
    chosen = agent_pairs(scores, pairs)
    p_values = [
        permutation_test(scores[x], scores[y], paired=paired, permutations=permutations, seed=seed)
        for x, y in chosen
    ]
    means = {agent: float(np.asarray(values, dtype=float).mean()) for agent, values in scores.items()}
    rows = zip(chosen, p_values, holm(p_values).tolist(), strict=True)
    return [Difference(x, y, means[x] - means[y], p, adjusted) for (x, y), p, adjusted in rows]


def agent_pairs(
    scores: Mapping[str, ArrayLike], pairs: Sequence[tuple[str, str]] | None
) -> list[tuple[str, str]]:
    """Return the pairs to compare: those asked for, or all. Raises UsageError for fewer than one, or unknown agents."""
    chosen = list(combinations(scores, 2)) if pairs is None else [(x, y) for x, y in pairs]
    unknown = sorted({agent for pair in chosen for agent in pair} - set(scores))
    if unknown:
        raise UsageError(f"there are no scores of {unknown[0]!r} (there are of: {', '.join(scores)})")
    if not chosen or any(x == y for x, y in chosen):
        raise UsageError(f"pairs of two agents are needed, got {chosen} of {list(scores)}")
    return chosen


def permutation_test(
    x: ArrayLike,
    y: ArrayLike,
    *,
    paired: bool = True,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> float:
    """Return the two-sided p-value of the difference of mean scores between two agents.

    If both agents are equal, it is at most alpha with probability at most alpha, whatever the scores' distribution.
    Where no more arrangements than `permutations` exist, all are tried; otherwise as many are drawn.

    Args:
        x: [runs], or [runs, tasks].
        y: the same.
        paired: run i of x and run i of y share a seed, and are exchanged with one another, in each task on their own.
            Otherwise all runs of a task are shuffled.

    Raises:
        UsageError: scores are unusable, or don't fit together.
    """
    of_x, of_y = score_tables(x, y, paired)
    require_count("permutations", permutations)
    if arrangements(len(of_x), len(of_y), of_x.shape[1], paired) <= permutations:
        differences = _every_difference(of_x, of_y, paired)
    else:
        differences = shuffled_differences(of_x, of_y, permutations, np.random.default_rng(seed), paired)
    tie = TIE * max(np.abs(of_x).max(), np.abs(of_y).max())
    return float(np.mean(np.abs(differences) >= abs(of_x.mean() - of_y.mean()) - tie))


def arrangements(runs_of_x: int, runs_of_y: int, tasks: int, paired: bool) -> int:
    """Return in how many ways scores can be assigned to two agents; twice its inverse is the smallest p-value."""
    return (2**runs_of_x if paired else comb(runs_of_x + runs_of_y, runs_of_x)) ** tasks


def shuffled_differences(x: Array, y: Array, count: int, rng: np.random.Generator, paired: bool) -> Array:
    """Return the difference of mean scores as it is, followed by `count` of randomly exchanged scores, [1 + count].

    Args:
        x: [runs of x, tasks].
        y: [runs of y, tasks].
    """
    observed = x.mean() - y.mean()
    if paired:
        signs = rng.integers(0, 2, (count, *x.shape), dtype=np.int8) * 2 - 1
        return np.append(observed, (signs * (x - y)).mean(axis=(1, 2)))
    pool = np.concatenate([x, y])
    shuffled = rng.permuted(np.broadcast_to(pool, (count, *pool.shape)), axis=1)
    means = shuffled[:, : len(x)].mean(axis=(1, 2)) - shuffled[:, len(x) :].mean(axis=(1, 2))
    return np.append(observed, means)


def holm(p_values: ArrayLike) -> Array:
    """Return p-values [M] adjusted for their number by Holm's method, [M]."""
    values = np.asarray(p_values, dtype=float)
    order = np.argsort(values)
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.minimum(adjusted, 1.0)


def _every_difference(x: Array, y: Array, paired: bool) -> Array:
    """Return the difference of mean scores for every arrangement of the scores, the observed one among them."""
    parts = (
        _signed(x, y) if paired else [_regrouped(a, b) / x.shape[1] for a, b in zip(x.T, y.T, strict=True)]
    )
    total = np.zeros(1)
    for part in parts:
        total = (total[:, None] + part).ravel()
    return total


def _signed(x: Array, y: Array) -> list[Array]:
    """Return what each pair of runs adds to the difference of means as it is, and exchanged."""
    return [np.array([d, -d]) for d in ((x - y) / x.size).ravel()]


def _regrouped(x: Array, y: Array) -> Array:
    """Return the difference of means of the scores of a task, [runs of x] and [runs of y], for every way to group."""
    pool = np.concatenate([x, y])
    chosen = pool[np.array(list(combinations(range(len(pool)), len(x))))].mean(axis=1)
    return chosen - (pool.sum() - len(x) * chosen) / len(y)
