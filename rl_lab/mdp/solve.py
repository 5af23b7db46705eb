"""Exact solutions of finite MDPs: policy evaluation, and the optimum with a certified error bound.

All methods stop on a bound on the error of V itself. (Other libraries stop on the span of its changes,
which says how good the policy is, but nothing about V.) The result is then polished by policy iteration, so
that the returned values are those of the returned policy to about 1e-12. Large discounted models, whose
equations can't be factorised, are swept until the bound is certified.
Source: Puterman, "Markov Decision Processes", 1994, theorems 6.3.1 and 6.4.6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy import sparse

from rl_lab.mdp import undiscounted
from rl_lab.mdp.endless import require_bounded
from rl_lab.mdp.methods import METHODS, TIE_TOLERANCE, OnSweep, SolverTask, improve_policy, scale
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.rows import (
    NeverEnds,
    NotConverged,
    Rows,
    back_up,
    bound_rounding,
    evaluate_rows,
    list_rows,
    pick_first,
    solve_values,
    take_best,
)
from rl_lab.mdp.sweeps import is_large, make_sweeps
from rl_lab.types import Array

__all__ = [
    "METHODS",
    "NeverEnds",
    "NotConverged",
    "PolicyEvaluation",
    "Solution",
    "evaluate_directly",
    "evaluate_iteratively",
    "follow_policy",
    "policy_evaluation",
    "solve",
    "value_iteration",
]

DEFAULT_METHOD: Final = "modified-policy-iteration"
Method = Callable[[SolverTask], tuple[Array, int]]


@dataclass(frozen=True, eq=False)
class Solution:
    """An optimal policy of a finite MDP, its values, and how exact they are."""

    v: Array
    """Optimal values [S], which are those of `policy`; for a large model, within `bound` of the optimum."""
    q: Array
    """Optimal action values [S, A]; -inf where an action is unavailable."""
    policy: Array
    """The first optimal action, int64 [S]. At gamma = 1 it may be a later one if the first never ends."""
    optimal_actions: Array
    """Whether an action is within TIE_TOLERANCE * max(1, |v|) of the best, bool [S, A]; for a large model,
    within 2 * `bound`, so that no optimal action is missed."""
    sweeps: int
    """Sweeps over all states; for policy iteration its improvements, for linear programming its iterations."""
    bound: float
    """Certified bound on |v - V*| in the sup norm, rounding included. V* is defined by the model's float64
    `expected_reward` and `continuation`."""


def policy_evaluation(model: TabularModel, policy: Array, gamma: float) -> Array:
    """Return the values float64 [S] of a policy given as probabilities [S, A], at any gamma, 1 included.

    For action values and a bound on the error see `evaluate_directly`.

    Raises:
        ValueError: gamma is out of range, or the policy isn't a distribution over possible actions.
        NeverEnds: gamma = 1 and the policy goes on earning for ever.
    """
    _check_gamma(gamma)
    chain, reward, termination = follow_policy(model, policy)
    return solve_values(chain, reward, termination, gamma)


@dataclass(frozen=True, eq=False)
class PolicyEvaluation:
    """A policy's values in a finite MDP, and how exact they are."""

    v: Array
    """Values [S] of the policy."""
    q: Array
    """Values [S, A] of taking one action and then following the policy; -inf where it is unavailable."""
    sweeps: int
    """Sweeps over all states; 0 for a direct solution."""
    bound: float
    """Certified bound on the error of v in the sup norm, rounding included."""


def evaluate_iteratively(
    model: TabularModel,
    policy: Array,
    gamma: float,
    *,
    tolerance: float = 1e-10,
    max_sweeps: int = 1_000_000,
    on_sweep: OnSweep | None = None,
    threads: int = 1,
) -> PolicyEvaluation:
    """Evaluate a policy by sweeps alone, until its error is certified: for models too large for a direct solution.

    Args:
        policy: probabilities [S, A].
        gamma: discount, from 0 and below 1.
        tolerance: as in `solve`, and so are the arguments after it.

    Raises:
        ValueError: an argument is out of range, or the policy isn't a distribution over possible actions.
        NotConverged: `max_sweeps` was reached, or float64 can't certify the tolerance.
    """
    if not 0.0 <= gamma < 1.0:
        raise ValueError(
            f"gamma {gamma} must be in 0..1, and below 1: at 1 only policy_evaluation is certified"
        )
    _check_limits(tolerance, max_sweeps)
    sweeps = make_sweeps(_policy_rows(model, policy), gamma, threads)
    task = SolverTask("policy evaluation", sweeps, tolerance, max_sweeps, on_sweep)
    near, count = METHODS["modified-policy-iteration"](task)
    values, _, count, bound = _settle(task, near, count)
    return PolicyEvaluation(values, _action_values(model, list_rows(model), values, gamma), count, bound)


def evaluate_directly(model: TabularModel, policy: Array, gamma: float) -> PolicyEvaluation:
    """Evaluate a policy by solving its linear equations, with a bound on the error.

    Args:
        policy: probabilities [S, A].
        gamma: discount, from 0 and below 1.

    Raises:
        ValueError: gamma isn't below 1, or the policy isn't a distribution over possible actions.
    """
    if not 0.0 <= gamma < 1.0:
        raise ValueError(f"gamma {gamma} must be in 0..1, and below 1 for a bound")
    rows = _policy_rows(model, policy)
    values = solve_values(rows.continuation, rows.reward, rows.termination, gamma)
    residual = float(np.abs(back_up(rows, values, gamma) - values).max())
    bound = (residual + bound_rounding(rows, values, gamma)) / (1.0 - gamma)
    return PolicyEvaluation(values, _action_values(model, list_rows(model), values, gamma), 0, bound)


def follow_policy(model: TabularModel, policy: Array) -> tuple[sparse.csr_matrix, Array, Array]:
    """Return the Markov chain of following a policy, given as probabilities [S, A].

    Unavailable actions whose outcomes are known may be taken, since the environment allows it.

    Returns:
        The probabilities of going on in each state [S, S], the expected reward [S] and the probability of
        ending [S].

    Raises:
        ValueError: the policy isn't a distribution over actions with outcomes.
    """
    weights = _check_policy(model, policy).ravel()
    states = np.repeat(np.arange(model.num_states), model.num_actions)
    shape = (model.num_states, len(weights))
    select = sparse.csr_matrix((weights, (states, np.arange(len(weights)))), shape)
    chain = sparse.csr_matrix(select @ model.continuation)
    chain.eliminate_zeros()
    return chain, select @ model.expected_reward.ravel(), select @ model.termination.ravel()


def _policy_rows(model: TabularModel, policy: Array) -> Rows:
    """Return the Markov chain of a policy [S, A] as rows, one per state."""
    chain, reward, termination = follow_policy(model, policy)
    states = np.arange(model.num_states)
    return Rows(states, states, reward, termination, chain, states)


def solve(
    model: TabularModel,
    gamma: float,
    method: str = DEFAULT_METHOD,
    *,
    tolerance: float = 1e-10,
    max_sweeps: int = 1_000_000,
    on_sweep: OnSweep | None = None,
    threads: int = 1,
) -> Solution:
    """Solve a model exactly.

    Args:
        gamma: discount, 0 to 1.
        method: one of METHODS.
        tolerance: allowed error of V in the sup norm, relative to max(1, |V|).
        max_sweeps: limit on the sweeps.
        on_sweep: called with each sweep's number, values [S] and error bound. At gamma = 1 the bound is the
            sweep's largest change (only the final bound is certified), and states that reach one another
            for free share their values.
        threads: number of threads that share the sweeps of a large model; the result doesn't depend on it.

    Raises:
        ValueError: an argument is out of range.
        NotConverged: `max_sweeps` was reached, or float64 can't certify the tolerance.
        NeverEnds: gamma = 1 and the problem has no solution: an episode never ends, or the optimum is infinite.
    """
    _check_gamma(gamma)
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown (allowed: {', '.join(METHODS)})")
    _check_limits(tolerance, max_sweeps)
    rows = list_rows(model)
    task = SolverTask(
        method.replace("-", " "), make_sweeps(rows, gamma, threads), tolerance, max_sweeps, on_sweep
    )
    if gamma == 1.0:
        return _solve_undiscounted(model, task, METHODS[method], threads)
    values, sweeps = METHODS[method](task)
    return (_finish_large if is_large(rows) else _finish)(model, task, values, sweeps)


def value_iteration(
    model: TabularModel,
    gamma: float,
    tolerance: float = 1e-10,
    max_sweeps: int = 1_000_000,
    on_sweep: OnSweep | None = None,
) -> Solution:
    """Solve a model by value iteration (Jacobi); arguments and errors are those of `solve`."""
    return solve(
        model, gamma, "value-iteration", tolerance=tolerance, max_sweeps=max_sweeps, on_sweep=on_sweep
    )


def _finish(model: TabularModel, task: SolverTask, values: Array, sweeps: int) -> Solution:
    """Return the optimal policy that nearly optimal values [S] lead to, evaluated exactly."""
    rows, gamma = task.rows, task.gamma
    chosen, values = _polish(rows, gamma, values)
    chosen, values = _prefer_first(rows, gamma, chosen, values)
    residual = np.abs(take_best(rows, back_up(rows, values, gamma)) - values).max()
    bound = (float(residual) + bound_rounding(rows, values, gamma)) / (1.0 - gamma)
    if bound > task.tolerance * scale(values):
        raise _beyond_float64(bound, values, task)
    return _describe(model, rows, gamma, chosen, values, sweeps, bound)


def _finish_large(model: TabularModel, task: SolverTask, values: Array, sweeps: int) -> Solution:
    """Return certified values and their greedy policy."""
    values, chosen, sweeps, bound = _settle(task, values, sweeps)
    return _describe(model, task.rows, task.gamma, chosen, values, sweeps, bound, 2.0 * bound)


def _settle(task: SolverTask, values: Array, sweeps: int) -> tuple[Array, Array, int, float]:
    """Continue sweeping from nearly optimal values [S] until their error is certified, rounding included.

    After one more backup the error is at most gamma / (1 - gamma) times the change.

    Returns:
        Values [S], the rows that they come from, int64 [S], the number of sweeps, and the bound.
    """
    least = np.inf
    while True:
        values, chosen, change = task.sweeps.improve(values)
        sweeps += 1
        rounding = bound_rounding(task.rows, values, task.gamma)
        bound = (task.gamma * change.size + rounding) / (1.0 - task.gamma)
        if bound <= task.tolerance * scale(values):
            return values, chosen, sweeps, bound
        if bound > 0.999999 * least:  # rounding keeps it from falling any further
            raise _beyond_float64(bound, values, task)
        least = bound


def _beyond_float64(bound: float, values: Array, task: SolverTask) -> NotConverged:
    return NotConverged(
        f"the error of V can't be certified below {bound:.1e} in float64 at gamma = {task.gamma};"
        f" ask for a tolerance above {bound / scale(values):.1e}, not {task.tolerance:.1e}"
    )


def _solve_undiscounted(model: TabularModel, task: SolverTask, method: Method, threads: int) -> Solution:
    rows, on_sweep = task.rows, task.on_sweep
    free, label = undiscounted.find_free_rows(rows)
    merged = undiscounted.merge_free(rows, free, label)
    undiscounted.require_end(merged, label)
    require_bounded(merged, label)
    report = None if on_sweep is None else lambda sweep, v, bound: on_sweep(sweep, v[label], bound)
    values, sweeps = method(replace(task, sweeps=make_sweeps(merged, 1.0, threads), on_sweep=report))
    chosen, values = _polish(merged, 1.0, values)
    bound = undiscounted.certify(merged, chosen, values, task.tolerance * scale(values))
    lifted = undiscounted.lift_choice(rows, merged, chosen, free, label)
    lifted, values, noise = _choose_lifted(rows, lifted, values[label], task.tolerance)
    return _describe(model, rows, 1.0, lifted, values, sweeps, bound + noise)


def _choose_lifted(rows: Rows, lifted: Array, values: Array, tolerance: float) -> tuple[Array, Array, float]:
    """Return (chosen rows [S], their values [S], distance from the given values), the first choices if possible.

    The equations of a policy that arrives with certainty, but only after some 1e16 steps, can't be solved in
    float64. Its values are then those of the merged problem.
    """
    exact = evaluate_rows(rows, lifted, 1.0)
    for chosen, own in (_prefer_first(rows, 1.0, lifted, exact), (lifted, exact)):
        noise = float(np.abs(own - values).max())
        if noise <= tolerance * scale(values):
            return chosen, own, noise
    return lifted, values, 0.0


def _polish(rows: Rows, gamma: float, values: Array) -> tuple[Array, Array]:
    """Return (chosen rows [S], their values [S]) by policy iteration from nearly optimal values."""
    action_values = back_up(rows, values, gamma)
    chosen = pick_first(rows, action_values >= take_best(rows, action_values)[rows.owner])
    return improve_policy(rows, gamma, chosen)[:2]


def _prefer_first(rows: Rows, gamma: float, chosen: Array, values: Array) -> tuple[Array, Array]:
    """Return each state's first optimal row and the values, if that policy is indeed as good as the given one."""
    action_values = back_up(rows, values, gamma)
    first = pick_first(rows, _find_ties(rows, action_values, values))
    try:
        first_values = evaluate_rows(rows, first, gamma)
    except NeverEnds:
        return chosen, values
    worse = first_values < values - TIE_TOLERANCE * scale(values)
    return (chosen, values) if worse.any() else (first, first_values)


def _find_ties(rows: Rows, action_values: Array, values: Array, doubt: float = 0.0) -> Array:
    """Return the rows, bool [R], that are as good as the best of their state, up to rounding or `doubt`."""
    best = take_best(rows, action_values)[rows.owner]
    return action_values >= best - max(TIE_TOLERANCE * scale(values), doubt)


def _describe(
    model: TabularModel,
    rows: Rows,
    gamma: float,
    chosen: Array,
    values: Array,
    sweeps: int,
    bound: float,
    doubt: float = 0.0,  # action values that differ by less than this may be tied
) -> Solution:
    q = _action_values(model, rows, values, gamma)
    action_values = q.ravel()[rows.origin]
    optimal = np.zeros(model.available.size, dtype=bool)
    optimal[rows.origin] = _find_ties(rows, action_values, values, doubt)
    return Solution(
        v=values,
        q=q,
        policy=rows.origin[chosen] % model.num_actions,
        optimal_actions=optimal.reshape(model.available.shape),
        sweeps=sweeps,
        bound=bound,
    )


def _action_values(model: TabularModel, rows: Rows, values: Array, gamma: float) -> Array:
    q = np.full(model.available.size, -np.inf)
    q[rows.origin] = back_up(rows, values, gamma)
    return q.reshape(model.available.shape)


def _check_gamma(gamma: float) -> None:
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma {gamma} must be in 0..1")


def _check_limits(tolerance: float, max_sweeps: int) -> None:
    if not tolerance > 0 or max_sweeps < 1:
        raise ValueError(f"tolerance {tolerance} must be above 0 and max_sweeps {max_sweeps} at least 1")


def _check_policy(model: TabularModel, policy: Array) -> Array:
    policy = np.asarray(policy, dtype=np.float64)
    if policy.shape != model.available.shape:
        raise ValueError(f"policy has the shape {policy.shape}, the model's is {model.available.shape}")
    # float32 probabilities of a network sum to 1 within about 1e-6
    wrong = ~((policy >= 0).all(axis=1) & (np.abs(policy.sum(axis=1) - 1.0) <= 1e-5))
    if wrong.any():
        state = int(np.argmax(wrong))
        raise ValueError(f"policy of state {state} isn't a distribution: {policy[state]}")
    empty = (np.diff(model.indptr) == 0).reshape(policy.shape) & (policy > 0)
    if empty.any():
        state, action = np.argwhere(empty)[0]
        raise ValueError(f"policy takes action {action} in state {state}, which has no outcomes there")
    return policy / policy.sum(axis=1, keepdims=True)
