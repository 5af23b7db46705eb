"""The 4x4 grid world has the values of the book's figure."""

from __future__ import annotations

import numpy as np

from rl_lab.mdp.solve import value_iteration
from tabular_envs import evaluate_evenly, model_of, table


class TestSuttonGrid4x4:
    def test_values_of_the_even_policy_are_those_of_figure_4_1(self):
        figure = table("0 -14 -20 -22\n-14 -18 -20 -20\n-20 -20 -18 -14\n-22 -20 -14 0")
        values = evaluate_evenly(model_of("SuttonGrid4x4"), 1.0)
        np.testing.assert_allclose(values.reshape(4, 4), figure, atol=1e-11)

    def test_optimal_values_are_the_distances(self):
        figure = table("0 -1 -2 -3\n-1 -2 -3 -2\n-2 -3 -2 -1\n-3 -2 -1 0")
        values = value_iteration(model_of("SuttonGrid4x4"), 1.0).v
        np.testing.assert_allclose(values.reshape(4, 4), figure, atol=1e-11)
