"""The 5x5 grid world has the values of the book's figures, and never terminates."""

from __future__ import annotations

import numpy as np

from rl_lab.mdp.solve import value_iteration
from tabular_envs import UP, evaluate_evenly, make, model_of, table


class TestSuttonGrid5x5:
    def test_values_of_the_even_policy_are_those_of_figure_3_2(self):
        figure = table("""
            3.3 8.8 4.4 5.3 1.5
            1.5 3.0 2.3 1.9 0.5
            0.1 0.7 0.7 0.4 -0.4
            -1.0 -0.4 -0.4 -0.6 -1.2
            -1.9 -1.3 -1.2 -1.4 -2.0
        """)
        values = evaluate_evenly(model_of("SuttonGrid5x5"), 0.9)
        np.testing.assert_allclose(values.reshape(5, 5), figure, atol=0.0501)

    def test_optimal_values_are_those_of_figure_3_5(self):
        figure = table("""
            22.0 24.4 22.0 19.4 17.5
            19.8 22.0 19.8 17.8 16.0
            17.8 19.8 17.8 16.0 14.4
            16.0 17.8 16.0 14.4 13.0
            14.4 16.0 14.4 13.0 11.7
        """)
        values = value_iteration(model_of("SuttonGrid5x5"), 0.9).v
        np.testing.assert_allclose(values.reshape(5, 5), figure, atol=0.0501)

    def test_is_cut_but_never_ends(self):
        env = make("SuttonGrid5x5")
        env.reset(seed=0)
        results = [env.step(UP)[2:4] for _ in range(100)]
        assert results == [(False, False)] * 99 + [(False, True)]
