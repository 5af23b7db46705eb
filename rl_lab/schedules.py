"""Schedules as pure functions of the absolute step: nothing to save, nothing to reset on a load."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

Schedule = Callable[[int], float]


def constant(value: float) -> Schedule:
    """Return the schedule that never changes."""
    return lambda step: value


def linear(start: float, end: float, over_steps: float, *, warm_up_steps: float = 0) -> Schedule:
    """Return the schedule that goes from `start` at step 0 to `end` at `over_steps`, and stays there."""
    return _falling(start, end, over_steps, warm_up_steps, lambda share: start + (end - start) * share)


def exponential(start: float, end: float, over_steps: float, *, warm_up_steps: float = 0) -> Schedule:
    """Return the schedule that goes from `start` to `end` by the same factor in every step, and stays there.

    Raises:
        ValueError: an end that no factor reaches.
    """
    ratio = _ratio(start, end)
    return _falling(start, end, over_steps, warm_up_steps, lambda share: start * ratio**share)


def cosine(start: float, end: float, over_steps: float, *, warm_up_steps: float = 0) -> Schedule:
    """Return the schedule that follows half a cosine from `start` to `end`, and stays there.

    Loshchilov & Hutter (2017), "SGDR: Stochastic Gradient Descent with Warm Restarts", without restarts.
    """
    return _falling(
        start, end, over_steps, warm_up_steps, lambda share: end + (start - end) * (1 + cos(pi * share)) / 2
    )


def staircase(start: float, factor: float, period_steps: float, *, warm_up_steps: float = 0) -> Schedule:
    """Return the schedule that begins at `start` and is multiplied by `factor` after every `period_steps`."""

    def value(step: int) -> float:
        if step < warm_up_steps:
            return start * step / warm_up_steps
        return start * factor ** ((step - warm_up_steps) // period_steps)

    return value


def stairs(start: float, end: float, over_steps: float, *, warm_up_steps: float = 0) -> Schedule:
    """Return the staircase with four equal stretches on which `start` falls by the same factor to `end`.

    Raises:
        ValueError: an end that no factor reaches.
    """
    ratio, count = _ratio(start, end), 4
    return _falling(
        start, end, over_steps, warm_up_steps, lambda share: start * ratio ** (int(share * count) / count)
    )


# From one value to another over so many steps, by name.
DECAYS: dict[str, Callable[..., Schedule]] = {
    "linear": linear,
    "exponential": exponential,
    "cosine": cosine,
    "step": stairs,
}


def _falling(
    start: float, end: float, over_steps: float, warm_up_steps: float, at: Callable[[float], float]
) -> Schedule:
    """Rise linearly from 0 to `start` while warming up; then follow `at` the share of what is left of the steps."""

    def value(step: int) -> float:
        if step < warm_up_steps:
            return start * step / warm_up_steps
        return end if step >= over_steps else at((step - warm_up_steps) / (over_steps - warm_up_steps))

    return value


def _ratio(start: float, end: float) -> float:
    if not (start > 0 and end > 0):
        raise ValueError(f"a value can't fall by a factor from {start} to {end} (allowed: above 0)")
    return end / start


def crossings(before: int, after: int, period: int) -> int:
    """Count the multiples of `period` in (before, after]: how often something periodic falls due in a step.

    With N environments a step goes on by N, so `after % period == 0` would miss most of them.
    """
    return after // period - before // period
