"""Tables of scores: what the statistics take, and what they refuse."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rl_lab.types import Array, UsageError


def score_table(scores: ArrayLike, name: str = "scores") -> Array:
    """Return scores as a table, float64 [runs, tasks].

    Args:
        scores: [runs] of a single task, or [runs, tasks].
        name: what messages call them.

    Raises:
        UsageError: another shape, no scores, or scores that aren't finite.
    """
    try:
        values = np.asarray(scores, dtype=float)
    except (TypeError, ValueError):
        raise UsageError(f"{name} are not a table of numbers: [runs] or [runs, tasks] is needed") from None
    if values.ndim not in (1, 2) or values.size == 0:
        raise UsageError(f"{name} have the shape {values.shape}: [runs] or [runs, tasks] is needed")
    if not np.isfinite(values).all():
        raise UsageError(f"{name} hold nan or inf: leave runs without a score out")
    return values.reshape(len(values), -1)


def score_tables(x: ArrayLike, y: ArrayLike, paired: bool = False) -> tuple[Array, Array]:
    """Return the scores of two agents as tables, float64 [runs of x, tasks] and [runs of y, tasks].

    Args:
        paired: whether run i of x belongs to run i of y, so that both need as many.

    Raises:
        UsageError: scores are unusable, or the tables don't fit together.
    """
    of_x, of_y = score_table(x, "scores of x"), score_table(y, "scores of y")
    if of_x.shape[1] != of_y.shape[1]:
        raise UsageError(f"x has {of_x.shape[1]} tasks and y has {of_y.shape[1]}: both need the same")
    if paired and len(of_x) != len(of_y):
        raise UsageError(f"x has {len(of_x)} runs and y has {len(of_y)}: pairs need as many of both")
    return of_x, of_y


def require_fraction(name: str, value: float) -> None:
    """Raise UsageError unless a probability lies between 0 and 1, both excluded."""
    if not 0.0 < value < 1.0:
        raise UsageError(f"{name} must be between 0 and 1, got {value}")


def require_count(name: str, value: int, least: int = 1) -> None:
    """Raise UsageError unless a number is whole and at least `least`."""
    if not isinstance(value, int | np.integer) or value < least:
        raise UsageError(f"{name} must be a whole number of at least {least}, got {value!r}")
