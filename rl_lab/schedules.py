"""Schedules as pure functions of the absolute step, so that there is no state to save or restore."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

Schedule = Callable[[int], float]


def constant(value: float) -> Schedule:
    """Return the schedule that always gives `value`."""
    return lambda step: value


def linear(start: float, end: float, over_steps: float, *, warm_up_steps: float = 0) -> Schedule:
    """Return the schedule that moves linearly from `start` at step 0 to `end` at `over_steps`, then stays there."""
    if not warm_up_steps:  # the same numbers from a single call: it is asked at every step
        return lambda step: end if step >= over_steps else start + (end - start) * (step / over_steps)
    return _after_warm_up(start, end, over_steps, warm_up_steps, lambda share: start + (end - start) * share)


def exponential(start: float, end: float, over_steps: float, *, warm_up_steps: float = 0) -> Schedule:
    """Return the schedule that multiplies `start` by the same factor in every step until it reaches `end`.

    Raises:
        ValueError: `start` or `end` isn't above 0, so no factor leads from one to the other.
    """
    ratio = _ratio(start, end)
    return _after_warm_up(start, end, over_steps, warm_up_steps, lambda share: start * ratio**share)


def cosine(start: float, end: float, over_steps: float, *, warm_up_steps: float = 0) -> Schedule:
    """Return the schedule that follows half a cosine from `start` to `end`, then stays there.

    Loshchilov & Hutter (2017), "SGDR: Stochastic Gradient Descent with Warm Restarts",
    https://arxiv.org/abs/1608.03983, without the restarts.
    """
    return _after_warm_up(
        start, end, over_steps, warm_up_steps, lambda share: end + (start - end) * (1 + cos(pi * share)) / 2
    )


def staircase(start: float, end: float, over_steps: float, *, warm_up_steps: float = 0) -> Schedule:
    """Return the schedule that goes from `start` to `end` in four equal factors, one after each quarter of the steps.

    Raises:
        ValueError: `start` or `end` isn't above 0, so no factor leads from one to the other.
    """
    ratio, count = _ratio(start, end), 4
    return _after_warm_up(
        start, end, over_steps, warm_up_steps, lambda share: start * ratio ** (int(share * count) / count)
    )


# Schedules from one value to another over a number of steps, by the name that configs use.
DECAYS: dict[str, Callable[..., Schedule]] = {
    "linear": linear,
    "exponential": exponential,
    "cosine": cosine,
    "step": staircase,
}


def _after_warm_up(
    start: float, end: float, over_steps: float, warm_up_steps: float, at: Callable[[float], float]
) -> Schedule:
    """Return a linear rise from 0 to `start`, then `at` of the share of the remaining steps that have passed."""

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
    """Count the multiples of `period` in (before, after]: how often a periodic event falls due within a step.

    A vector of N environments counts N steps at a time, so `after % period == 0` would miss most multiples.
    """
    return after // period - before // period
