"""Catch: what it hides, what it pays, and that the returns that it states are true."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rl_lab.envs.memory.catch import Catch
from rl_lab.mdp.model import extract_model
from tabular_envs import best_return, make


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
