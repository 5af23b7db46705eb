"""Rules that learn from several steps at once: n-step SARSA (SARSA with n = 1), tree backup and Monte Carlo control.

Sutton & Barto (2018), "Reinforcement Learning: An Introduction", chapters 5 and 7; tree backup: Precup, Sutton & Singh
(2000), "Eligibility Traces for Off-Policy Policy Evaluation", https://scholarworks.umass.edu/cs_faculty_pubs/80.

The steps of each environment that haven't been learned from yet stand in a ring: `steps` int64 [N, C, 2] (state and
action), `rewards` float64 [N, C] and `marks` int64 [N, 3] (the place of the oldest, their number, and the last
successor). C is n, for Monte Carlo the length of the longest episode.

Where an episode ends without terminating, the last steps bootstrap from the mean value of the last successor under
the policy that is learned about: `kind` and `parameter`, a behaviour of `exploring`. Monte Carlo does so too; without
truncation it is the textbook's.
"""

from __future__ import annotations

from rl_lab.mdp.learning.exploring import expected_value, probability
from rl_lab.mdp.learning.rules import learn_entry

# mypy: disable-error-code="no-untyped-def"

N_STEP_SARSA = 0
TREE_BACKUP = 1
EVERY_VISIT = 2  # Monte Carlo
FIRST_VISIT = 3


def n_step_return(steps, rewards, marks, i, gamma, value):
    """Return the discounted rewards of environment i's steps, and after them `value`."""
    size = rewards.shape[1]
    for k in range(marks[i, 1] - 1, -1, -1):
        value = rewards[i, (marks[i, 0] + k) % size] + gamma * value
    return value


def tree_return(q, tried, steps, rewards, marks, i, gamma, value, kind, parameter, legal):
    """Return the tree backup of environment i's steps, at whose end a state is worth `value`.

    A step is worth its reward and the mean value of the next state, in which what was experienced stands for the value
    of the action that was taken.
    """
    size = rewards.shape[1]
    worth = 0.0
    for k in range(marks[i, 1] - 1, -1, -1):
        place = (marks[i, 0] + k) % size
        worth = rewards[i, place] + gamma * value
        state, action = steps[i, place, 0], steps[i, place, 1]
        mean = expected_value(kind, parameter, q, state, tried, legal, state)
        share = probability(kind, parameter, q, state, tried, legal, state, action)
        value = mean + share * (worth - q[state, action])
    return worth


def learn_oldest(
    rule, q, visits, tried, steps, rewards, marks, i, value,
    gamma, kind, parameter, size_kind, rate, power, legal,
):  # fmt: skip
    """Learn from the oldest of environment i's steps and drop it; return the error.

    Args:
        value: of what follows the last step.
    """
    place = marks[i, 0]
    state, action = steps[i, place, 0], steps[i, place, 1]
    if rule == TREE_BACKUP:
        target = tree_return(q, tried, steps, rewards, marks, i, gamma, value, kind, parameter, legal)
    else:
        target = n_step_return(steps, rewards, marks, i, gamma, value)
    error = target - q[state, action]
    learn_entry(q, visits, state, action, error, size_kind, rate, power)
    marks[i, 0], marks[i, 1] = (place + 1) % rewards.shape[1], marks[i, 1] - 1
    return error


def learn_episode(
    rule, q, visits, stamp, episode, steps, rewards, marks, i, value, gamma, size_kind, rate, power
):
    """Learn from all of environment i's steps, the last first, and drop them; return how many, and their |errors|.

    Args:
        stamp: int64 [S, A], the last episode in which the entry was visited; read and written with FIRST_VISIT.
        episode: a number that no earlier call had.
    """
    length, learned, total = marks[i, 1], 0, 0.0
    for k in range(length):  # the ring begins at 0: Monte Carlo drops no single steps
        state, action = steps[i, k, 0], steps[i, k, 1]
        if rule == FIRST_VISIT and stamp[state, action] == episode:
            steps[i, k, 1] = -1 - action  # visited before
        elif rule == FIRST_VISIT:
            stamp[state, action] = episode
    for k in range(length - 1, -1, -1):
        value = rewards[i, k] + gamma * value
        state, action = steps[i, k, 0], steps[i, k, 1]
        if action >= 0:
            error = value - q[state, action]
            learn_entry(q, visits, state, action, error, size_kind, rate, power)
            learned, total = learned + 1, total + abs(error)
    marks[i, 0], marks[i, 1] = 0, 0
    return learned, total


def learn_rest(
    rule, q, visits, tried, stamp, episode, steps, rewards, marks, i, terminated,
    gamma, kind, parameter, size_kind, rate, power, legal,
):  # fmt: skip
    """Learn from all of environment i's steps, at whose end nothing is worth anything or the last successor's value.

    Returns:
        How many steps were learned from, and the sum of their |errors|.
    """
    last, learned, total, value = marks[i, 2], 0, 0.0, 0.0
    if rule in (EVERY_VISIT, FIRST_VISIT):
        if not terminated:
            value = expected_value(kind, parameter, q, last, tried, legal, last)
        return learn_episode(
            rule, q, visits, stamp, episode, steps, rewards, marks, i, value, gamma, size_kind, rate, power
        )
    while marks[i, 1] > 0:
        if not terminated:  # its value may have moved
            value = expected_value(kind, parameter, q, last, tried, legal, last)
        total += abs(
            learn_oldest(
                rule, q, visits, tried, steps, rewards, marks, i, value,
                gamma, kind, parameter, size_kind, rate, power, legal,
            )
        )  # fmt: skip
        learned += 1
    return learned, total


def learn_by_windows(
    rule, n, q, visits, tried, stamp, episode, steps, rewards, marks, i,
    state, action, reward, terminated, truncated, next_state, is_first,
    gamma, kind, parameter, size_kind, rate, power, legal,
):  # fmt: skip
    """Take in one step of environment i and learn from those that are due; return how many, and their |errors|.

    Args:
        rule: N_STEP_SARSA, TREE_BACKUP, EVERY_VISIT or FIRST_VISIT.
        n: the number of steps from which an entry is learned; Monte Carlo doesn't read it.
        stamp: int64 [S, A]; [1, 1] will do for rules other than FIRST_VISIT. `episode` goes with it, see
            `learn_episode`: any number that is new at every step.
        is_first: whether the state opens an episode; what an episode without an end has left is closed.
        legal: bool [S, A] or [0, 0], the actions that are legal in each state.
    """
    learned, total = 0, 0.0
    if is_first and marks[i, 1] > 0:
        learned, total = learn_rest(
            rule, q, visits, tried, stamp, 2 * episode, steps, rewards, marks, i, False,
            gamma, kind, parameter, size_kind, rate, power, legal,
        )  # fmt: skip
    if rule == N_STEP_SARSA and marks[i, 1] == n:
        total += abs(
            learn_oldest(
                rule, q, visits, tried, steps, rewards, marks, i, q[state, action],
                gamma, kind, parameter, size_kind, rate, power, legal,
            )
        )  # fmt: skip
        learned += 1
    place = (marks[i, 0] + marks[i, 1]) % rewards.shape[1]
    steps[i, place, 0], steps[i, place, 1], rewards[i, place] = state, action, reward
    marks[i, 1], marks[i, 2] = marks[i, 1] + 1, next_state
    if terminated or truncated:
        more, size = learn_rest(
            rule, q, visits, tried, stamp, 2 * episode + 1, steps, rewards, marks, i, terminated,
            gamma, kind, parameter, size_kind, rate, power, legal,
        )  # fmt: skip
        return learned + more, total + size
    if rule == TREE_BACKUP and marks[i, 1] == n:
        value = expected_value(kind, parameter, q, next_state, tried, legal, next_state)
        total += abs(
            learn_oldest(
                rule, q, visits, tried, steps, rewards, marks, i, value,
                gamma, kind, parameter, size_kind, rate, power, legal,
            )
        )  # fmt: skip
        learned += 1
    return learned, total


def update_windows(
    rule, n, q, visits, tried, stamp, episode, steps, rewards, marks,
    state, action, reward, terminated, truncated, next_state, is_first,
    gamma, kind, parameter, size_kind, rate, power, legal,
):  # fmt: skip
    """Learn from one step of each of N environments in turn, as `learn_by_windows` does; the steps' arrays are [N].

    Args:
        episode: int64 [N], a number for each environment that is new at every step.
    """
    learned, total = 0, 0.0
    for i in range(len(state)):
        more, size = learn_by_windows(
            rule, n, q, visits, tried, stamp, episode[i], steps, rewards, marks, i,
            state[i], action[i], reward[i], terminated[i], truncated[i], next_state[i], is_first[i],
            gamma, kind, parameter, size_kind, rate, power, legal,
        )  # fmt: skip
        learned, total = learned + more, total + size
    return learned, total
