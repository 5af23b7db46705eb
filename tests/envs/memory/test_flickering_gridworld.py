"""The flickering grid world: when it is blank, and that the returns that it states are true."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from rl_lab.envs.gridworld import GridWorld
from rl_lab.envs.memory.flickering_gridworld import FlickeringGridWorld
from rl_lab.envs.memory.memoryless import hide_observations
from rl_lab.mdp.model import TabularModel
from tabular_envs import DOWN, RIGHT, UP, best_return

CORNER = "S.\n#G"  # right, then down: on a blank one doesn't know which


def blind_values(model: TabularModel, sight, blanks: np.ndarray, p: float, steps: int = 2000) -> np.ndarray:
    """The expected returns [K] of actions [S] in sight and chances [K, 4] on a blank, step by step.

    Policies that never end are worth what they lose in that many steps.
    """
    states = model.num_states
    chances = (1 - p) * np.eye(4)[list(sight)] + p * blanks[:, None]  # [K, S, 4]
    moves = model.continuation.toarray().reshape(states, 4, states)
    chain, reward = np.einsum("ksa,sat->kst", chances, moves), (chances * model.expected_reward).sum(-1)
    values = np.zeros_like(reward)
    for _ in range(steps):
        values = reward + np.einsum("kst,kt->ks", chain, values)
    return values @ model.initial


def simplex(steps: int) -> np.ndarray:
    """All chances [K, 4] that are multiples of 1 / steps."""
    grid = np.array([c for c in itertools.product(range(steps + 1), repeat=4) if sum(c) == steps])
    return grid / steps


class TestFlickeringGridWorld:
    def test_plays_the_grid_world_with_the_same_seed(self):
        fields = {"slip": 0.4, "map": "S....\n..#..\n....S\nP...G"}
        ours, plain = FlickeringGridWorld(**fields), GridWorld(observation="pixels", **fields)
        rng, blank = np.random.default_rng(0), []
        for seed in range(40):
            one, other = ours.reset(seed=seed)[0], plain.reset(seed=seed)[0]
            over = False
            while not over:
                blank.append(not one.any())
                assert blank[-1] or np.array_equal(one, other)
                action = int(rng.integers(4))
                one, *result = ours.step(action)
                other, *expected = plain.step(action)
                assert result == expected
                over = result[1]
        assert stats.binomtest(sum(blank), len(blank), 0.5).pvalue > 0.001

    @pytest.mark.parametrize("p", [0.0, 0.2, 0.9])
    def test_blanks_are_as_frequent_as_asked_and_independent(self, p):
        env = FlickeringGridWorld("S...", blank_probability=p)
        blank = [not env.reset(seed=0)[0].any()] + [not env.step(UP)[0].any() for _ in range(3000)]
        assert stats.binomtest(sum(blank), len(blank), p).pvalue > 0.001 if p else not any(blank)
        pairs = sum(a and b for a, b in itertools.pairwise(blank))
        assert abs(pairs - 3000 * p * p) <= 4 * np.sqrt(3000 * p)

    def test_first_pictures_of_episodes_are_blank_too_and_blanks_differ_with_the_seed(self):
        env = FlickeringGridWorld()
        first = [not env.reset(seed=seed)[0].any() for seed in range(400)]
        assert stats.binomtest(sum(first), 400, 0.5).pvalue > 0.001

    def test_a_remembered_plan_gets_the_optimum_without_sight(self):
        env = FlickeringGridWorld()
        for seed in range(20):
            env.reset(seed=seed)
            plan = [RIGHT] * 3 + [DOWN] * 3 + [RIGHT] * 4 + [DOWN] * 4
            steps = [env.step(action)[1:3] for action in plan]
            assert sum(step[0] for step in steps) == pytest.approx(env.optimal_return)
            assert steps[-1][1]

    def test_knows_its_optimum_only_where_a_plan_is_enough(self):
        assert FlickeringGridWorld().optimal_return == pytest.approx(0.86)
        assert FlickeringGridWorld("corridor").optimal_return == pytest.approx(0.93)
        assert FlickeringGridWorld(slip=0.1).optimal_return is None
        assert FlickeringGridWorld("S.G.S").optimal_return is None
        assert FlickeringGridWorld(step_reward=0.0).optimal_return == pytest.approx(1.0)
        sighted = FlickeringGridWorld(slip=0.1, blank_probability=0.0)
        assert sighted.optimal_return == pytest.approx(best_return(GridWorld(slip=0.1).model()))
        assert sighted.memoryless_return == pytest.approx(sighted.optimal_return, abs=1e-9)
        assert FlickeringGridWorld(step_reward=0.1).optimal_return is None  # one would walk for ever

    @pytest.mark.parametrize(
        "fields", [{"step_reward": 0.0}, {"map": "S..."}, {"rewards": {"b": 1.0}, "map": "SbG"}]
    )
    def test_states_nothing_where_walking_is_free_or_never_ends(self, fields):
        assert FlickeringGridWorld(**fields).memoryless_return is None

    @pytest.mark.parametrize(
        ("text", "slip", "p"), [(CORNER, 0.0, 0.5), (CORNER, 0.2, 0.8), ("S.\nPG", 0.1, 0.3)]
    )
    def test_no_policy_without_memory_does_better_than_stated(self, text, slip, p):
        """All actions in sight times a grid of chances on a blank."""
        env = FlickeringGridWorld(text, slip=slip, blank_probability=p)
        model = GridWorld(text, slip=slip).model()
        live = np.flatnonzero(~model.terminated.reshape(model.num_states, -1).all(axis=1))
        best = -np.inf
        for actions in itertools.product(range(4), repeat=len(live)):
            sight = np.zeros(model.num_states, dtype=int)
            sight[live] = actions
            best = max(best, blind_values(model, sight, simplex(12), p, steps=300).max())
        assert env.memoryless_return - 2e-3 < best <= env.memoryless_return + 1e-3

    def test_the_default_maps_stated_return_is_played(self):
        """Going right on blanks, and otherwise along the best of what that leaves."""
        env, model = FlickeringGridWorld(), GridWorld().model()
        problem = hide_observations(model, 0.5)
        blank = np.eye(4)[[RIGHT]]
        _, values = problem.evaluate(blank, np.zeros(model.num_states))
        sight = (problem.reward + (problem.continuation @ values).reshape(-1, 4)).argmax(axis=1)
        played = blind_values(model, sight, blank, 0.5)[0]
        assert played == pytest.approx(env.memoryless_return, abs=1e-9)
        assert env.memoryless_return == pytest.approx(0.818, abs=5e-4)
        returns = [play_blind(env, seed, sight) for seed in range(1500)]
        assert abs(np.mean(returns) - env.memoryless_return) < 4 * np.std(returns) / np.sqrt(1500)


def play_blind(env: FlickeringGridWorld, seed: int, sight: np.ndarray) -> float:
    obs, total, over = env.reset(seed=seed)[0], 0.0, False
    while not over:
        action = RIGHT if not obs.any() else int(sight[env._grid_world._state])
        obs, reward, over, _, _ = env.step(action)
        total += reward
    return total
