"""Exact solutions of finite MDPs: policy evaluation, and the optimum with a certified error.

All methods stop on a bound of the error of V itself. The span of its changes, on which others
stop, says how good the policy is and nothing of V. What they converge to is then polished by policy
iteration, so that the values returned are those of the policy returned, to about 1e-12. Large
discounted models, whose equations can't be factorised, are swept until the bound is certified.
Source: Puterman, "Markov Decision Processes", 1994, theorems 6.3.1 and 6.4.6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from rl_lab.mdp import rows as tables
from rl_lab.mdp import undiscounted
from rl_lab.mdp.methods import METHODS, TIE_TOLERANCE, OnSweep, Task, improve_policy, scale
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.rows import NeverEnds, NotConverged, Rows
from rl_lab.mdp.sweeps import is_large, make_sweeps
from rl_lab.types import Array

__all__ = [
    "METHODS",
    "NeverEnds",
    "NotConverged",
    "Solution",
    "policy_evaluation",
    "solve",
    "value_iteration",
]

DEFAULT_METHOD = "modified-policy-iteration"
Method = Callable[[Task], tuple[Array, int]]


@dataclass(frozen=True, eq=False)
class Solution:
    """An optimal policy of a finite MDP, its values, and how exact they are."""

    v: Array
    """Optimal values [S], those of `policy`; of a large model within `bound` of the optimum."""
    q: Array
    """Optimal action values [S, A]; -inf where an action is unavailable."""
    policy: Array
    """The first optimal action [S]. At gamma = 1 it may be a later one, where the first never ends."""
    optimal_actions: Array
    """Actions [S, A] bool within TIE_TOLERANCE * max(1, |v|) of the best; of a large model within
    2 * `bound`, so that none is missed."""
    sweeps: int
    """Sweeps over all states; improvements of policy iteration, iterations of linear programming."""
    bound: float
    """Certified bound on |v - V*| in the sup norm, rounding included; V* is that of the model's
    float64 `expected_reward` and `continuation`."""


def policy_evaluation(model: TabularModel, policy: Array, gamma: float) -> Array:
    """Return the values [S] of a policy given as probabilities [S, A].

    Raises NeverEnds, a ValueError, where gamma = 1 and the policy goes on earning for ever.
    """
    _check_gamma(gamma)
    chain, reward, termination = follow_policy(model, policy)
    return tables.solve_values(chain, reward, termination, gamma)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a policy is worth, and how exactly that is known."""

    v: Array
    """Values [S] of the policy."""
    q: Array
    """Values [S, A] of one action, then the policy; -inf where an action is unavailable."""
    sweeps: int
    """Sweeps over all states; 0 of a direct solution."""
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
) -> Evaluation:
    """Evaluate a policy [S, A] by sweeps alone, for models too large for a direct solution.

    gamma is below 1. For the arguments and errors see `solve`.
    """
    if not 0.0 <= gamma < 1.0:
        raise ValueError(
            f"gamma {gamma} must be in 0..1, and below 1: at 1 only policy_evaluation is certified"
        )
    chain, reward, termination = follow_policy(model, policy)
    states = np.arange(model.num_states)
    rows = Rows(states, states, reward, termination, chain, states)
    sweeps = make_sweeps(rows, gamma, threads)
    task = Task("policy evaluation", sweeps, tolerance, max_sweeps, on_sweep)
    near, count = METHODS["modified-policy-iteration"](task)
    values, _, count, bound = _settle(task, near, count)
    return Evaluation(values, _action_values(model, tables.list_rows(model), values, gamma), count, bound)


def evaluate_directly(model: TabularModel, policy: Array, gamma: float) -> Evaluation:
    """Evaluate a policy [S, A] by `policy_evaluation`, with its error. gamma is below 1."""
    if not 0.0 <= gamma < 1.0:
        raise ValueError(f"gamma {gamma} must be in 0..1, and below 1 for a bound")
    chain, reward, termination = follow_policy(model, policy)
    values, states = tables.solve_values(chain, reward, termination, gamma), np.arange(model.num_states)
    rows = Rows(states, states, reward, termination, chain, states)
    residual = float(np.abs(tables.back_up(rows, values, gamma) - values).max())
    bound = (residual + tables.bound_rounding(rows, values, gamma)) / (1.0 - gamma)
    return Evaluation(values, _action_values(model, tables.list_rows(model), values, gamma), 0, bound)


def follow_policy(model: TabularModel, policy: Array) -> tuple[sparse.csr_matrix, Array, Array]:
    """Return the Markov chain that a policy [S, A] makes of a model.

    That is the probabilities [S, S] of going on, the expected reward [S] and the probability [S]
    of ending. Unavailable actions with known outcomes may be taken, as the environment allows it.
    """
    weights = _check_policy(model, policy).ravel()
    states = np.repeat(np.arange(model.num_states), model.num_actions)
    shape = (model.num_states, len(weights))
    select = sparse.csr_matrix((weights, (states, np.arange(len(weights)))), shape)
    chain = sparse.csr_matrix(select @ model.continuation)
    chain.eliminate_zeros()
    return chain, select @ model.expected_reward.ravel(), select @ model.termination.ravel()


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
    """Solve a model exactly, by the method named.

    Args:
        method: one of METHODS.
        tolerance: bounds the error of V in the sup norm, relative to max(1, |V|).
        max_sweeps: after which it is an error not to have converged.
        on_sweep: is given each sweep's number, values [S] and error bound; at gamma = 1 the bound is
            the sweep's largest change, since a bound is only certified in the end, and values are
            shared by states that reach one another for free.
        threads: that share the sweeps of a large model; they change no result.

    Raises:
        NotConverged: after `max_sweeps`, with the residual, or below what float64 can certify.
        NeverEnds: where gamma = 1 has no answer.
    """
    _check_gamma(gamma)
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown (allowed: {', '.join(METHODS)})")
    if not tolerance > 0 or max_sweeps < 1:
        raise ValueError(f"tolerance {tolerance} must be above 0 and max_sweeps {max_sweeps} at least 1")
    rows = tables.list_rows(model)
    task = Task(method.replace("-", " "), make_sweeps(rows, gamma, threads), tolerance, max_sweeps, on_sweep)
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
    """Solve a model by value iteration (Jacobi); for the arguments and errors see `solve`."""
    return solve(
        model, gamma, "value-iteration", tolerance=tolerance, max_sweeps=max_sweeps, on_sweep=on_sweep
    )


def _finish(model: TabularModel, task: Task, values: Array, sweeps: int) -> Solution:
    """Return the policy that nearly optimal values lead to, evaluated exactly."""
    rows, gamma = task.rows, task.gamma
    chosen, values = _polish(rows, gamma, values)
    chosen, values = _prefer_first(rows, gamma, chosen, values)
    residual = np.abs(tables.take_best(rows, tables.back_up(rows, values, gamma)) - values).max()
    bound = (float(residual) + tables.bound_rounding(rows, values, gamma)) / (1.0 - gamma)
    if bound > task.tolerance * scale(values):
        raise _beyond_float64(bound, values, task)
    return _describe(model, rows, gamma, chosen, values, sweeps, bound)


def _finish_large(model: TabularModel, task: Task, values: Array, sweeps: int) -> Solution:
    """Return the greedy policy of values that are certified."""
    values, chosen, sweeps, bound = _settle(task, values, sweeps)
    return _describe(model, task.rows, task.gamma, chosen, values, sweeps, bound, 2.0 * bound)


def _settle(task: Task, values: Array, sweeps: int) -> tuple[Array, Array, int, float]:
    """Sweep on from nearly optimal values until their error is certified, rounding included.

    Values backed up once more err by at most gamma / (1 - gamma) of what changed. Returns (values
    [S], the rows [S] they come from, sweeps, bound).
    """
    least = np.inf
    while True:
        values, chosen, change = task.sweeps.improve(values)
        sweeps += 1
        rounding = tables.bound_rounding(task.rows, values, task.gamma)
        bound = (task.gamma * change.size + rounding) / (1.0 - task.gamma)
        if bound <= task.tolerance * scale(values):
            return values, chosen, sweeps, bound
        if bound > 0.999999 * least:  # it fell for as long as rounding let it
            raise _beyond_float64(bound, values, task)
        least = bound


def _beyond_float64(bound: float, values: Array, task: Task) -> NotConverged:
    return NotConverged(
        f"the error of V can't be certified below {bound:.1e} in float64 at gamma = {task.gamma};"
        f" ask for a tolerance above {bound / scale(values):.1e}, not {task.tolerance:.1e}"
    )


def _solve_undiscounted(model: TabularModel, task: Task, method: Method, threads: int) -> Solution:
    rows, on_sweep = task.rows, task.on_sweep
    free, label = undiscounted.find_free_rows(rows)
    merged = undiscounted.merge_free(rows, free, label)
    undiscounted.require_end(merged, label)
    report = None if on_sweep is None else lambda sweep, v, bound: on_sweep(sweep, v[label], bound)
    values, sweeps = method(replace(task, sweeps=make_sweeps(merged, 1.0, threads), on_sweep=report))
    chosen, values = _polish(merged, 1.0, values)
    bound = undiscounted.certify(merged, chosen, values, task.tolerance * scale(values))
    lifted = undiscounted.lift_choice(rows, merged, chosen, free, label)
    lifted, values, noise = _choose_lifted(rows, lifted, values[label], task.tolerance)
    return _describe(model, rows, 1.0, lifted, values, sweeps, bound + noise)


def _choose_lifted(rows: Rows, lifted: Array, values: Array, tolerance: float) -> tuple[Array, Array, float]:
    """Return (chosen rows [S], their values [S], how far from the given ones), the first choices if possible.

    A policy that arrives surely, but after some 1e16 steps, has equations that float64 can't solve.
    What it is worth is known from the merged problem all the same.
    """
    exact = tables.evaluate_rows(rows, lifted, 1.0)
    for chosen, own in (_prefer_first(rows, 1.0, lifted, exact), (lifted, exact)):
        noise = float(np.abs(own - values).max())
        if noise <= tolerance * scale(values):
            return chosen, own, noise
    return lifted, values, 0.0


def _polish(rows: Rows, gamma: float, values: Array) -> tuple[Array, Array]:
    """Return (chosen rows [S], their values [S]) by policy iteration from nearly optimal values."""
    action_values = tables.back_up(rows, values, gamma)
    chosen = tables.pick_first(rows, action_values >= tables.take_best(rows, action_values)[rows.owner])
    return improve_policy(rows, gamma, chosen)[:2]


def _prefer_first(rows: Rows, gamma: float, chosen: Array, values: Array) -> tuple[Array, Array]:
    """Return the first among equal choices, and their values, if that is as good as it should be."""
    action_values = tables.back_up(rows, values, gamma)
    first = tables.pick_first(rows, _find_ties(rows, action_values, values))
    try:
        first_values = tables.evaluate_rows(rows, first, gamma)
    except NeverEnds:
        return chosen, values
    worse = first_values < values - TIE_TOLERANCE * scale(values)
    return (chosen, values) if worse.any() else (first, first_values)


def _find_ties(rows: Rows, action_values: Array, values: Array, doubt: float = 0.0) -> Array:
    best = tables.take_best(rows, action_values)[rows.owner]
    return action_values >= best - max(TIE_TOLERANCE * scale(values), doubt)


def _describe(
    model: TabularModel,
    rows: Rows,
    gamma: float,
    chosen: Array,
    values: Array,
    sweeps: int,
    bound: float,
    doubt: float = 0.0,  # within which two action values may still change places
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
    q[rows.origin] = tables.back_up(rows, values, gamma)
    return q.reshape(model.available.shape)


def _check_gamma(gamma: float) -> None:
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma {gamma} must be in 0..1")


def _check_policy(model: TabularModel, policy: Array) -> Array:
    policy = np.asarray(policy, dtype=np.float64)
    if policy.shape != model.available.shape:
        raise ValueError(f"policy has the shape {policy.shape}, the model's is {model.available.shape}")
    # float32 probabilities of a network sum to 1 within about 1e-6
    wrong = ~((policy >= 0).all(axis=1) & (np.abs(policy.sum(axis=1) - 1.0) <= 1e-5))
    if wrong.any():
        state = int(np.argmax(wrong))
        raise ValueError(f"policy of state {state} is no distribution: {policy[state]}")
    empty = (np.diff(model.indptr) == 0).reshape(policy.shape) & (policy > 0)
    if empty.any():
        state, action = np.argwhere(empty)[0]
        raise ValueError(f"policy takes action {action} in state {state}, which has no outcomes there")
    return policy / policy.sum(axis=1, keepdims=True)
