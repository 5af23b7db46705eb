"""The bandit: its noise, its best arm, and the length of its episodes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rl_lab.envs.sutton_barto.bandit import draw_means, slice_normal
from tabular_envs import best_return, make, model_of, play


class TestBandit:
    def test_noise_is_normal_but_for_its_grid(self):
        noise = slice_normal(200)
        assert noise.mean() == pytest.approx(0.0, abs=1e-15)
        assert noise.var() == pytest.approx(1.0, abs=1e-12)
        assert stats.kstest(noise, "norm").statistic < 0.01

    def test_the_best_arm_is_the_truth(self):
        model, means = model_of("Bandit", arms=7, problem_seed=3), draw_means(7, 3)
        np.testing.assert_allclose(model.expected_reward, means[None], atol=1e-12)
        assert best_return(model) == pytest.approx(means.max())

    def test_episodes_have_as_many_pulls_as_asked_for(self):
        assert model_of("Bandit").num_states == 1
        env = make("Bandit", steps=3)
        assert play(env, [0, 0, 0])[0::2] == ([0, 1, 2, 2], True)
        assert best_return(env.unwrapped.model()) == pytest.approx(3 * draw_means(10, 0).max())
