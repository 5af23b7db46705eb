"""Eligibility traces against the textbook's dense loops and against their forward views."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from rl_lab.mdp.learning import traces
from rl_lab.mdp.learning.exploring import EPSILON_GREEDY
from rl_lab.mdp.learning.records import Behaviour, Sizes, Step, Table
from rl_lab.mdp.learning.step_sizes import BY_TIME
from tables import ALL_LEGAL, drawn_episode, drawn_table, lambda_return_of, mean_value

GAMMA, LAMBDA, EPSILON = 0.9, 0.8, 0.2
KINDS = [traces.ACCUMULATING, traces.REPLACING, traces.DUTCH]


def no_traces(room):
    """Return the traces of one environment, with room for so many."""
    return traces.Traces(
        np.zeros((1, room), np.int64), np.zeros((1, room)), np.zeros(1, np.int64), np.zeros(1), np.full((1, 3), -1),
        np.zeros(1),
    )  # fmt: skip


def learn(rule, kind, q, episode, *, rate=0.3, truncated=False):
    """Learn one episode of (state, action, reward, next state), whose last step ends it; return the table."""
    q, visits = q.copy(), np.zeros(q.shape, np.int64)
    terms = traces.TraceRule(rule, kind, GAMMA, GAMMA * LAMBDA)
    table, held = Table(q, visits, visits, ALL_LEGAL), no_traces(traces.most_traces(terms.decay, q.size))
    for t, (s, a, r, after) in enumerate(episode):
        last, size = t == len(episode) - 1, rate[t] if isinstance(rate, list) else rate
        step = Step(s, a, r, last and not truncated, last and truncated, after, t == 0)
        behaviour, sizes = Behaviour(EPSILON_GREEDY, EPSILON), Sizes(BY_TIME, size, 0.0)
        traces.learn_by_traces(terms, table, held, 0, step, behaviour, sizes)
    assert held.kept[0] == 0
    assert held.pending[0, 0] == -1
    return q


def textbook(rule, kind, q, episode, rate, truncated):
    """The loops of sections 12.2, 12.5, 12.7 and 12.10, with a dense table of traces."""
    q, e, old = q.copy(), np.zeros_like(q), None
    for t, (s, a, r, after) in enumerate(episode):
        last = t == len(episode) - 1
        if rule == traces.WATKINS_Q and q[s, a] < q[s].max():
            e, old = np.zeros_like(q), None
        if rule != traces.SARSA_LAMBDA:
            value = q[after].max()
        else:
            value = mean_value(q[after], EPSILON) if last else q[episode[t + 1][:2]]
        value = 0.0 if last and not truncated else value
        e *= GAMMA * LAMBDA
        here = q[s, a]
        e[s, a] = {0: e[s, a] + 1, 1: 1, 2: (1 - rate) * e[s, a] + rate}[kind]
        wrong = here - old if kind == traces.DUTCH and old is not None else 0.0
        q += (1.0 if kind == traces.DUTCH else rate) * (r + GAMMA * value - here + wrong) * e
        q[s, a] -= rate * wrong
        old = value
    return q


@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", [traces.WATKINS_Q, traces.SARSA_LAMBDA, traces.TD_LAMBDA])
def test_an_episode_is_learned_as_in_the_textbook(rule, kind, truncated):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        actions = 1 if rule == traces.TD_LAMBDA else 3
        q, episode = drawn_table(rng, actions=actions), drawn_episode(rng, 15, actions=actions)
        found = learn(rule, kind, q, episode, truncated=truncated)
        np.testing.assert_allclose(found, textbook(rule, kind, q, episode, 0.3, truncated), rtol=1e-9)


def lambda_return(episode, values, start, end, terminated):
    """Return the lambda-return of steps start..end - 1; values[t] is what follows step t."""
    rewards, bootstraps = [step[2] for step in episode[start:end]], list(values[start:end])
    if terminated and end == len(episode):
        bootstraps[-1] = 0.0
    return lambda_return_of(rewards, bootstraps, GAMMA, LAMBDA)


@pytest.mark.parametrize(
    ("rule", "rates"),
    [
        (traces.SARSA_LAMBDA, [0.3] * 12),
        (traces.TD_LAMBDA, [0.3] * 12),
        (traces.TD_LAMBDA, [1 / (1 + t) for t in range(12)]),
    ],
    ids=["sarsa", "td", "td-falling"],
)
def test_dutch_traces_equal_the_online_lambda_return_algorithm(rule, rates):
    """Section 12.4: after every step all earlier ones are learned again, from returns that end there."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        actions = 1 if rule == traces.TD_LAMBDA else 3
        start, episode = drawn_table(rng, actions=actions), drawn_episode(rng, 12, actions=actions)
        q, values = start, []
        for end in range(1, len(episode) + 1):
            following = episode[end] if end < len(episode) else (episode[-1][3], 0)
            values.append(q[following[:2]])  # as it was when step `end - 1` was learned from
            q = start.copy()
            for t in range(end):
                s, a = episode[t][:2]
                q[s, a] += rates[t] * (lambda_return(episode, values, t, end, True) - q[s, a])
        np.testing.assert_allclose(learn(rule, traces.DUTCH, start, episode, rate=rates), q, rtol=1e-6)


def following_values(rule, q, episode):
    """What a rule makes of the point after each step."""
    if rule == traces.SARSA_LAMBDA:
        return [q[step[:2]] for step in episode[1:]] + [mean_value(q[episode[-1][3]], EPSILON)]
    return [q[after].max() for *_, after in episode]


def end_of_return(rule, q, episode, start):
    """The step before which the lambda-return of a step ends: Watkins' at the first action that isn't greedy."""
    later = range(start + 1, len(episode)) if rule == traces.WATKINS_Q else ()
    return next((t for t in later if q[episode[t][:2]] < q[episode[t][0]].max()), len(episode))


@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", [traces.WATKINS_Q, traces.SARSA_LAMBDA, traces.TD_LAMBDA])
def test_where_no_state_comes_again_every_trace_gives_the_lambda_return_exactly(rule, kind, truncated):
    """No value is changed before it is used, so that the forward view holds with steps of any size."""
    ends = set()
    for seed in range(5):
        rng = np.random.default_rng(seed)
        path, actions = rng.permutation(13).tolist(), 1 if rule == traces.TD_LAMBDA else 2
        q = drawn_table(rng, states=13, actions=actions)
        episode = [(s, int(rng.integers(actions)), rng.normal(), after) for s, after in pairwise(path)]
        values, expected = following_values(rule, q, episode), q.copy()
        for t, (s, a, *_) in enumerate(episode):
            end = end_of_return(rule, q, episode, t)
            expected[s, a] += 0.3 * (lambda_return(episode, values, t, end, not truncated) - q[s, a])
            ends.add(end)
        np.testing.assert_allclose(learn(rule, kind, q, episode, truncated=truncated), expected, rtol=1e-9)
    assert (len(ends) > 3) == (rule == traces.WATKINS_Q)


def test_with_tiny_steps_watkins_changes_are_returns_up_to_the_first_action_that_is_not_greedy():
    """Offline, where states do come again."""
    rate, lengths = 1e-9, set()
    for seed in range(5):
        rng = np.random.default_rng(seed)
        q, episode = rng.normal(size=(4, 2)), drawn_episode(rng, 12, actions=2)
        values, expected = following_values(traces.WATKINS_Q, q, episode), np.zeros_like(q)
        for t, (s, a, *_) in enumerate(episode):
            end = end_of_return(traces.WATKINS_Q, q, episode, t)
            expected[s, a] += lambda_return(episode, values, t, end, True) - q[s, a]
            lengths.add(end - t)
        change = (learn(traces.WATKINS_Q, traces.ACCUMULATING, q, episode, rate=rate) - q) / rate
        np.testing.assert_allclose(change, expected, atol=1e-5)
    assert {1, 2, 3} <= lengths


def test_with_tiny_steps_the_changes_are_those_of_the_offline_forward_view():
    rate = 1e-9
    rng = np.random.default_rng(3)
    q, episode = drawn_table(rng), drawn_episode(rng, 12)
    values = [q[step[:2]] for step in episode[1:]] + [0.0]
    expected = np.zeros_like(q)
    for t, (s, a, _, _) in enumerate(episode):
        expected[s, a] += lambda_return(episode, values, t, len(episode), True) - q[s, a]
    change = (learn(traces.SARSA_LAMBDA, traces.ACCUMULATING, q, episode, rate=rate) - q) / rate
    np.testing.assert_allclose(change, expected, atol=1e-5)


def test_replacing_traces_count_only_the_last_visit():
    episode = [(0, 0, 0.0, 0), (0, 0, 0.0, 1), (1, 0, 1.0, 2)]
    q = learn(traces.TD_LAMBDA, traces.REPLACING, np.zeros((3, 1)), episode, rate=0.5)
    assert q[:, 0].tolist() == pytest.approx([0.5 * 0.72, 0.5, 0.0])
    q = learn(traces.TD_LAMBDA, traces.ACCUMULATING, np.zeros((3, 1)), episode, rate=0.5)
    assert q[:, 0].tolist() == pytest.approx([0.5 * (0.72 + 0.72**2), 0.5, 0.0])


@pytest.mark.parametrize(
    ("kind", "trace"),
    [(traces.REPLACING, 1.0), (traces.ACCUMULATING, 1 + 0.72**2), (traces.DUTCH, 1 + 0.72**2 / 2)],
)
def test_a_state_that_comes_again_after_another_by_hand(kind, trace):
    """0, 1, 0, and the end, which alone pays: one error of 1, half of which goes to each trace, 0.72 to state 1's."""
    episode = [(0, 0, 0.0, 1), (1, 0, 0.0, 0), (0, 0, 1.0, 2)]
    q = learn(traces.TD_LAMBDA, kind, np.zeros((3, 1)), episode, rate=0.5)
    assert q[:, 0].tolist() == pytest.approx([0.5 * trace, 0.5 * 0.72, 0.0])


def test_an_action_that_is_not_greedy_cuts_the_traces_before_it():
    q = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    found = learn(traces.WATKINS_Q, traces.ACCUMULATING, q, [(0, 0, 0.0, 1), (1, 0, 8.0, 2)], rate=0.5)
    assert found.tolist() == [[0.5 * 0.9, 0.0], [4.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("rule", [traces.WATKINS_Q, traces.TD_LAMBDA])
@pytest.mark.parametrize(("is_first", "before"), [(True, 0.0), (False, 0.5 * 0.72 * 8)])
def test_an_episode_that_was_left_open_has_no_traces_in_the_next(rule, is_first, before):
    q, visits = np.zeros((3, 1)), np.zeros((3, 1), np.int64)
    terms, held = traces.TraceRule(rule, traces.REPLACING, GAMMA, GAMMA * LAMBDA), no_traces(3)
    table, behaviour, sizes = (
        Table(q, visits, visits, ALL_LEGAL),
        Behaviour(EPSILON_GREEDY, 0.0),
        Sizes(BY_TIME, 0.5, 0.0),
    )
    traces.learn_by_traces(terms, table, held, 0, Step(0, 0, 0.0, False, False, 1, True), behaviour, sizes)
    traces.learn_by_traces(terms, table, held, 0, Step(1, 0, 8.0, True, False, 2, is_first), behaviour, sizes)
    assert q[:, 0].tolist() == pytest.approx([before, 4.0, 0.0])


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_traces_never_need_more_room_than_is_said(decay):
    room = traces.most_traces(decay, 10_000)
    q, visits = np.zeros((10_000, 1)), np.zeros((10_000, 1), np.int64)
    terms, held = traces.TraceRule(traces.TD_LAMBDA, traces.ACCUMULATING, 1.0, decay), no_traces(room)
    states = [0] * 200 + list(range(1, 400))
    for state in states:
        table = Table(q, visits, visits, ALL_LEGAL)
        traces.follow_traces(terms, table, held, 0, state, 0, 1.0, 0.0, Sizes(BY_TIME, 0.1, 0.0))
    assert held.kept[0] <= room
