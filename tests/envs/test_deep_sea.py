"""Deep sea: the best return, and how rarely chance finds it."""

from __future__ import annotations

import pytest

from rl_lab.mdp.solve import value_iteration
from tabular_envs import best_return, evaluate_evenly, make, model_of, play


class TestDeepSea:
    @pytest.mark.parametrize(("size", "seed"), [(2, 0), (10, 3), (25, None)])
    def test_best_return(self, size, seed):
        assert best_return(model_of("DeepSea", size=size, problem_seed=seed)) == pytest.approx(0.99)

    def test_only_one_dive_in_two_to_the_size_finds_the_treasure(self):
        model = model_of("DeepSea", size=6)
        chance = evaluate_evenly(model, 1.0)[0] + 0.01 / 6 * 3  # half of the moves go right
        assert chance == pytest.approx(2.0**-6)

    def test_actions_mean_something_else_in_each_cell(self):
        env = make("DeepSea", size=4, problem_seed=None)
        assert play(env, [1, 1, 1, 1]) == ([0, 5, 10, 15, 19], pytest.approx(0.99), True)
        policies = {
            value_iteration(model_of("DeepSea", problem_seed=s), 1.0).policy.tobytes() for s in range(4)
        }
        assert len(policies) == 4
