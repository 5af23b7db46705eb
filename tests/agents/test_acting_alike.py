"""Through `env.step` and in simulation tabular agents draw differently; both act by one distribution, the exact one."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy import stats

from rl_lab.agents.tabular.acting import Alone, Exploring
from rl_lab.agents.tabular.tables import Tables
from rl_lab.mdp.learning.exploring import BOLTZMANN, EPSILON_GREEDY, UCB, choose, probability
from rl_lab.policies import EpsilonGreedy, ValuePolicy, random_tie
from tables import ALL_LEGAL

DRAWS = 2_000
VALUES = np.array([[1.0, 3.0, 3.0, 2.0, 3.0]])  # three are the best
TRIED = np.array(
    [[4, 9, 9, 0, 0]]
)  # by UCB the last two, which have never been tried, come before all others
MASKS = {
    "all legal": ALL_LEGAL,
    "one of the best illegal": np.array([[True, False, True, True, True]]),
    "only those tried": np.array([[True, True, True, False, False]]),
    "all the best illegal": np.array([[True, False, False, True, False]]),
}
BEHAVIOURS = {EPSILON_GREEDY: 0.4, BOLTZMANN: 0.8, UCB: 1.5}


def exact(kind, legal):
    """The probabilities of actions by their definitions."""
    q, allowed = VALUES[0], legal[0] if len(legal) else np.ones(5, bool)
    if kind == BOLTZMANN:
        weight = np.exp(q / BEHAVIOURS[kind]) * allowed
        return weight / weight.sum()
    with np.errstate(divide="ignore"):
        bounds = q + BEHAVIOURS[UCB] * np.sqrt(np.log(TRIED[0][allowed].sum()) / TRIED[0])
    score = bounds if kind == UCB else q
    best = allowed & (score == score[allowed].max())
    epsilon = BEHAVIOURS[kind] if kind == EPSILON_GREEDY else 0.0
    return epsilon * allowed / allowed.sum() + (1 - epsilon) * best / best.sum()


def simulated(kind, legal, rng):
    """Actions as the simulation chooses them, from two draws each."""
    draws = rng.random((DRAWS, 2))
    return [choose(kind, BEHAVIOURS[kind], VALUES, 0, TRIED, legal, 0, *pair) for pair in draws]


def stepped(kind, legal, rng, num_envs=1):
    """Actions of the policy that acts in environments."""
    mask = legal.repeat(num_envs, axis=0) if len(legal) else None
    obs, first, policy = np.zeros(num_envs, np.int64), np.zeros(num_envs, bool), policy_of(kind, rng)
    return np.concatenate([policy.act(obs, (), first, mask).action for _ in range(DRAWS // num_envs)])


def policy_of(kind, rng):
    parameter, row_of = lambda: BEHAVIOURS[kind], lambda obs: obs
    if kind == EPSILON_GREEDY:
        explore = EpsilonGreedy(rng, parameter, random_tie(rng))
        plain = ValuePolicy(lambda obs, state, is_first: (VALUES[obs], ()), 5, explore=explore)
        return Alone(plain, VALUES, row_of, parameter, rng)
    tables = Tables(VALUES, np.zeros_like(TRIED), TRIED, ALL_LEGAL, rng.random)
    return Exploring(tables, row_of, kind, parameter, rng)


@pytest.mark.parametrize(
    "drawn", [simulated, stepped, partial(stepped, num_envs=8)], ids=["simulated", "1", "8"]
)
@pytest.mark.parametrize("legal", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("kind", BEHAVIOURS, ids=["epsilon-greedy", "boltzmann", "ucb"])
def test_actions_are_as_frequent_as_they_are_probable(kind, legal, drawn):
    """A chi-square test of one fixed seed, at 0.001."""
    expected = exact(kind, legal)
    counts = np.bincount(drawn(kind, legal, np.random.default_rng(1)), minlength=5)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    if possible.sum() > 1:
        assert stats.chisquare(counts[possible], DRAWS * expected[possible]).pvalue > 0.001
    told = [probability(kind, BEHAVIOURS[kind], VALUES, 0, TRIED, legal, 0, action) for action in range(5)]
    np.testing.assert_allclose(told, expected, atol=1e-12)
