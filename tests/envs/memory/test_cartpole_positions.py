"""CartPole with hidden velocities: what it hides, and what that costs."""

from __future__ import annotations

import gymnasium
import numpy as np

from rl_lab.envs.memory.cartpole_positions import CartPolePositions
from tabular_envs import make


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
