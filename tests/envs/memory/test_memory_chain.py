"""The memory chain: what it shows and pays, and that the returns that it states are true."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quizzes import best_by_enumeration
from rl_lab.envs.memory.memory_chain import MemoryChain


def chain_contents(bits: int) -> list[dict]:
    return [
        {"bits": np.array(values), "query": query}
        for values in itertools.product((0, 1), repeat=bits)
        for query in range(bits)
    ]


def remember(env: MemoryChain, seed: int) -> float:
    obs, total, over = env.reset(seed=seed)[0], 0.0, False
    context = obs[2:]
    while not over:
        answer = context[int(obs[1])] > 0 if obs[0] == 0 else 0
        obs, reward, over, _, _ = env.step(int(answer))
        total += reward
    return total


class TestMemoryChain:
    def test_shows_the_context_first_and_the_query_last(self):
        env = MemoryChain(length=4, num_bits=3)
        env.reset(seed=0)
        env.bits, env.query = np.array([1, 0, 1]), 2
        seen = [env._see(0), *(env.step(1)[0] for _ in range(4))]
        rows = [[1, 0, 1, -1, 1], [0.75, 0, 0, 0, 0], [0.5, 0, 0, 0, 0], [0.25, 0, 0, 0, 0], [0, 2, 0, 0, 0]]
        np.testing.assert_array_equal(seen, np.array(rows, dtype=np.float32))
        assert env.step(1)[1:4] == (1.0, True, False)
        assert env.step(1)[1:4] == (0.0, True, False)  # over already

    def test_a_wrong_answer_costs_one(self):
        env = MemoryChain(length=1)
        for bit, answer in itertools.product((0, 1), repeat=2):
            env.reset(seed=0)
            env.bits = np.array([bit])
            assert env.step(answer)[1:3] == (0.0, False)
            assert env.step(answer)[1:3] == (1.0 if bit == answer else -1.0, True)

    @given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**31 - 1))
    @settings(max_examples=50, deadline=None)
    def test_one_that_remembers_gets_the_optimum(self, length, num_bits, seed):
        env = MemoryChain(length=length, num_bits=num_bits)
        assert remember(env, seed) == env.optimal_return

    @pytest.mark.parametrize(("length", "bits"), [(1, 1), (3, 1), (1, 2), (2, 2)])
    def test_no_policy_without_memory_does_better_than_stated(self, length, bits):
        """Draws can't help either: each step's reward is linear in its own step's chances."""
        env = MemoryChain(length=length, num_bits=bits)
        assert best_by_enumeration(env, chain_contents(bits)) == env.memoryless_return

    def test_contents_are_even(self):
        env, drawn = MemoryChain(num_bits=2), []
        for seed in range(800):
            env.reset(seed=seed)
            drawn.append((*env.bits.tolist(), env.query))
        counts = [drawn.count(content) for content in itertools.product((0, 1), repeat=3)]
        assert sum(counts) == 800
        assert sum((count - 100) ** 2 / 100 for count in counts) < 24.3  # chi-square of 7 at 0.001
