"""Schedules as pure functions of the absolute step: nothing to save, nothing to reset on a load."""

from __future__ import annotations

from collections.abc import Callable

Schedule = Callable[[int], float]


def constant(value: float) -> Schedule:
    """Return the schedule that never changes."""
    return lambda step: value


def linear(start: float, end: float, over_steps: float) -> Schedule:
    """Return the schedule that goes from `start` at step 0 to `end` at `over_steps`, and stays there."""

    def value(step: int) -> float:
        return end if step >= over_steps else start + (end - start) * (step / over_steps)

    return value


def crossings(before: int, after: int, period: int) -> int:
    """Count the multiples of `period` in (before, after]: how often something periodic falls due in a step.

    With N environments a step goes on by N, so `after % period == 0` would miss most of them.
    """
    return after // period - before // period
