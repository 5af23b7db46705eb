"""How a policy with the largest average reward is found: relative value iteration, and policy iteration.

Sources: Puterman, "Markov Decision Processes", 1994: relative value iteration 8.5, policy iteration 8.6 and, for
communicating models, 9.5; the bounds on the optimal gain are theorem 8.5.5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rl_lab.mdp.differential import Chain, Differential
from rl_lab.mdp.methods import TIE_TOLERANCE, scale
from rl_lab.mdp.recurring import Process, lead_to, recurrent_classes
from rl_lab.mdp.rows import NotConverged, Rows, back_up, bound_rounding, pick_first, take_best
from rl_lab.types import Array

DIRECT_STATES = 5_000  # up to which equations are solved directly
LAZINESS = 0.2  # share of each step that stays where it is, so that no cycle hides the gain
OnSweep = Callable[[int, float, float], None]  # takes a sweep's number, the gain and its error bound


class TooManyStates(ValueError):
    """A model is too large for its equations to be solved directly."""


@dataclass(frozen=True)
class Task:
    """What a method has to solve, and when it may stop."""

    process: Process
    members: Array
    """The states, int64, that some policy visits again and again."""
    tolerance: float
    """Allowed error of the gain, relative to max(1, |gain|)."""
    max_sweeps: int
    on_sweep: OnSweep | None

    @property
    def rows(self) -> Rows:
        """The rows of the process."""
        return self.process.rows

    def report(self, name: str, sweep: int, gain: float, bound: float) -> bool:
        """Report a sweep, and return whether its bound is within the tolerance.

        Raises:
            NotConverged: it isn't, and this was the last sweep allowed.
        """
        if self.on_sweep is not None:
            self.on_sweep(sweep, gain, bound)
        done = bound <= self.tolerance * max(1.0, abs(gain))
        if sweep >= self.max_sweeps and not done:
            raise NotConverged(
                f"{name} stopped after max_sweeps = {self.max_sweeps} with the gain known to {bound:.3g};"
                f" the tolerance {self.tolerance:.1e} asks for {self.tolerance * max(1.0, abs(gain)):.3g}"
            )
        return done


def is_direct(process: Process) -> bool:
    """Return whether the equations of a policy are solved directly."""
    return len(process.states) <= DIRECT_STATES


# Methods: each returns relative values float64 [S] and the number of sweeps ------------------------------


def relative_value_iteration(task: Task) -> tuple[Array, int]:
    """Back up all states until their values rise alike; return relative values [S] and the sweeps.

    Raises:
        NotConverged: `task.max_sweeps` was reached, or float64 can't certify the tolerance.
    """
    rows, begins = task.rows, task.rows.continuation[-1]
    values, sweep, last = np.zeros(len(rows.first)), 0, len(rows.first) - task.process.restarts
    while True:
        if task.process.restarts:
            values[-1] = (begins @ values)[0]
        rise = take_best(rows, back_up(rows, values, 1.0))[:last] - values[:last]
        sweep += 1
        gain, bound = enclose(task.process, values, rise)
        if task.report("relative value iteration", sweep, gain, bound):
            return values, sweep
        if float(rise.max() - rise.min()) <= bound:  # the other half of it is rounding
            raise beyond_float64(bound, gain, task)
        values[:last] += (1.0 - LAZINESS) * (rise - rise[0])
        values -= values[0]


def policy_iteration(task: Task) -> tuple[Array, int]:
    """Evaluate policies with one recurrent class and improve them; return the last one's bias [S] and the rounds.

    Raises:
        TooManyStates: the model is too large for direct solutions.
        NotConverged: `task.max_sweeps` was reached.
    """
    rows = task.rows
    if not is_direct(task.process):
        raise TooManyStates(
            f"policy iteration solves the equations of {len(task.process.states)} states directly (allowed: up to"
            f" {DIRECT_STATES} states; relative-value-iteration takes any number)"
        )
    target = np.arange(len(rows.first)) == task.members[0]
    _, found, rounds = improve(task, lead_to(rows, rows.first, target), task.max_sweeps)
    return found.bias, rounds


# What the methods are built from ------------------------------------------------------------------------


def improve(task: Task, chosen: Array, max_rounds: int) -> tuple[Array, Differential, int]:
    """Improve a policy with one recurrent class, given as rows [S], until no state has a better row.

    Should an improved policy have several classes, that with the largest gain is kept, and all other states are led
    to it. Its gain is above that of the policy before.

    Raises:
        NotConverged: the policy still improved in the last round.
    """
    rows, process = task.rows, task.process
    for round_ in range(1, max_rounds + 1):
        found = evaluate(process, chosen)
        action_values = differential(process, found)
        best = take_best(rows, action_values)
        better = best > action_values[chosen] + TIE_TOLERANCE * scale(found.bias)
        bound = certify(process, found)
        if task.on_sweep is not None:
            task.on_sweep(round_, found.gain, bound)
        if not better.any():
            return chosen, found, round_
        chosen = np.where(better, pick_first(rows, action_values >= best[rows.owner]), chosen)
        chosen = join_classes(process, chosen)
    raise NotConverged(
        f"policy iteration still improved after {max_rounds} rounds, with the gain known to {bound:.3g}"
    )


def evaluate(process: Process, chosen: Array) -> Differential:
    return Chain(process.rows.continuation[chosen], process.steps[chosen]).evaluate(
        process.rows.reward[chosen]
    )


def join_classes(process: Process, chosen: Array) -> Array:
    """Return a policy with one recurrent class: that of the chosen rows [S] with the largest gain."""
    rows = process.rows
    classes = recurrent_classes(rows.continuation[chosen])
    if len(classes) == 1:
        return chosen
    gains = []
    for states in classes:
        own = chosen[states]
        gains.append(Chain(rows.continuation[own][:, states], process.steps[own]).solve(rows.reward[own])[0])
    target = np.zeros(len(rows.first), dtype=bool)
    target[classes[int(np.argmax(gains))]] = True
    return lead_to(rows, chosen, target)


def certify(process: Process, found: Differential) -> float:
    """Return a bound on the distance of a policy's gain from g*, given its gain and bias."""
    rows = process.rows
    above = float((take_best(rows, differential(process, found)) - found.bias).max())
    rounding = bound_rounding(rows, found.bias, 1.0) + float(np.finfo(np.float64).eps) * abs(found.gain)
    return found.gain_bound + (1 + process.restarts) * (max(0.0, above) + rounding)


def differential(process: Process, found: Differential) -> Array:
    """Return the action values [R] that follow from a policy's gain and bias."""
    return back_up(process.rows, found.bias, 1.0) - found.gain * process.steps


def enclose(process: Process, values: Array, rise: Array) -> tuple[float, float]:
    """Return the middle of the interval in which g* lies, and half its length with rounding.

    Args:
        values: [S], with that of the moment between two episodes set to the mean of those that begin one.
        rise: by how much a backup raises the values of the model's states.
    """
    low, high = float(rise.min()), float(rise.max())
    rounding = bound_rounding(process.rows, values, 1.0) * (1 + process.restarts)
    return (low + high) / 2, (high - low) / 2 + rounding


def beyond_float64(bound: float, gain: float, task: Task) -> NotConverged:
    size = max(1.0, abs(gain))
    return NotConverged(
        f"the error of the gain can't be certified below {bound:.1e} in float64;"
        f" ask for a tolerance above {bound / size:.1e}, not {task.tolerance:.1e}"
    )


METHODS: dict[str, Callable[[Task], tuple[Array, int]]] = {
    "relative-value-iteration": relative_value_iteration,
    "average-policy-iteration": policy_iteration,
}
