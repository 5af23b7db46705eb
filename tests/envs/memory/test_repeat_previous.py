"""Repeat previous: what it pays, and that the returns that it states are true."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quizzes import best_by_enumeration
from rl_lab.envs.memory.repeat_previous import RepeatPrevious


def sequences(symbols: int, length: int) -> list[dict]:
    return [{"shown": [*shown, 0]} for shown in itertools.product(range(symbols), repeat=length)]


class TestRepeatPrevious:
    def test_pays_for_the_symbol_k_steps_before(self):
        env = RepeatPrevious(k=2, symbols=3, length=5)
        env.reset(seed=0)
        env.shown = [0, 1, 2, 1, 0, 2]
        results = [env.step(action)[:4] for action in (0, 0, 0, 2, 2)]
        third = 1.0 / 3.0
        assert [r[0] for r in results] == [1, 2, 1, 0, 2]
        assert [r[1] for r in results] == [0.0, 0.0, third, -third, third]
        assert [r[2] for r in results] == [False] * 4 + [True]

    @given(st.data(), st.integers(1, 60), st.integers(2, 7), st.integers(0, 2**31 - 1))
    @settings(max_examples=80, deadline=None)
    def test_naming_the_right_symbols_gives_one_in_total_and_the_wrong_ones_minus_one(
        self, data, length, symbols, seed
    ):
        k = data.draw(st.integers(0, length - 1))
        env = RepeatPrevious(k=k, symbols=symbols, length=length)
        for shift, total in ((0, env.optimal_return), (1, -1.0)):
            past, over, earned = [env.reset(seed=seed)[0]], False, []
            while not over:
                named = (past[-1 - k] + shift) % symbols if len(past) > k else 0
                obs, reward, over, _, _ = env.step(named)
                past.append(obs)
                earned.append(reward)
            assert len(earned) == length
            assert sum(earned) == pytest.approx(total, abs=1e-12)

    @pytest.mark.parametrize(
        ("k", "symbols", "length"), [(0, 3, 3), (1, 2, 4), (2, 2, 5), (1, 3, 3), (3, 3, 4)]
    )
    def test_no_policy_without_memory_does_better_than_stated(self, k, symbols, length):
        env = RepeatPrevious(k=k, symbols=symbols, length=length)
        best = best_by_enumeration(env, sequences(symbols, length))
        assert best == pytest.approx(env.memoryless_return, abs=1e-12)

    def test_symbols_are_even_and_independent(self):
        env, pairs = RepeatPrevious(symbols=3, length=1000), np.zeros((3, 3))
        for seed in range(9):
            env.reset(seed=seed)
            np.add.at(pairs, (env.shown[:-1], env.shown[1:]), 1)
        assert ((pairs - 1000) ** 2 / 1000).sum() < 26.1  # chi-square of 8 at 0.001
