"""Step sizes of a table's entries, by code: of the time that has passed, or of how often the entry has moved."""

from __future__ import annotations

# mypy: disable-error-code="no-untyped-def"

BY_TIME = 0  # constant or linear: the caller gives the current rate
ONE_OVER_N = 1  # the mean of all targets
POWER = 2  # n^-w


def step_size(kind, rate, power, visits):
    """Return the step size of an entry's `visits`-th update, counted from 1.

    Args:
        kind: BY_TIME, ONE_OVER_N or POWER.
        rate: the step size of BY_TIME.
        power: w of POWER.
    """
    if kind == BY_TIME:
        return rate
    if kind == ONE_OVER_N:
        return 1.0 / float(visits)
    return float(visits) ** -power


def rate_at(start, end, horizon, step):
    """Return the value that moves linearly from `start` at step 0 to `end` at step `horizon`, as `schedules.linear`."""
    if step >= horizon:
        return end
    return start + (end - start) * (step / horizon)
