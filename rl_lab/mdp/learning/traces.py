"""Eligibility traces on tables: Watkins's Q(lambda), SARSA(lambda) and TD(lambda).

Sutton & Barto (2018), "Reinforcement Learning: An Introduction", chapter 12; Watkins (1989), "Learning from Delayed
Rewards"; Singh & Sutton (1996), "Reinforcement Learning with Replacing Eligibility Traces",
https://link.springer.com/article/10.1007/BF00114726; Dutch traces with the correction that makes the online algorithm
equal its forward view: van Seijen & Sutton (2014), "True Online TD(lambda)",
https://proceedings.mlr.press/v32/seijen14.html.

Of each environment's traces only those are kept that aren't negligible: `entry` int64 [N, C] holds their places in the
flattened table, `trace` float64 [N, C] their sizes and `count` int64 [N] their number. `old` float64 [N] is the value
from which the last step bootstrapped. Each entry moves by its own step size; Dutch traces hold the step sizes with
which their entries were visited.

TD(lambda) learns values of states: its table has one action, which is taken in every state.
"""

from __future__ import annotations

from math import ceil, log

from rl_lab.mdp.learning.exploring import expected_value, largest
from rl_lab.mdp.learning.step_sizes import step_size

# mypy: disable-error-code="no-untyped-def"

WATKINS_Q = 0
SARSA_LAMBDA = 1
TD_LAMBDA = 2

ACCUMULATING = 0
REPLACING = 1
DUTCH = 2

SMALLEST_TRACE = 1e-8  # what is smaller is dropped


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


def follow_traces(
    q, visits, entry, trace, count, old, i, state, action, reward, next_value,
    gamma, decay, trace_kind, size_kind, rate, power,
):  # fmt: skip
    """Add a step of environment i to its traces and move all entries that have one; return the step's error.

    Args:
        next_value: of what follows; 0 after a termination.
        decay: gamma * lambda.
        trace_kind: ACCUMULATING, REPLACING or DUTCH.
    """
    values, times = q.reshape(-1), visits.reshape(-1)
    visited = state * q.shape[1] + action
    kept, place = 0, -1
    for k in range(count[i]):
        left = decay * trace[i, k]
        if left >= SMALLEST_TRACE or entry[i, k] == visited:
            entry[i, kept], trace[i, kept] = entry[i, k], left
            if entry[i, kept] == visited:
                place = kept
            kept += 1
    if place < 0:
        place, kept = kept, kept + 1
        entry[i, place], trace[i, place] = visited, 0.0
    value = values[visited]
    correction = value - old[i] if trace_kind == DUTCH and count[i] > 0 else 0.0
    times[visited] += 1
    size = step_size(size_kind, rate, power, times[visited])
    if trace_kind == ACCUMULATING:
        trace[i, place] += 1.0
    elif trace_kind == REPLACING:
        trace[i, place] = 1.0
    else:
        trace[i, place] = (1.0 - size) * trace[i, place] + size
    error = reward + gamma * next_value - value
    for k in range(kept):
        own = 1.0 if trace_kind == DUTCH else step_size(size_kind, rate, power, times[entry[i, k]])
        values[entry[i, k]] += own * (error + correction) * trace[i, k]
    values[visited] -= size * correction
    count[i], old[i] = kept, next_value
    return error


def learn_by_traces(
    rule, q, visits, tried, entry, trace, count, old, pending, pending_reward, i,
    state, action, reward, terminated, truncated, next_state, is_first,
    gamma, decay, trace_kind, kind, parameter, size_kind, rate, power, legal,
):  # fmt: skip
    """Learn from one step of environment i; return how many steps were learned from, and the sum of their |errors|.

    SARSA(lambda) learns from a step when the next action is known. At an episode's end that isn't terminal, where there
    is none, it bootstraps from the mean value under the behaviour. Q(lambda) cuts its traces before an action that
    isn't greedy.

    Args:
        rule: WATKINS_Q, SARSA_LAMBDA or TD_LAMBDA.
        pending: int64 [N, 3], state, action and successor of the step that waits for the next action; state -1 if none.
        pending_reward: float64 [N], its reward.
        is_first: whether the state opens an episode; what an episode without an end has left is closed.
        legal: bool [S, A] or [0, 0], the actions that are legal in each state.
    """
    learned, total = 0, 0.0
    if rule == SARSA_LAMBDA and pending[i, 0] >= 0:
        before, taken, seen = pending[i, 0], pending[i, 1], pending[i, 2]
        value = expected_value(kind, parameter, q, seen, tried, legal, seen) if is_first else q[state, action]
        total += abs(
            follow_traces(
                q, visits, entry, trace, count, old, i, before, taken, pending_reward[i], value,
                gamma, decay, trace_kind, size_kind, rate, power,
            )
        )  # fmt: skip
        learned, pending[i, 0] = 1, -1
    if is_first or (rule == WATKINS_Q and q[state, action] < largest(q, state, legal, state)):
        count[i] = 0
    if rule == SARSA_LAMBDA and not (terminated or truncated):
        pending[i, 0], pending[i, 1], pending[i, 2] = state, action, next_state
        pending_reward[i] = reward
        return learned, total
    value = 0.0
    if not terminated:
        if rule == SARSA_LAMBDA:
            value = expected_value(kind, parameter, q, next_state, tried, legal, next_state)
        else:
            value = largest(q, next_state, legal, next_state)
    total += abs(
        follow_traces(
            q, visits, entry, trace, count, old, i, state, action, reward, value,
            gamma, decay, trace_kind, size_kind, rate, power,
        )
    )  # fmt: skip
    if terminated or truncated:
        count[i] = 0
    return learned + 1, total


def update_traces(
    rule, q, visits, tried, entry, trace, count, old, pending, pending_reward,
    state, action, reward, terminated, truncated, next_state, is_first,
    gamma, decay, trace_kind, kind, parameter, size_kind, rate, power, legal,
):  # fmt: skip
    """Learn from one step of each of N environments in turn, as `learn_by_traces` does; the steps' arrays are [N]."""
    learned, total = 0, 0.0
    for i in range(len(state)):
        more, size = learn_by_traces(
            rule, q, visits, tried, entry, trace, count, old, pending, pending_reward, i,
            state[i], action[i], reward[i], terminated[i], truncated[i], next_state[i], is_first[i],
            gamma, decay, trace_kind, kind, parameter, size_kind, rate, power, legal,
        )  # fmt: skip
        learned, total = learned + more, total + size
    return learned, total
