"""Rules as machine code: the same numbers as in Python, to the bit; and convergence to what theory says."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.mdp.learning import exploring, planning, rules, step_sizes, traces, windows
from rl_lab.mdp.learning.compiled import machine_code
from rl_lab.mdp.learning.exploring import EPSILON_GREEDY
from rl_lab.mdp.learning.records import Behaviour, Sizes, Step, Table
from rl_lab.mdp.learning.traces import TraceRule, Traces
from rl_lab.mdp.learning.windows import Window, WindowRule
from tables import ALL_LEGAL, drawn_table

S, A, N = 5, 3, 2
STATES, LEFT, RIGHT = 5, 0, 1


def runs(function):
    """Return a function as it is and as machine code."""
    return function, machine_code(function)


def counts(shape=(S, A)):
    return np.zeros(shape, np.int64)


def stretch(learn, trial: int, steps: int):
    """Call `learn` with the arrays of random steps [N]; return what it returned."""
    rng, found = np.random.default_rng(trial), []
    legal = rng.random((S, A)) < 0.6 if trial % 2 else ALL_LEGAL
    if len(legal):
        legal[:, 0] = True
    for t in range(steps):
        state, after, action = rng.integers(S, size=N), rng.integers(S, size=N), rng.integers(A, size=N)
        over, cut, first = rng.random((3, N)) < 0.15
        found.append(learn(t, rng, legal, state, action, rng.normal(size=N), over, cut, after, first))
    return found


def at_once(update, trial: int):
    rng = np.random.default_rng(trial)
    first, second = drawn_table(rng, S, A), drawn_table(rng, S, A)
    q, tried, error = (first + second) / 2, rng.integers(1, 9, (S, A)), np.zeros(N)
    visits, others = counts(), counts()

    def learn(t, rng, legal, state, action, reward, over, cut, after, first_step):
        update(
            trial % 3, q, first, second, visits, others, tried, state, action, reward, over, after,
            rng.random(N), 0.9, trial % 3, 0.4, (trial // 3) % 3, 0.1, 0.7, legal[after] if len(legal) else legal,
            error,
        )  # fmt: skip
        return error.tolist()

    return stretch(learn, trial, 20), q, first, second, visits, others


def by_windows(update, trial: int):
    q, visits, stamp = drawn_table(np.random.default_rng(trial), S, A), counts(), np.full((S, A), -1)
    room = 3 if trial % 4 < 2 else 20
    window = Window(counts((N, room, 2)), np.zeros((N, room)), counts((N, 3)), stamp)
    terms, behaviour, sizes = (
        WindowRule(trial % 4, 3, 0.9),
        Behaviour(trial % 3, 0.4),
        Sizes((trial // 3) % 3, 0.1, 0.7),
    )

    def learn(t, rng, legal, *step):
        table = Table(q, visits, visits + 1, legal)
        return update(terms, table, window, np.arange(N) + N * t, Step(*step), behaviour, sizes)

    return stretch(learn, trial, 20), q, visits


def by_traces(update, trial: int):
    q, visits = drawn_table(np.random.default_rng(trial), S, A), counts()
    found = Traces(
        counts((N, S * A)), np.zeros((N, S * A)), counts(N), np.zeros(N), np.full((N, 3), -1), np.zeros(N)
    )
    terms = TraceRule(trial % 2, (trial // 2) % 3, 0.9, 0.8)
    behaviour, sizes = Behaviour(trial % 3, 0.4), Sizes((trial // 3) % 3, 0.1, 0.7)

    def learn(t, rng, legal, *step):
        return update(terms, Table(q, visits, visits + 1, legal), found, Step(*step), behaviour, sizes)

    return stretch(learn, trial, 20), q, visits


def planner(trial: int):
    """Return a table, a model that remembers two outcomes, and how far entries move."""
    table, sizes = Table(np.zeros((S, A)), counts(), counts(), ALL_LEGAL), Sizes(trial % 3, 0.8, 0.7)
    return table, planning.fresh_model(S, A, 2), sizes


def by_dyna(update, trial: int):
    (table, model, sizes), last = planner(trial), counts(S * A)

    def learn(t, rng, legal, *step):
        return update(
            table._replace(legal=legal), model, last, t, rng.random((3, 3)), Step(*step), 0.9, 0.01,
            trial % 2 == 0, sizes,
        )  # fmt: skip

    return stretch(learn, trial, 20), table, model


def by_sweeping(update, trial: int):
    (table, model, sizes), queue = planner(trial), planning.fresh_queue(S, A, 2)

    def learn(t, rng, legal, *step):
        return update(table._replace(legal=legal), model, queue, 3, 1e-3, Step(*step), 0.9, sizes)

    return stretch(learn, trial, 20), table, model, queue


def choosing(choose, trial: int):
    q, tried = drawn_table(np.random.default_rng(trial), S, A), counts()

    def learn(t, rng, legal, state, *rest):
        action = counts(N)
        choose(
            trial % 3, 0.4, q, state, tried, legal[state] if len(legal) else legal, rng.random((N, 2)), action
        )
        np.add.at(tried, (state, action), 1)
        return action.tolist()

    return (stretch(learn, trial, 20),)


TWINS = {
    at_once: rules.update_at_once,
    by_windows: windows.update_windows,
    by_traces: traces.update_traces,
    by_dyna: planning.update_dyna,
    by_sweeping: planning.update_sweeping,
    choosing: exploring.choose_all,
}


@pytest.mark.long
@pytest.mark.parametrize("drive", TWINS, ids=lambda drive: drive.__name__)
def test_machine_code_learns_the_numbers_of_python_to_the_bit(drive):
    plain, compiled = runs(TWINS[drive])
    for trial in range(12):
        np.testing.assert_equal(drive(compiled, trial), drive(plain, trial))


# Convergence on a chain ------------------------------------------------------------------------------
#
# Of five states; an action moves one to the left or right, and fails one time in five. Right of the last the episode
# ends with a reward of 1.


def outcome(rng, state, action):
    """Return rewards, terminations and successors [K] of actions [K] in states [K]."""
    moves = np.where(rng.random(len(state)) < 0.8, np.where(action == RIGHT, 1, -1), 0)
    after = np.maximum(state + moves, 0)
    over = after == STATES
    return over.astype(float), over, np.where(over, 0, after)


def fixed_point(gamma: float, epsilon: float):
    """Return the action values [S, A] of the policy that is epsilon-greedy on them."""
    q = np.zeros((STATES, 2))
    for _ in range(400):
        v = np.append(epsilon * q.mean(axis=1) + (1 - epsilon) * q.max(axis=1), 0.0)
        for s in range(STATES):
            for action, to in ((LEFT, max(s - 1, 0)), (RIGHT, s + 1)):
                q[s, action] = 0.8 * ((to == STATES) + gamma * v[to]) + 0.2 * gamma * v[s]
    return q


SIZES = [(0.5, step_sizes.ONE_OVER_N, 2_000), (0.9, step_sizes.POWER, 6_000)]


@pytest.mark.long
@pytest.mark.parametrize(("gamma", "size_kind", "updates"), SIZES)
@pytest.mark.parametrize("rule", [rules.Q_LEARNING, rules.EXPECTED_SARSA, rules.DOUBLE_Q])
def test_off_policy_rules_converge_to_the_optimum(rule, gamma, size_kind, updates):
    """Every pair is tried equally often; the behaviour that expected SARSA learns about becomes greedy."""
    update, rng = machine_code(rules.update_at_once), np.random.default_rng(5)
    q, first, second = np.zeros((3, STATES, 2))
    visits, others = counts(q.shape), counts(q.shape)
    state, action = np.repeat(np.arange(STATES), 2), np.tile([LEFT, RIGHT], STATES)
    for t in range(updates):
        reward, over, after = outcome(rng, state, action)
        update(
            rule, q, first, second, visits, others, visits, state, action, reward, over, after,
            rng.random(len(state)), gamma, EPSILON_GREEDY, max(0.0, 0.5 - t / updates), size_kind, 0.0, 0.7,
            ALL_LEGAL, np.zeros(len(state)),
        )  # fmt: skip
    assert np.abs(q - fixed_point(gamma, 0.0)).max() < 0.05


@pytest.mark.long
@pytest.mark.parametrize(("gamma", "size_kind", "updates"), SIZES)
def test_sarsa_converges_to_the_values_of_the_policy_that_it_follows(gamma, size_kind, updates):
    update, choose = machine_code(windows.update_windows), machine_code(exploring.choose_all)
    rng, envs, epsilon = np.random.default_rng(5), 20, 0.4
    q, visits, stamp = np.zeros((STATES, 2)), counts((STATES, 2)), np.full((1, 1), -1)
    window = Window(counts((envs, 1, 2)), np.zeros((envs, 1)), counts((envs, 3)), stamp)
    terms, table = WindowRule(windows.N_STEP_SARSA, 1, gamma), Table(q, visits, visits, ALL_LEGAL)
    state, is_first, action = rng.integers(STATES, size=envs), np.ones(envs, np.bool_), counts(envs)
    no = np.zeros(envs, np.bool_)
    for t in range(updates):
        choose(EPSILON_GREEDY, epsilon, q, state, visits, ALL_LEGAL, rng.random((envs, 2)), action)
        reward, over, after = outcome(rng, state, action)
        update(
            terms, table, window, np.arange(envs) + t * envs,
            Step(state, action, reward, over, no, after, is_first),
            Behaviour(EPSILON_GREEDY, epsilon), Sizes(size_kind, 0.0, 0.7),
        )  # fmt: skip
        state, is_first = np.where(over, rng.integers(STATES, size=envs), after), over
    own = fixed_point(gamma, epsilon)
    assert np.abs(own - fixed_point(gamma, 0.0)).max() > 0.05  # it isn't the optimum
    assert np.abs(q - own).max() < 0.05
