"""The largest average reward per step in a finite MDP, with a certified error bound.

An episode that ends is followed by the next one, so that the average of an episodic problem is its reward per step.
The model has to be weakly communicating (unichain and communicating models are): then the optimal gain g* is the
same from every state. For any values h, the smallest and the largest of max_a [r - h + P h] over the states bound it.
Source: Puterman, "Markov Decision Processes", 1994, chapters 8 and 9; the bounds are theorem 8.5.5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

import numpy as np
from scipy import sparse

from rl_lab.mdp.average_methods import (
    METHODS,
    OnSweep,
    Task,
    TooManyStates,
    beyond_float64,
    certify,
    differential,
    enclose,
    evaluate,
    improve,
    is_direct,
    join_classes,
)
from rl_lab.mdp.differential import Chain, Differential
from rl_lab.mdp.methods import TIE_TOLERANCE, scale
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.recurring import (
    Multichain,
    Process,
    Structure,
    join_episodes,
    recurrent_classes,
    require_one_component,
)
from rl_lab.mdp.rows import Rows, back_up, pick_first, take_best
from rl_lab.types import Array

__all__ = [
    "AVERAGE_METHODS",
    "AverageSolution",
    "Multichain",
    "TooManyStates",
    "evaluate_average",
    "solve_average",
]

AVERAGE_METHODS = METHODS
DEFAULT_AVERAGE_METHOD: Final = "relative-value-iteration"


@dataclass(frozen=True, eq=False)
class AverageSolution:
    """A policy with the largest average reward, and how exact its gain and its bias are."""

    gain: float
    """The largest average reward per step, from every state."""
    bound: float
    """Certified bound on |gain - g*| and on how far the policy's own gain is from g*, rounding included."""
    bias: Array
    """The policy's expected reward above the gain from each state on, [S]; 0 on the average of its steps. In a large
    model, whose equations aren't solved, the relative values of the last sweep, 0 in one state."""
    bias_bound: float
    """Certified bound on the error of the policy's bias in the sup norm; inf in a large model."""
    q: Array
    """Differential action values r - gain + P bias, [S, A]; -inf where an action is unavailable."""
    policy: Array
    """The first optimal action, int64 [S]; a later one if the first would split the states into several classes."""
    optimal_actions: Array
    """Which actions attain the best differential value, up to rounding or 2 * `bound` in a large model, bool [S, A].
    Any choice of them has the largest average reward."""
    recurrent: Array
    """Which states the policy visits for ever, bool [S]; in a large model, all those of its closed classes."""
    solved: Array
    """The states, bool [S], for which all this holds: all of them, or those that can be reached from the start if other
    states make the model multichain. In the rest `policy` is the first available action, `bias` and `q` are nan."""
    structure: Structure
    """What the model is: in a communicating one some policy visits every state for ever."""
    sweeps: int
    """Sweeps over all states; for policy iteration its improvements."""
    name_of_bias: Literal["bias", "relative_values"]
    """What `bias` holds, and files call it: relative_values in a large model."""


def solve_average(
    model: TabularModel,
    method: str = DEFAULT_AVERAGE_METHOD,
    *,
    tolerance: float = 1e-10,
    max_sweeps: int = 1_000_000,
    on_sweep: OnSweep | None = None,
) -> AverageSolution:
    """Find a policy with the largest average reward per step.

    Args:
        method: one of AVERAGE_METHODS.
        tolerance: allowed error of the gain, relative to max(1, |gain|).
        max_sweeps: limit on the sweeps, or on the improvements of policy iteration.
        on_sweep: called with each sweep's number, the gain and its error bound.

    Raises:
        ValueError: an argument is out of range.
        TooManyStates: the model is too large for policy iteration.
        Multichain: the optimal average reward may depend on the start.
        NotConverged: `max_sweeps` was reached, or float64 can't certify the tolerance.
    """
    if method not in AVERAGE_METHODS:
        raise ValueError(f"method {method!r} is unknown (allowed: {', '.join(AVERAGE_METHODS)})")
    if not tolerance > 0 or max_sweeps < 1:
        raise ValueError(f"tolerance {tolerance} must be above 0 and max_sweeps {max_sweeps} at least 1")
    process, structure, members = require_one_component(model)
    task = Task(process, members, tolerance, max_sweeps, on_sweep)
    values, sweeps = AVERAGE_METHODS[method](task)
    outcome = (_finish if is_direct(process) else _finish_large)(task, values)
    return _describe(model, task, structure, outcome, sweeps)


def evaluate_average(model: TabularModel, policy: Array) -> Differential:
    """Return the gain and the bias [S] of a policy, given as probabilities [S, A], with certified bounds.

    Episodes that end are followed by the next one.

    Raises:
        ValueError: the policy isn't a distribution over available actions.
        Multichain: the policy's average reward depends on the start.
    """
    policy = np.asarray(policy, dtype=np.float64)
    if policy.shape != model.available.shape:
        raise ValueError(f"policy has the shape {policy.shape}, the model's is {model.available.shape}")
    policy = np.where(model.available, policy, 0.0)
    wrong = ~((policy >= 0).all(axis=1) & (np.abs(policy.sum(axis=1) - 1.0) <= 1e-5))
    if wrong.any():
        state = int(np.argmax(wrong))
        raise ValueError(
            f"policy of state {state} isn't a distribution over available actions: {policy[state]}"
        )
    process = join_episodes(model)
    weights = (policy / policy.sum(axis=1, keepdims=True)).ravel()[process.rows.origin]
    if process.restarts:
        weights[-1] = 1.0
    found = _mixed_chain(process, weights)
    return _without_restart(found, model.num_states)


def _mixed_chain(process: Process, weights: Array) -> Differential:
    """Return the gain and the bias of taking each row with its weight [R]."""
    rows = process.rows
    shape = (len(rows.first), len(weights))
    select = sparse.csr_matrix((weights, (rows.owner, np.arange(len(weights)))), shape)
    chain = sparse.csr_matrix(select @ rows.continuation)
    chain.eliminate_zeros()
    return Chain(chain, process.steps[rows.first]).evaluate(select @ rows.reward)


def _without_restart(found: Differential, states: int) -> Differential:
    return Differential(
        found.gain, found.gain_bound, found.bias[:states], found.bias_bound, found.recurrent[:states]
    )


class _Outcome(NamedTuple):
    """A policy as rows [S], its gain and bias, a bound on |gain - g*|, and by how much tied values may differ."""

    chosen: Array
    found: Differential
    bound: float
    doubt: float


def _finish(task: Task, values: Array) -> _Outcome:
    """Return an optimal policy near values [S], evaluated exactly."""
    process, rows = task.process, task.rows
    action_values = back_up(rows, values, 1.0)
    chosen = join_classes(
        process, pick_first(rows, action_values >= take_best(rows, action_values)[rows.owner])
    )
    chosen, found, _ = improve(replace(task, on_sweep=None), chosen, 1000)
    chosen, found = _prefer_first(process, chosen, found)
    bound = certify(process, found)
    if bound > task.tolerance * max(1.0, abs(found.gain)):
        raise beyond_float64(bound, found.gain, task)
    return _Outcome(chosen, found, bound, 0.0)


def _finish_large(task: Task, values: Array) -> _Outcome:
    """Return the greedy policy of certified values [S]."""
    process, rows, real = task.process, task.rows, slice(len(task.process.states))
    action_values = back_up(rows, values, 1.0)
    best = take_best(rows, action_values)
    chosen = pick_first(rows, action_values >= best[rows.owner])
    gain, bound = enclose(process, values, best[real] - values[real])
    recurrent = np.zeros(len(values), dtype=bool)
    recurrent[np.concatenate(recurrent_classes(rows.continuation[chosen]))] = True
    return _Outcome(chosen, Differential(gain, bound, values, np.inf, recurrent), bound, 2.0 * bound)


def _prefer_first(process: Process, chosen: Array, found: Differential) -> tuple[Array, Differential]:
    """Return each state's first optimal row, if that policy has one recurrent class and is indeed as good."""
    rows = process.rows
    first = pick_first(rows, _find_ties(rows, differential(process, found), 0.0))
    if len(recurrent_classes(rows.continuation[first])) > 1:
        return chosen, found
    other = evaluate(process, first)
    return (first, other) if certify(process, other) <= 2.0 * certify(process, found) else (chosen, found)


def _find_ties(rows: Rows, action_values: Array, doubt: float) -> Array:
    """Return the rows, bool [R], that are as good as the best of their state, up to rounding or `doubt`."""
    best = take_best(rows, action_values)[rows.owner]
    return action_values >= best - max(TIE_TOLERANCE * scale(action_values), doubt)


def _describe(
    model: TabularModel, task: Task, structure: Structure, outcome: _Outcome, sweeps: int
) -> AverageSolution:
    process, rows, found, size = task.process, task.rows, outcome.found, len(task.process.states)
    action_values = differential(process, found)
    real = np.flatnonzero(rows.origin >= 0)
    solved, unknown = np.zeros(model.num_states, dtype=bool), np.full(model.num_states, np.nan)
    solved[process.states] = True
    q = np.where(model.available & ~solved[:, None], np.nan, -np.inf)
    q.ravel()[rows.origin[real]] = action_values[real]
    optimal, recurrent = np.zeros(model.available.shape, dtype=bool), solved.copy()
    optimal.ravel()[rows.origin[real]] = _find_ties(rows, action_values, outcome.doubt)[real]
    policy = model.available.argmax(axis=1)
    policy[process.states] = rows.origin[outcome.chosen[:size]] % model.num_actions
    unknown[process.states], recurrent[process.states] = found.bias[:size], found.recurrent[:size]
    return AverageSolution(
        gain=found.gain,
        bound=outcome.bound,
        bias=unknown,
        bias_bound=found.bias_bound,
        q=q,
        policy=policy,
        optimal_actions=optimal,
        recurrent=recurrent,
        solved=solved,
        structure=structure,
        sweeps=sweeps,
        name_of_bias="bias" if is_direct(process) else "relative_values",
    )
