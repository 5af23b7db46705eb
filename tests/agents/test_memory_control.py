"""Catch, CartPole's positions and the flickering grid world: what they hide, and what that costs."""

from __future__ import annotations

import itertools

import gymnasium
import numpy as np
import pytest
from scipy import stats

from rl_lab.envs.blank_actions import drop_unreached, search_blank_actions
from rl_lab.envs.cartpole_positions import CartPolePositions
from rl_lab.envs.catch import Catch
from rl_lab.envs.flickering_gridworld import FlickeringGridWorld
from rl_lab.envs.gridworld import GridWorld
from rl_lab.mdp.model import TabularModel, extract_model
from tabular_envs import best_return, make

UP, RIGHT, DOWN, LEFT = range(4)

# Catch -----------------------------------------------------------------------------------------------


def drop(env: Catch, ball: int) -> np.ndarray:
    """Start an episode with the ball in this column."""
    env.reset(seed=0)
    env._state = ball * env.columns + env.columns // 2
    return env._see()


def places(env: Catch) -> set[int]:
    """The columns in which the paddle can be when the ball goes out of sight, or arrives."""
    reached = {env.columns // 2}
    for _ in range(min(env.visible_rows, env.rows - 1)):
        reached = {min(max(c + move, 0), env.columns - 1) for c in reached for move in (-1, 0, 1)}
    return reached


def best_catch_by_playing(env: Catch) -> float:
    """The best return over all deterministic maps from paddle to action in the dark, each played.

    While it is seen, each ball has observations of its own, so that its best moves are found apart.
    """
    seen, best = min(env.visible_rows, env.rows - 1), -np.inf
    for dark in itertools.product(range(3), repeat=env.columns):
        total = 0.0
        for ball in range(env.columns):
            total += max(
                play_catch(env, ball, moves, dark) for moves in itertools.product(range(3), repeat=seen)
            )
        best = max(best, total / env.columns)
    return best


def play_catch(env: Catch, ball: int, moves: tuple, dark: tuple) -> float:
    obs, total, over = drop(env, ball), 0.0, False
    for step in itertools.count():
        if over:
            return total
        action = moves[step] if step < len(moves) else dark[int(obs[-1].argmax())]
        obs, reward, over, _, _ = env.step(action)
        total += reward


def mixed_catch(env: Catch, dark: np.ndarray) -> float:
    """The exact return of chances [columns, 3] in the dark, after the best moves in sight."""
    columns, chain = env.columns, np.zeros((env.columns, env.columns))
    for paddle, action in np.ndindex(columns, 3):
        chain[paddle, min(max(paddle + action - 1, 0), columns - 1)] += dark[paddle, action]
    ends = np.linalg.matrix_power(chain, env.rows - 1 - min(env.visible_rows, env.rows - 1))
    return float(2.0 * ends[sorted(places(env))].max(axis=0).sum() / columns - 1.0)


class TestCatch:
    def test_shows_the_ball_as_it_falls(self):
        env = Catch(rows=4, columns=3, visible_rows=2)
        frames = [drop(env, 0), *(env.step(action)[0] for action in (2, 2, 0))]
        on = [[tuple(int(i) for i in cell) for cell in np.argwhere(frame == 255)] for frame in frames]
        assert on == [[(0, 0), (3, 1)], [(1, 0), (3, 2)], [(3, 2)], [(3, 1)]]
        assert all(set(np.unique(frame)) == {0, 255} for frame in frames)

    def test_pays_for_the_ball_at_the_end_only(self):
        env = Catch(rows=3, columns=3)
        for ball, moves, reward in ((0, (0, 1), 1.0), (0, (1, 1), -1.0), (2, (2, 2), 1.0), (1, (0, 2), 1.0)):
            drop(env, ball)
            results = [env.step(action)[1:3] for action in moves]
            assert results == [(0.0, False), (reward, True)]

    @pytest.mark.parametrize(("rows", "columns"), [(10, 5), (3, 5), (4, 6), (2, 3), (6, 11)])
    def test_one_that_remembers_the_ball_gets_the_optimum(self, rows, columns):
        for visible_rows in (1, rows):
            env = Catch(rows=rows, columns=columns, visible_rows=visible_rows)
            for ball in range(columns):
                obs, total, over = drop(env, ball), 0.0, False
                goal = int(obs[0].argmax())
                while not over:
                    paddle = int(obs[-1].argmax())
                    obs, reward, over, _, _ = env.step(1 + np.sign(goal - paddle))
                    total += reward
                assert total == env.optimal_return

    def test_its_model_has_this_optimum_and_is_kept_back_where_states_look_alike(self):
        assert best_return(extract_model(make("Catch"))) == pytest.approx(1.0)
        assert extract_model(make("Catch", rows=4, visible_rows=3)) is not None
        assert extract_model(make("Catch", rows=4, visible_rows=2)) is None

    @pytest.mark.parametrize(
        ("rows", "columns", "visible_rows", "stated"),
        [(4, 5, 1, 0.2), (4, 4, 1, 0.5), (3, 5, 1, 0.2), (5, 5, 2, 1.0), (5, 6, 2, 2 / 3), (2, 3, 1, 1.0)],
    )
    def test_no_deterministic_policy_without_memory_does_better_than_stated(
        self, rows, columns, visible_rows, stated
    ):
        env = Catch(rows=rows, columns=columns, visible_rows=visible_rows)
        assert env.memoryless_return == pytest.approx(stated)
        assert best_catch_by_playing(env) == pytest.approx(stated)

    @pytest.mark.parametrize(("rows", "columns", "visible_rows"), [(4, 5, 1), (6, 8, 2), (10, 7, 1)])
    def test_nor_does_one_that_draws_its_actions(self, rows, columns, visible_rows):
        env, rng = Catch(rows=rows, columns=columns, visible_rows=visible_rows), np.random.default_rng(1)
        tried = [mixed_catch(env, rng.dirichlet(np.full(3, 0.2), size=columns)) for _ in range(1000)]
        assert max(tried) <= env.memoryless_return + 1e-12
        assert mixed_catch(env, np.eye(3)[[1] * columns]) == pytest.approx(env.memoryless_return)

    def test_needs_memory_where_its_docstring_says(self):
        for rows, columns in itertools.product(range(2, 7), range(2, 8)):
            for visible_rows in range(1, rows + 1):
                if columns > 2 * rows - 1:
                    continue
                env = Catch(rows=rows, columns=columns, visible_rows=visible_rows)
                assert env.memoryless_return == pytest.approx(2 * len(places(env)) / columns - 1)
                assert (env.memoryless_return < 1.0) == (columns > 2 * visible_rows + 1)


# CartPole's positions --------------------------------------------------------------------------------


def balance(env: gymnasium.Env, seed: int, gains: tuple) -> float:
    """Push by (position, velocity, angle, angular velocity), the velocities from the latest two positions."""
    before, _ = env.reset(seed=seed)
    obs, total, over = before, 0.0, False
    while not over:
        velocity = (obs - before) / 0.02
        push = np.dot(gains, (obs[0], velocity[0], obs[1], velocity[1]))
        before = obs
        obs, reward, terminated, truncated, _ = env.step(int(push > 0))
        total, over = total + reward, terminated or truncated
    return total


class TestCartPolePositions:
    def test_is_cartpole_without_its_velocities(self):
        ours, whole = make("CartPolePositions"), gymnasium.make("CartPole-v1")
        for seed in range(5):
            one, other = ours.reset(seed=seed)[0], whole.reset(seed=seed)[0]
            over, rng = False, np.random.default_rng(seed)
            while not over:
                assert one.dtype == np.float32
                np.testing.assert_array_equal(one, other[[0, 2]])
                action = int(rng.integers(2))
                one, *result = ours.step(action)
                other, *expected = whole.step(action)
                assert result == expected
                over = result[1]

    def test_bounds_and_limit_are_those_of_cartpole(self):
        ours, whole = make("CartPolePositions"), gymnasium.make("CartPole-v1")
        np.testing.assert_array_equal(ours.observation_space.high, whole.observation_space.high[[0, 2]])
        assert ours.spec.max_episode_steps == whole.spec.max_episode_steps == 500

    def test_two_positions_are_enough_for_the_optimum(self):
        env = make("CartPolePositions")
        assert {balance(env, seed, (0.1, 0.4, 3.0, 1.0)) for seed in range(60)} == {
            env.unwrapped.optimal_return
        }

    def test_positions_alone_fall(self):
        """What is known without memory: no number, but pushing by position and angle falls early."""
        env = make("CartPolePositions")
        assert CartPolePositions().memoryless_return is None
        for gains in ((0.0, 0, 1.0, 0), (0.1, 0, 3.0, 0), (1.0, 0, 1.0, 0), (-0.2, 0, 3.0, 0)):
            assert np.mean([balance(env, seed, gains) for seed in range(20)]) < 100


# The flickering grid world ---------------------------------------------------------------------------

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

    def test_mixing_on_blanks_pays_in_a_corner(self):
        problem = drop_unreached(GridWorld(CORNER).model(), 0.5)
        value, chances = search_blank_actions(problem, 1e-6)
        np.testing.assert_allclose(chances, [0, 0.5, 0.5, 0], atol=0.01)
        # Each of two moves succeeds with probability 3/4: it takes 8/3 steps on average.
        assert value == pytest.approx(1.0 - 0.01 * 8 / 3, abs=1e-6)

    def test_the_default_maps_stated_return_is_played(self):
        """Going right on blanks, and otherwise along the best of what that leaves."""
        env, model = FlickeringGridWorld(), GridWorld().model()
        problem = drop_unreached(model, 0.5)
        blank = np.eye(4)[[RIGHT]]
        values = problem.sweep(blank, np.zeros(model.num_states))
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
