"""The T-maze shows and pays what the paper says, and the returns that it states are true."""

from __future__ import annotations

import itertools
from functools import cache

import gymnasium
import numpy as np
import pytest

from rl_lab.envs.memory.tmaze import EAST, JUNCTION, NORTH, SIGNS, SOUTH, WEST, TMaze
from rl_lab.evaluation.exact import limited_return


def walk(env: gymnasium.Env, actions) -> list[tuple]:
    return [(tuple(int(x) for x in obs), *rest[:3]) for obs, *rest in map(env.step, actions)]


def reset_to(env: TMaze, sign: int) -> tuple:
    seed = next(s for s in range(99) if tuple(env.reset(seed=s)[0]) == SIGNS[sign])
    return tuple(env.reset(seed=seed)[0])


@cache
def memoryless_maze_returns(length: int, max_steps: int) -> dict[tuple, float]:
    """The exact return of each deterministic policy, by its actions for (sign, sign, corridor, junction)."""
    model = TMaze(length=length)._model
    return {
        actions: limited_return(model, np.eye(4)[list(actions)][classes_of(length)], max_steps)
        for actions in itertools.product(range(4), repeat=4)
    }


def classes_of(length: int) -> np.ndarray:
    """Which of the four observations each hidden state shows [S]; the last state's doesn't matter."""
    half = [2] * (length - 1) + [3]
    return np.array([0, *half, 1, *half, 3])


class TestTMaze:
    @pytest.mark.parametrize("sign", [0, 1])
    def test_shows_and_pays_what_the_paper_says(self, sign):
        env = TMaze(length=3)
        start, corridor = reset_to(env, sign), (1, 0, 1)
        assert start == [(0, 1, 1), (1, 1, 0)][sign]
        steps = walk(env, [WEST, EAST, NORTH, WEST, EAST, EAST, EAST, EAST, WEST, EAST, NORTH])
        shown = [start, corridor, corridor, start, corridor, corridor, JUNCTION, JUNCTION, corridor, JUNCTION]
        assert [step[0] for step in steps] == [*shown, (0, 0, 0)]
        assert [step[1] for step in steps] == [
            -0.1,
            0,
            -0.1,
            0,
            0,
            0,
            0,
            -0.1,
            0,
            0,
            4.0 if sign == 0 else -0.1,
        ]
        assert [step[2] for step in steps] == [False] * 10 + [True]
        assert not any(step[3] for step in steps)
        reset_to(env, sign)
        assert walk(env, [EAST] * 3 + [SOUTH])[-1][1:3] == (-0.1 if sign == 0 else 4.0, True)

    def test_both_signs_are_as_likely(self):
        env = TMaze()
        north = sum(env.reset(seed=seed)[0][0] == 0 for seed in range(1000))
        assert abs(north - 500) < 4 * np.sqrt(250)

    @pytest.mark.parametrize("length", [1, 2, 10, 70])
    def test_one_that_remembers_the_sign_gets_the_optimum(self, length):
        env, returns = TMaze(length=length), []
        for seed in range(20):
            turn = NORTH if env.reset(seed=seed)[0][0] == 0 else SOUTH
            returns.append(sum(step[1] for step in walk(env, [EAST] * length + [turn])))
        assert returns == [env.optimal_return] * 20

    @pytest.mark.parametrize(("length", "max_steps"), [(1, 2), (1, 9), (2, 3), (3, 4), (3, 50), (5, 1000)])
    def test_no_deterministic_policy_without_memory_does_better_than_stated(self, length, max_steps):
        env = TMaze(length=length, max_steps=max_steps)
        assert max(memoryless_maze_returns(length, max_steps).values()) == pytest.approx(
            env.memoryless_return
        )

    @pytest.mark.parametrize(("length", "max_steps"), [(1, 2), (2, 4), (3, 30)])
    def test_nor_does_one_that_draws_its_actions(self, length, max_steps):
        """Chances near those of good policies, and any."""
        rng, env = np.random.default_rng(0), TMaze(length=length, max_steps=max_steps)
        ranked = memoryless_maze_returns(length, max_steps)
        good = [np.eye(4)[list(a)] for a in sorted(ranked, key=ranked.__getitem__)[-30:]]
        for trial in range(600):
            chances = rng.dirichlet(np.full(4, 0.3), size=4)
            if trial % 2:
                mixed = rng.random() ** 3
                chances = mixed * chances + (1 - mixed) * good[trial % 30]
            policy = chances[classes_of(length)]
            assert limited_return(env._model, policy, max_steps) <= env.memoryless_return + 1e-12

    def test_best_policy_without_memory_plays_what_was_computed(self):
        """The environment against its hidden model: both signs, one after another."""
        env, total = TMaze(length=4), 0.0
        for sign in (0, 1):
            reset_to(env, sign)
            total += sum(step[1] for step in walk(env, [EAST] * 4 + [NORTH]))
        assert total / 2 == pytest.approx(env.memoryless_return)

    def test_is_truncated_at_its_limit_and_not_when_it_ends_there(self):
        env = TMaze(length=2, max_steps=3)
        env.reset(seed=0)
        assert [step[2:4] for step in walk(env, [WEST] * 3)] == [(False, False)] * 2 + [(False, True)]
        env.reset(seed=0)
        assert walk(env, [EAST, EAST, SOUTH])[-1][2:4] == (True, False)
