"""Learning from several steps at once, against the textbook's own loops and forward views."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.mdp.learning import windows
from rl_lab.mdp.learning.exploring import EPSILON_GREEDY
from rl_lab.mdp.learning.records import Behaviour, Sizes, Step, Table
from rl_lab.mdp.learning.step_sizes import BY_TIME, ONE_OVER_N
from tables import ALL_LEGAL, drawn_episode, drawn_table, mean_value

GAMMA, RATE, EPSILON = 0.9, 0.3, 0.2
BEHAVIOUR = Behaviour(EPSILON_GREEDY, EPSILON)


def empty_window(room, stamp):
    """Return a window of one environment without steps."""
    return windows.Window(
        np.zeros((1, room, 2), np.int64), np.zeros((1, room)), np.zeros((1, 3), np.int64), stamp
    )


def learn(rule, n, q, episode, *, truncated=False, size_kind=BY_TIME, first=True):
    """Learn one episode of (state, action, reward, next state), whose last step ends it; return the table."""
    q, visits = q.copy(), np.zeros(q.shape, np.int64)
    room = len(episode) if rule in (windows.EVERY_VISIT, windows.FIRST_VISIT) else n
    table, window = Table(q, visits, visits, ALL_LEGAL), empty_window(room, np.full(q.shape, -1))
    for t, (s, a, r, after) in enumerate(episode):
        last = t == len(episode) - 1
        step = Step(s, a, r, last and not truncated, last and truncated, after, first and t == 0)
        sizes = Sizes(size_kind, RATE, 0.0)
        windows.learn_by_windows(
            windows.WindowRule(rule, n, GAMMA), table, window, 0, t, step, BEHAVIOUR, sizes
        )
    assert window.marks[0, 1] == 0
    return q


def value_of(q, state):
    """Return what a state is worth after the last step; 0 for None, where the episode terminated."""
    return 0.0 if state is None else mean_value(q[state], EPSILON)


def textbook_n_step_sarsa(q, episode, n, end):
    """The loop of section 7.2, of an episode that was truncated in the state `end` or terminated (None)."""
    q, last = q.copy(), len(episode)
    for tau in range(last):
        until = min(tau + n, last)
        target = sum(GAMMA ** (k - tau) * episode[k][2] for k in range(tau, until))
        value = q[episode[until][:2]] if until < last else value_of(q, end)
        target += GAMMA ** (until - tau) * value
        q[episode[tau][:2]] += RATE * (target - q[episode[tau][:2]])
    return q


def textbook_tree_backup(q, episode, n, end):
    """The loop of section 7.5, for a target policy that is epsilon-greedy."""
    q, last = q.copy(), len(episode)
    for tau in range(last):
        until = min(tau + n, last)
        value = value_of(q, end) if until == last else mean_value(q[episode[until][0]], EPSILON)
        for k in range(until - 1, tau - 1, -1):
            s, a, r, _ = episode[k]
            target = r + GAMMA * value
            best = q[s] == q[s].max()
            share = EPSILON / len(q[s]) + (1 - EPSILON) * best / best.sum()
            value = sum(share[b] * (target if b == a else q[s, b]) for b in range(len(q[s])))
        q[episode[tau][:2]] += RATE * (target - q[episode[tau][:2]])
    return q


TWINS = {windows.N_STEP_SARSA: textbook_n_step_sarsa, windows.TREE_BACKUP: textbook_tree_backup}


@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 20])
@pytest.mark.parametrize("rule", TWINS)
def test_an_episode_is_learned_as_in_the_textbook(rule, n, truncated):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        q, episode = drawn_table(rng), drawn_episode(rng, 12)
        after = episode[-1][3]
        found = learn(rule, n, q, episode, truncated=truncated)
        expected = TWINS[rule](q, episode, n, after if truncated else None)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("rule", [windows.EVERY_VISIT, windows.FIRST_VISIT])
def test_monte_carlo_averages_the_returns_that_followed(rule):
    # returns from (0, 0): 1 + .9 * (2 + .9 * (4 + .9 * 8)) and, at its second visit, 4 + .9 * 8
    episode = [(0, 0, 1.0, 1), (1, 1, 2.0, 0), (0, 0, 4.0, 1), (1, 0, 8.0, 2)]
    returns = [4 + 0.9 * 8, 1 + 0.9 * (2 + 0.9 * (4 + 0.9 * 8))]
    q = learn(rule, 0, np.zeros((3, 2)), episode, size_kind=ONE_OVER_N)
    first = returns[1]
    assert q[0, 0] == pytest.approx(first if rule == windows.FIRST_VISIT else sum(returns) / 2)
    assert q[1].tolist() == pytest.approx([8.0, 2 + 0.9 * returns[0]])


def test_a_truncated_episode_of_monte_carlo_is_worth_what_its_last_state_is():
    q = np.array([[1.0, 1.0], [5.0, 9.0]])
    found = learn(windows.EVERY_VISIT, 0, q, [(0, 0, 2.0, 1)], truncated=True, size_kind=ONE_OVER_N)
    assert found[0, 0] == pytest.approx(2 + 0.9 * (0.1 * (5 + 9) + 0.8 * 9))


def test_what_was_left_open_is_closed_before_the_next_episode():
    q, visits = np.array([[1.0, 1.0], [5.0, 9.0]]), np.zeros((2, 2), np.int64)
    table, window = Table(q, visits, visits, ALL_LEGAL), empty_window(3, visits)
    terms, sizes = windows.WindowRule(windows.N_STEP_SARSA, 3, GAMMA), Sizes(BY_TIME, RATE, 0.0)
    for is_first, reward in ((True, 2.0), (True, 0.0)):
        step = Step(0, 0, reward, False, False, 1, is_first)
        windows.learn_by_windows(terms, table, window, 0, 0, step, BEHAVIOUR, sizes)
    assert q[0, 0] == pytest.approx(1 + 0.3 * (2 + 0.9 * 8.6 - 1))
    assert window.marks[0, 1] == 1
