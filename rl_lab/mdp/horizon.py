"""Backward induction: finite MDPs that are played for a fixed number of steps.

Source: Puterman, "Markov Decision Processes", 1994, section 4.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rl_lab.mdp.methods import TIE_TOLERANCE, scale
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.rows import back_up, bound_rounding, list_rows, pick_first, take_best
from rl_lab.types import Array


@dataclass(frozen=True, eq=False)
class HorizonSolution:
    """The optimal policy at each time t in 0..T - 1, when T - t steps are left, and its values."""

    v: Array
    """Optimal values [T + 1, S]; row T holds the final values."""
    q: Array
    """Optimal action values [T, S, A]; -inf where an action is unavailable."""
    policy: Array
    """The first optimal action, int64 [T, S]."""
    optimal_actions: Array
    """Whether an action is within TIE_TOLERANCE * max(1, |v|) of the best, bool [T, S, A]."""
    sweeps: int
    """Sweeps over all states, T."""
    bound: float
    """Certified bound on the error of v in the sup norm; rounding is its only source."""


def finite_horizon(
    model: TabularModel, gamma: float, steps: int, final_values: Array | None = None
) -> HorizonSolution:
    """Solve a model that is played for exactly `steps` steps.

    Args:
        gamma: discount, 0 to 1; at 1 episodes need not end.
        final_values: what each state is worth after the last step, [S]; by default nothing.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma {gamma} must be in 0..1")
    if steps < 1:
        raise ValueError(f"steps {steps} must be at least 1")
    rows, shape = list_rows(model), model.available.shape
    v = np.zeros((steps + 1, shape[0]))
    if final_values is not None:
        v[steps] = _check_final(final_values, shape[0])
    q = np.full((steps, model.available.size), -np.inf)
    policy = np.empty((steps, shape[0]), dtype=np.int64)
    optimal = np.zeros((steps, model.available.size), dtype=bool)
    bound = 0.0
    for t in reversed(range(steps)):
        q[t, rows.origin] = action_values = back_up(rows, v[t + 1], gamma)
        v[t] = best = take_best(rows, action_values)
        ties = action_values >= best[rows.owner] - TIE_TOLERANCE * scale(best)
        policy[t] = rows.origin[pick_first(rows, ties)] % model.num_actions
        optimal[t, rows.origin] = ties
        bound = gamma * bound + bound_rounding(rows, v[t + 1], gamma)
    cube = (steps, *shape)
    return HorizonSolution(v, q.reshape(cube), policy, optimal.reshape(cube), steps, bound)


def _check_final(values: Array, num_states: int) -> Array:
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (num_states,) or not np.isfinite(values).all():
        raise ValueError(f"final_values {values.shape} must be {num_states} finite numbers")
    return values
