"""Rules that learn from several steps at once: n-step SARSA (SARSA with n = 1), tree backup and Monte Carlo control.

Sutton & Barto (2018), "Reinforcement Learning: An Introduction", chapters 5 and 7; tree backup: Precup, Sutton & Singh
(2000), "Eligibility Traces for Off-Policy Policy Evaluation", https://scholarworks.umass.edu/cs_faculty_pubs/80.

The steps of each environment that haven't been learned from yet stand in a ring, which has room for C of them: n, for
Monte Carlo the length of the longest episode.

Where an episode ends without terminating, the last steps bootstrap from the mean value of the last successor under
the behaviour that is learned about. Monte Carlo does so too; without truncation it is the textbook's.
"""

from __future__ import annotations

from typing import NamedTuple

from rl_lab.mdp.learning.exploring import expected_value, probability
from rl_lab.mdp.learning.records import step_of
from rl_lab.mdp.learning.rules import learn_entry
from rl_lab.types import Array

# mypy: disable-error-code="no-untyped-def"

N_STEP_SARSA = 0
TREE_BACKUP = 1
EVERY_VISIT = 2  # Monte Carlo
FIRST_VISIT = 3


class WindowRule(NamedTuple):
    """What is learned, and from how many steps."""

    rule: int  # N_STEP_SARSA, TREE_BACKUP, EVERY_VISIT or FIRST_VISIT
    n: int  # Monte Carlo doesn't read it
    gamma: float


class Window(NamedTuple):
    """The steps of N environments that haven't been learned from yet, in rings."""

    steps: Array  # int64 [N, C, 2]: state and action
    rewards: Array  # float64 [N, C]
    marks: Array  # int64 [N, 3]: the place of the oldest, their number, and the last successor
    stamp: Array  # int64 [S, A]: the last episode in which an entry was visited; [1, 1] will do without FIRST_VISIT


def n_step_return(window, i, gamma, value):
    """Return the discounted rewards of environment i's steps, and after them `value`."""
    first, size = window.marks[i, 0], window.rewards.shape[1]
    for k in range(window.marks[i, 1] - 1, -1, -1):
        value = window.rewards[i, (first + k) % size] + gamma * value
    return value


def tree_return(table, window, i, gamma, value, behaviour):
    """Return the tree backup of environment i's steps, at whose end a state is worth `value`.

    A step is worth its reward and the mean value of the next state, in which what was experienced stands for the value
    of the action that was taken.
    """
    q, tried, legal = table.q, table.tried, table.legal
    first, size = window.marks[i, 0], window.rewards.shape[1]
    worth = 0.0
    for k in range(window.marks[i, 1] - 1, -1, -1):
        place = (first + k) % size
        worth = window.rewards[i, place] + gamma * value
        state, action = window.steps[i, place, 0], window.steps[i, place, 1]
        mean = expected_value(behaviour.kind, behaviour.parameter, q, state, tried, legal, state)
        share = probability(behaviour.kind, behaviour.parameter, q, state, tried, legal, state, action)
        value = mean + share * (worth - q[state, action])
    return worth


def learn_oldest(terms, table, window, i, value, behaviour, sizes):
    """Learn from the oldest of environment i's steps and drop it; return the error.

    Args:
        value: of what follows the last step.
    """
    q, marks, place = table.q, window.marks, window.marks[i, 0]
    state, action = window.steps[i, place, 0], window.steps[i, place, 1]
    if terms.rule == TREE_BACKUP:
        target = tree_return(table, window, i, terms.gamma, value, behaviour)
    else:
        target = n_step_return(window, i, terms.gamma, value)
    error = target - q[state, action]
    learn_entry(q, table.visits, state, action, error, sizes.kind, sizes.rate, sizes.power)
    marks[i, 0], marks[i, 1] = (place + 1) % window.rewards.shape[1], marks[i, 1] - 1
    return error


def learn_episode(terms, table, window, i, value, episode, sizes):
    """Learn from all of environment i's steps, the last first, and drop them; return how many, and their |errors|.

    Args:
        value: of what follows the last step.
        episode: a number that no earlier call had.
    """
    q, steps, stamp = table.q, window.steps, window.stamp
    length, learned, total = window.marks[i, 1], 0, 0.0
    for k in range(length):  # the ring begins at 0: Monte Carlo drops no single steps
        state, action = steps[i, k, 0], steps[i, k, 1]
        if terms.rule == FIRST_VISIT and stamp[state, action] == episode:
            steps[i, k, 1] = -1 - action  # visited before
        elif terms.rule == FIRST_VISIT:
            stamp[state, action] = episode
    for k in range(length - 1, -1, -1):
        value = window.rewards[i, k] + terms.gamma * value
        state, action = steps[i, k, 0], steps[i, k, 1]
        if action >= 0:
            error = value - q[state, action]
            learn_entry(q, table.visits, state, action, error, sizes.kind, sizes.rate, sizes.power)
            learned, total = learned + 1, total + abs(error)
    window.marks[i, 0], window.marks[i, 1] = 0, 0
    return learned, total


def last_value(table, window, i, behaviour):
    """Return the mean value of environment i's last successor."""
    last = window.marks[i, 2]
    return expected_value(behaviour.kind, behaviour.parameter, table.q, last, table.tried, table.legal, last)


def learn_rest(terms, table, window, i, terminated, episode, behaviour, sizes):
    """Learn from all of environment i's steps, at whose end nothing is worth anything or the last successor's value.

    Returns:
        How many steps were learned from, and the sum of their |errors|.
    """
    learned, total, value = 0, 0.0, 0.0
    if terms.rule in (EVERY_VISIT, FIRST_VISIT):
        if not terminated:
            value = last_value(table, window, i, behaviour)
        return learn_episode(terms, table, window, i, value, episode, sizes)
    while window.marks[i, 1] > 0:
        if not terminated:  # its value may have moved
            value = last_value(table, window, i, behaviour)
        total += abs(learn_oldest(terms, table, window, i, value, behaviour, sizes))
        learned += 1
    return learned, total


def learn_by_windows(terms, table, window, i, episode, step, behaviour, sizes):
    """Take in one step of environment i and learn from those that are due; return how many, and their |errors|.

    What an episode without an end has left is closed where the next one opens.

    Args:
        terms: `WindowRule`; table: `Table`; window: `Window`; step: `Step`; behaviour: `Behaviour`, that is learned
            about; sizes: `Sizes`.
        episode: a number that is new at every step.
    """
    rule, n, marks = terms.rule, terms.n, window.marks
    learned, total = 0, 0.0
    if step.is_first and marks[i, 1] > 0:
        learned, total = learn_rest(terms, table, window, i, False, 2 * episode, behaviour, sizes)
    if rule == N_STEP_SARSA and marks[i, 1] == n:
        value = table.q[step.state, step.action]
        total += abs(learn_oldest(terms, table, window, i, value, behaviour, sizes))
        learned += 1
    place = (marks[i, 0] + marks[i, 1]) % window.rewards.shape[1]
    window.steps[i, place, 0], window.steps[i, place, 1] = step.state, step.action
    window.rewards[i, place] = step.reward
    marks[i, 1], marks[i, 2] = marks[i, 1] + 1, step.next_state
    if step.terminated or step.truncated:
        more, size = learn_rest(terms, table, window, i, step.terminated, 2 * episode + 1, behaviour, sizes)
        return learned + more, total + size
    if rule == TREE_BACKUP and marks[i, 1] == n:
        value = last_value(table, window, i, behaviour)
        total += abs(learn_oldest(terms, table, window, i, value, behaviour, sizes))
        learned += 1
    return learned, total


def update_windows(terms, table, window, episodes, steps, behaviour, sizes):
    """Learn from one step of each of N environments in turn, as `learn_by_windows` does.

    Args:
        episodes: int64 [N], a number for each environment that is new at every step.
        steps: `Step` of arrays [N].
    """
    learned, total = 0, 0.0
    for i in range(len(steps.state)):
        more, size = learn_by_windows(
            terms, table, window, i, episodes[i], step_of(steps, i), behaviour, sizes
        )
        learned, total = learned + more, total + size
    return learned, total
