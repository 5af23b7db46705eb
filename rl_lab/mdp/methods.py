"""The solution methods for finite MDPs. Each returns values that are optimal, or nearly so, and its sweeps.

`solve` then polishes and certifies the result. Sources: Puterman, "Markov Decision
Processes", 1994: value iteration and its bounds 6.3, policy iteration 6.4, modified policy
iteration 6.5, linear programming 6.9. Moore and Atkeson, "Prioritized sweeping", 1993
(https://doi.org/10.1007/BF00993104).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from rl_lab.mdp.krylov import correct
from rl_lab.mdp.rows import NeverEnds, NotConverged, Rows, back_up, evaluate_rows, pick_first, take_best
from rl_lab.mdp.sweeps import Chain, Change, Sweeps, is_large
from rl_lab.types import Array

TIE_TOLERANCE = 1e-12  # relative to the largest value: true ties differ only by rounding
ROUNDING = 4e-15  # relative to the largest value: changes of this size are noise
EVALUATION_FRACTION = 0.1  # modified policy iteration evaluates until changes have fallen to this fraction
EVALUATION_SWEEPS = (
    20  # at most, between two improvements: values spread as far over a grid, then the policy follows
)
PATIENCE = 4  # sweeps after which it is seen how fast they contract
KRYLOV_FRACTION = 0.03  # at most, to which a correction is asked to shrink the residual
KRYLOV_PRODUCTS = 20  # at most, in place of sweeps
TRIALS = 4  # of a Krylov method that lead nowhere, until sweeps alone evaluate
MOST_IDLE = (
    10  # improvements none of which is the smallest so far: from then on sweeps alone evaluate, and contract
)
OnSweep = Callable[[int, Array, float], None]  # takes a sweep's number, values [S] and error bound


@dataclass(frozen=True)
class SolverTask:
    """What a method has to solve, and when it may stop."""

    name: str
    sweeps: Sweeps
    tolerance: float
    """Allowed error of V in the sup norm, relative to max(1, |V|)."""
    max_sweeps: int
    on_sweep: OnSweep | None = None
    """Called with each sweep's number, values [S] and error bound."""

    @property
    def rows(self) -> Rows:
        """The rows of the problem."""
        return self.sweeps.rows

    @property
    def gamma(self) -> float:
        """The discount."""
        return self.sweeps.gamma

    def report(self, sweep: int, values: Array, bound: float) -> bool:
        """Report a sweep that led to values [S], and return whether its error bound is within the tolerance.

        Raises:
            NotConverged: it isn't, and this was the last sweep allowed.
        """
        if self.on_sweep is not None:
            self.on_sweep(sweep, values, bound)
        done = bound <= self.tolerance * scale(values)
        if sweep >= self.max_sweeps and not done:
            raise NotConverged(
                f"{self.name} stopped after max_sweeps = {self.max_sweeps} with a residual of"
                f" {bound / max(self.factor, 1e-300):.3g}; the tolerance {self.tolerance:.1e} asks for"
                f" {self.tolerance * scale(values) / max(self.factor, 1e-300):.3g}"
            )
        return done

    @property
    def factor(self) -> float:
        """The largest possible error of the values after a sweep that changed them by 1.

        Without a discount a change says nothing about the error (the factor 1 merely ends the method once
        changes are small); the result is then certified by other means.
        """
        return self.gamma / (1.0 - self.gamma) if self.gamma < 1.0 else 1.0


def scale(values: Array) -> float:
    """Return max(1, |values|) for values of any shape: the size to which tolerances are relative."""
    return max(1.0, float(values.max()), -float(values.min()))


# Methods: each returns values float64 [S] and the number of sweeps --------------------------------------


def value_iteration(task: SolverTask) -> tuple[Array, int]:
    """Back up all states at once from the last sweep's values (Jacobi); return values [S] and the sweeps.

    Raises:
        NotConverged: `task.max_sweeps` was reached.
    """
    values, sweep, done = np.zeros(len(task.rows.first)), 0, False
    while not done:
        values, _, change = task.sweeps.improve(values)
        sweep += 1
        done = task.report(sweep, values, task.factor * change.size)
    return values, sweep


def gauss_seidel(task: SolverTask) -> tuple[Array, int]:
    """Back up the states in order, each from the newest values; return values [S] and the sweeps.

    Raises:
        NotConverged: `task.max_sweeps` was reached.
    """
    values, sweep, done = np.zeros(len(task.rows.first)), 0, False
    while not done:
        change = task.sweeps.gauss_seidel(values)
        sweep += 1
        done = task.report(sweep, values, task.factor * change.size)
    return values, sweep


def prioritised_sweeping(task: SolverTask) -> tuple[Array, int]:
    """Always back up the state with the largest Bellman error; return values [S] and the sweeps.

    As many backups as there are states count as a sweep.

    Raises:
        NotConverged: `task.max_sweeps` was reached.
    """
    values, sweep = np.zeros(len(task.rows.first)), 0
    while True:
        best, _, change = task.sweeps.improve(values)
        sweep += 1
        if task.report(sweep, best, task.factor * change.size):
            return best, sweep
        threshold = 0.5 * task.tolerance * scale(values) / max(task.factor, 1e-300)
        task.sweeps.prioritise(values, np.abs(best - values), min(threshold, change.size / 2), len(values))


def modified_policy_iteration(task: SolverTask) -> tuple[Array, int]:
    """Alternate improvements of the policy with some sweeps of evaluation; return values [S] and the sweeps.

    Raises:
        NotConverged: `task.max_sweeps` was reached.
        NeverEnds: gamma = 1, and from some state no policy ends.
    """
    values = np.zeros(len(task.rows.first))
    if task.gamma == 1.0:  # starting from below, values rise to the optimum without a discount too
        values = evaluate_rows(task.rows, ending_choice(task.rows), 1.0)
    return _alternate(task, values, EVALUATION_FRACTION, EVALUATION_SWEEPS)


def policy_iteration(task: SolverTask) -> tuple[Array, int]:
    """Evaluate a policy exactly and improve it, until it can't be improved; return values [S] and the improvements.

    Large discounted models, whose equations can't be factorised, are evaluated by sweeps instead, and all
    of these count.

    Raises:
        NotConverged: `task.max_sweeps` was reached.
        NeverEnds: gamma = 1, and from some state no policy ends.
    """
    if task.gamma < 1.0 and is_large(task.rows):
        return _alternate(task, np.zeros(len(task.rows.first)), 0.0, task.max_sweeps)
    chosen = ending_choice(task.rows) if task.gamma == 1.0 else task.rows.first
    _, values, rounds = improve_policy(task.rows, task.gamma, chosen, task.max_sweeps, task.report)
    return values, rounds


def _alternate(task: SolverTask, values: Array, fraction: float, most: int) -> tuple[Array, int]:
    """Alternate improvements with at most `most` sweeps of evaluation, until changes fall to `fraction`.

    If no episode ever ends, adding c to all values adds gamma * c to all backed-up values. Then the common
    part of a sweep's changes can be extrapolated, and the error is bounded by half their span. Where sweeps contract
    slowly, a policy's equations are solved by a Krylov method, as long as that makes the next improvement smaller.
    """
    closed = task.gamma < 1.0 and not task.rows.termination.any()
    sweep, trials, least, idle = 0, TRIALS if task.gamma < 1.0 else 0, np.inf, 0
    while True:
        values, chosen, change = task.sweeps.improve(values)
        sweep += 1
        shift = task.factor * (change.low + change.high) / 2 if closed else 0.0
        size = _size(change, closed)
        if task.report(sweep, values + shift, task.factor * size):
            return values + shift, sweep
        enough = 0.1 * task.tolerance * scale(values + shift) / max(task.factor, 1e-300)
        target = max(fraction * size, enough)
        least, idle = (size, 0) if size < least else (least, idle + 1)
        chain, left = task.sweeps.follow(chosen), min(most, task.max_sweeps - 1 - sweep)
        values, count, failed = _evaluate(
            chain, values, target, left, closed, trials > 0 and idle < MOST_IDLE
        )
        sweep, trials = sweep + count, trials - failed


def _evaluate(
    chain: Chain, values: Array, target: float, most: int, closed: bool, krylov: bool
) -> tuple[Array, int, bool]:
    """Evaluate a policy from values [S] until sweeps change them by `target`.

    Args:
        krylov: whether a Krylov method may be tried.

    Returns:
        Values [S], the number of sweeps, and whether a Krylov method was tried in vain.
    """
    count, before, failed = 0, np.inf, False
    while count < most:
        values, change = chain.sweep(values)
        count, size = count + 1, _size(change, closed)
        if size <= max(target, ROUNDING * scale(values)):
            break
        slow = size > before * (target / size) ** (1.0 / KRYLOV_PRODUCTS)
        if krylov and slow and count % PATIENCE == 0 and count < most:
            fraction = min(target / size, KRYLOV_FRACTION)
            values, used, worked = correct(chain, values, fraction, min(KRYLOV_PRODUCTS, most - count))
            count, krylov, failed = count + used, worked, not worked
        before = size
    return values, count, failed


def _size(change: Change, closed: bool) -> float:
    return change.half_span if closed else change.size


def improve_policy(
    rows: Rows,
    gamma: float,
    chosen: Array,
    max_rounds: int = 1000,
    report: Callable[[int, Array, float], object] | None = None,
) -> tuple[Array, Array, int]:
    """Improve a policy, given as rows [S], by policy iteration with direct solves until it is optimal.

    Args:
        report: called with each round's number, values [S] and error bound.

    Returns:
        The chosen rows, int64 [S], their values [S], and the number of rounds.

    Raises:
        NotConverged: the policy still improved in the last round.
        NeverEnds: gamma = 1 and a policy on the way never ends.
    """
    for round_ in range(1, max_rounds + 1):
        values = evaluate_rows(rows, chosen, gamma)
        action_values = back_up(rows, values, gamma)
        best = take_best(rows, action_values)
        # Switch only to a better choice, never to a tied one: rounding could make ties alternate for ever.
        better = best > action_values[chosen] + TIE_TOLERANCE * scale(values)
        residual = float(np.abs(best - values).max())
        if report is not None and (round_ < max_rounds or better.any()):
            report(round_, values, residual / (1.0 - gamma) if gamma < 1.0 else residual)
        if not better.any():
            return chosen, values, round_
        chosen = np.where(better, pick_first(rows, action_values >= best[rows.owner]), chosen)
    raise NotConverged(
        f"policy iteration still improved after {max_rounds} rounds, with a residual of {residual:.3g}"
    )


def ending_choice(rows: Rows) -> Array:
    """Return a row for each state, int64 [S], such that episodes end with certainty.

    Each row leads with positive probability to the end, or one step closer to it.

    Raises:
        NeverEnds: from some state no policy ends.
    """
    chosen = np.full(len(rows.first), -1)
    ends = rows.termination > 0
    while True:
        index = np.flatnonzero(ends & (chosen[rows.owner] < 0))[::-1]
        if not index.size:
            break
        chosen[rows.owner[index]] = index
        ends = rows.continuation @ (chosen >= 0).astype(np.float64) > 0
    if (chosen < 0).any():
        raise NeverEnds(f"gamma = 1: from state {int(np.argmin(chosen))} no policy ends; take gamma below 1")
    return chosen


def linear_programming(task: SolverTask) -> tuple[Array, int]:
    """Minimise the sum of all values subject to Bellman's inequalities, with HiGHS; return values [S] and iterations.

    Raises:
        NotConverged: HiGHS stopped early.
        NeverEnds: gamma = 1 and there is no finite solution.
    """
    from scipy.optimize import linprog  # takes long to load, and the other methods do without

    rows = task.rows
    pairs = np.arange(len(rows.owner))
    owners = sparse.csr_matrix((np.ones(len(pairs)), (pairs, rows.owner)), rows.continuation.shape)
    result = linprog(
        np.ones(len(rows.first)),
        A_ub=sparse.csr_matrix(task.gamma * rows.continuation - owners),
        b_ub=-rows.reward,
        bounds=(None, None),
        method="highs",
        options={
            "maxiter": task.max_sweeps,
            "primal_feasibility_tolerance": 1e-10,
            "dual_feasibility_tolerance": 1e-10,
        },
    )
    if result.status in (2, 3):
        raise NeverEnds("gamma = 1: the linear program has no finite solution; take gamma below 1")
    if result.x is None:
        raise NotConverged(
            f"linear programming stopped after {result.nit} iterations, without a residual: {result.message}"
        )
    residual = float(np.abs(take_best(rows, back_up(rows, result.x, task.gamma)) - result.x).max())
    if result.status != 0:
        raise NotConverged(
            f"linear programming stopped after max_sweeps = {task.max_sweeps} iterations with a residual of"
            f" {residual:.3g}"
        )
    if task.on_sweep is not None:
        task.on_sweep(result.nit, result.x, residual / (1.0 - task.gamma) if task.gamma < 1.0 else residual)
    return result.x, result.nit


METHODS: dict[str, Callable[[SolverTask], tuple[Array, int]]] = {
    "value-iteration": value_iteration,
    "gauss-seidel": gauss_seidel,
    "prioritised-sweeping": prioritised_sweeping,
    "policy-iteration": policy_iteration,
    "modified-policy-iteration": modified_policy_iteration,
    "linear-programming": linear_programming,
}
