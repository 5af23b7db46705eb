"""One-step rules of temporal-difference learning on tables, as functions that numba can compile.

Each rule gives the error of one entry, `target - q[state, action]`; `learn_entry` learns from it. They are Q-learning
(Watkins & Dayan, 1992, https://link.springer.com/article/10.1007/BF00992698), double Q-learning (van Hasselt, 2010,
"Double Q-learning", https://papers.nips.cc/paper/3964-double-q-learning) and expected SARSA (van Seijen et al., 2009,
"A Theoretical and Empirical Analysis of Expected Sarsa", https://doi.org/10.1109/ADPRL.2009.4927542). SARSA (Rummery &
Niranjan, 1994, "On-Line Q-Learning Using Connectionist Systems") learns from windows of one step; see `windows`.

`q` is float64 [S, A], `visits` int64 [S, A] counts the updates of each entry. Legal actions of the next state are row
`row` of `legal`, and behaviours are given as `kind` and `parameter`; see `exploring`. `terminated` alone removes the
bootstrap.
"""

from __future__ import annotations

from rl_lab.mdp.learning.exploring import expected_value, first_best, largest
from rl_lab.mdp.learning.step_sizes import step_size

# mypy: disable-error-code="no-untyped-def"

Q_LEARNING = 0
EXPECTED_SARSA = 1
DOUBLE_Q = 2


def q_learning_error(q, state, action, reward, terminated, next_state, gamma, legal, row):
    """Return the error of Q-learning."""
    best = 0.0 if terminated else largest(q, next_state, legal, row)
    return reward + gamma * best - q[state, action]


def expected_sarsa_error(
    q, state, action, reward, terminated, next_state, gamma, kind, parameter, tried, legal, row
):
    """Return the error of expected SARSA, for the behaviour that acts."""
    value = 0.0 if terminated else expected_value(kind, parameter, q, next_state, tried, legal, row)
    return reward + gamma * value - q[state, action]


def double_q_error(chooser, valuer, state, action, reward, terminated, next_state, gamma, legal, row):
    """Return the error of an entry of `chooser` [S, A], which chooses the next action that `valuer` [S, A] values.

    Among equally good actions the first is taken.
    """
    value = 0.0
    if not terminated:
        value = valuer[next_state, first_best(chooser, next_state, legal, row)]
    return reward + gamma * value - chooser[state, action]


def learn_entry(q, visits, state, action, error, size_kind, rate, power):
    """Count an update of an entry, and move the entry by its step size times the error."""
    visits[state, action] += 1
    q[state, action] += step_size(size_kind, rate, power, visits[state, action]) * error


def learn_half(q, half, other, visits, state, action, error, size_kind, rate, power):
    """Move an entry of one of double Q-learning's two tables, and the mean of both in `q`, on which it acts."""
    learn_entry(half, visits, state, action, error, size_kind, rate, power)
    q[state, action] = 0.5 * (half[state, action] + other[state, action])


def update_at_once(
    rule, q, first, second, visits, second_visits, tried, state, action, reward, terminated, next_state,
    draw, gamma, kind, parameter, size_kind, rate, power, legal, error,
):  # fmt: skip
    """Learn from one step of each of N environments by a rule that needs no next action.

    All errors are those of the tables before the update. Where environments share an entry, their changes add up.

    Args:
        rule: Q_LEARNING, EXPECTED_SARSA or DOUBLE_Q.
        q: [S, A], what the agent acts on; with DOUBLE_Q the mean of the tables `first` and `second`.
        visits: int64 [S, A], updates of `q`, or of `first`; `second_visits` are those of `second`.
        state: int64 [N], like action and next_state; reward float64 [N], terminated bool [N].
        draw: uniform [N]; below 0.5 double Q-learning updates `first`. Other rules don't read it: it may be empty.
        legal: bool [N, A], the actions that are legal next, or [0, 0].
        error: float64 [N], into which the errors are written.
    """
    for i in range(len(state)):
        s, a, r, over, after = state[i], action[i], reward[i], terminated[i], next_state[i]
        if rule == Q_LEARNING:
            error[i] = q_learning_error(q, s, a, r, over, after, gamma, legal, i)
        elif rule == EXPECTED_SARSA:
            error[i] = expected_sarsa_error(q, s, a, r, over, after, gamma, kind, parameter, tried, legal, i)
        elif draw[i] < 0.5:
            error[i] = double_q_error(first, second, s, a, r, over, after, gamma, legal, i)
        else:
            error[i] = double_q_error(second, first, s, a, r, over, after, gamma, legal, i)
    for i in range(len(state)):
        s, a = state[i], action[i]
        if rule != DOUBLE_Q:
            learn_entry(q, visits, s, a, error[i], size_kind, rate, power)
        elif draw[i] < 0.5:
            learn_half(q, first, second, visits, s, a, error[i], size_kind, rate, power)
        else:
            learn_half(q, second, first, second_visits, s, a, error[i], size_kind, rate, power)
