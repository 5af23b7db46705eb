"""Eligibility traces on tables: Watkins's Q(lambda), SARSA(lambda) and TD(lambda).

Sutton & Barto (2018), "Reinforcement Learning: An Introduction", chapter 12; Watkins (1989), "Learning from Delayed
Rewards"; Singh & Sutton (1996), "Reinforcement Learning with Replacing Eligibility Traces",
https://link.springer.com/article/10.1007/BF00114726; Dutch traces with the correction that makes the online algorithm
equal its forward view: van Seijen & Sutton (2014), "True Online TD(lambda)",
https://proceedings.mlr.press/v32/seijen14.html.

Of each environment's traces only those are kept that aren't negligible, at most C of them. Each entry moves by its own
step size; Dutch traces hold the step sizes with which their entries were visited.

TD(lambda) learns values of states: its table has one action, which is taken in every state.
"""

from __future__ import annotations

from math import ceil, log
from typing import NamedTuple

from rl_lab.mdp.learning.exploring import expected_value, largest
from rl_lab.mdp.learning.records import step_of
from rl_lab.mdp.learning.step_sizes import step_size
from rl_lab.types import Array

# mypy: disable-error-code="no-untyped-def"

WATKINS_Q = 0
SARSA_LAMBDA = 1
TD_LAMBDA = 2

ACCUMULATING = 0
REPLACING = 1
DUTCH = 2

SMALLEST_TRACE = 1e-8  # what is smaller is dropped


class TraceRule(NamedTuple):
    """What is learned, and by which traces."""

    rule: int  # WATKINS_Q, SARSA_LAMBDA or TD_LAMBDA
    kind: int  # ACCUMULATING, REPLACING or DUTCH
    gamma: float
    decay: float  # gamma * lambda


class Traces(NamedTuple):
    """The traces of N environments, and the step of each that waits for its next action."""

    entry: Array  # int64 [N, C]: places in the flattened table
    trace: Array  # float64 [N, C]: sizes
    kept: Array  # int64 [N]: how many there are
    old: Array  # float64 [N]: the value from which the last step bootstrapped
    pending: Array  # int64 [N, 3]: state, action and successor; state -1 if no step waits
    pending_reward: Array  # float64 [N]


def most_traces(decay: float, entries: int) -> int:
    """Return how many traces an environment can have at most, C.

    Args:
        decay: gamma * lambda.
        entries: of the table, S * A.
    """
    if decay >= 1.0:
        return entries
    if decay <= 0.0:
        return min(entries, 2)
    return min(entries, ceil(log(SMALLEST_TRACE * (1.0 - decay)) / log(decay)) + 2)


def follow_traces(terms, table, traces, i, state, action, reward, next_value, sizes):
    """Add a step of environment i to its traces and move all entries that have one; return the step's error.

    Args:
        terms: `TraceRule`; table: `Table`; traces: `Traces`; sizes: `Sizes`.
        next_value: of what follows; 0 after a termination.
    """
    values, times = table.q.reshape(-1), table.visits.reshape(-1)
    entry, trace, before = traces.entry, traces.trace, traces.kept[i]
    visited = state * table.q.shape[1] + action
    kept, place = 0, -1
    for k in range(before):
        left = terms.decay * trace[i, k]
        if left >= SMALLEST_TRACE or entry[i, k] == visited:
            entry[i, kept], trace[i, kept] = entry[i, k], left
            if entry[i, kept] == visited:
                place = kept
            kept += 1
    if place < 0:
        place, kept = kept, kept + 1
        entry[i, place], trace[i, place] = visited, 0.0
    value = values[visited]
    correction = value - traces.old[i] if terms.kind == DUTCH and before > 0 else 0.0
    times[visited] += 1
    size = step_size(sizes.kind, sizes.rate, sizes.power, times[visited])
    if terms.kind == ACCUMULATING:
        trace[i, place] += 1.0
    elif terms.kind == REPLACING:
        trace[i, place] = 1.0
    else:
        trace[i, place] = (1.0 - size) * trace[i, place] + size
    error = reward + terms.gamma * next_value - value
    for k in range(kept):
        own = 1.0
        if terms.kind != DUTCH:
            own = step_size(sizes.kind, sizes.rate, sizes.power, times[entry[i, k]])
        values[entry[i, k]] += own * (error + correction) * trace[i, k]
    values[visited] -= size * correction
    traces.kept[i], traces.old[i] = kept, next_value
    return error


def learn_by_traces(terms, table, traces, i, step, behaviour, sizes):
    """Learn from one step of environment i; return how many steps were learned from, and the sum of their |errors|.

    SARSA(lambda) learns from a step when the next action is known. At an episode's end that isn't terminal, where there
    is none, it bootstraps from the mean value under the behaviour. Q(lambda) cuts its traces before an action that
    isn't greedy. What an episode without an end has left is closed where the next one opens.

    Args:
        terms: `TraceRule`; table: `Table`; traces: `Traces`; step: `Step`; behaviour: `Behaviour`; sizes: `Sizes`.
    """
    rule, kind, parameter = terms.rule, behaviour.kind, behaviour.parameter
    q, tried, legal, pending = table.q, table.tried, table.legal, traces.pending
    state, action, after = step.state, step.action, step.next_state
    learned, total = 0, 0.0
    if rule == SARSA_LAMBDA and pending[i, 0] >= 0:
        before, taken, seen = pending[i, 0], pending[i, 1], pending[i, 2]
        value = q[state, action]
        if step.is_first:
            value = expected_value(kind, parameter, q, seen, tried, legal, seen)
        paid = traces.pending_reward[i]
        total += abs(follow_traces(terms, table, traces, i, before, taken, paid, value, sizes))
        learned, pending[i, 0] = 1, -1
    if step.is_first or (rule == WATKINS_Q and q[state, action] < largest(q, state, legal, state)):
        traces.kept[i] = 0
    if rule == SARSA_LAMBDA and not (step.terminated or step.truncated):
        pending[i, 0], pending[i, 1], pending[i, 2] = state, action, after
        traces.pending_reward[i] = step.reward
        return learned, total
    value = 0.0
    if not step.terminated:
        if rule == SARSA_LAMBDA:
            value = expected_value(kind, parameter, q, after, tried, legal, after)
        else:
            value = largest(q, after, legal, after)
    total += abs(follow_traces(terms, table, traces, i, state, action, step.reward, value, sizes))
    if step.terminated or step.truncated:
        traces.kept[i] = 0
    return learned + 1, total


def update_traces(terms, table, traces, steps, behaviour, sizes):
    """Learn from one step of each of N environments in turn, as `learn_by_traces` does.

    Args:
        steps: `Step` of arrays [N].
    """
    learned, total = 0, 0.0
    for i in range(len(steps.state)):
        more, size = learn_by_traces(terms, table, traces, i, step_of(steps, i), behaviour, sizes)
        learned, total = learned + more, total + size
    return learned, total
