"""The random walks have the values of the book."""

from __future__ import annotations

import numpy as np
import pytest

from tabular_envs import evaluate_evenly, make, model_of


class TestRandomWalk:
    def test_values_of_five_states_are_sixths(self):
        values = evaluate_evenly(model_of("RandomWalk"), 1.0)
        np.testing.assert_allclose(values, [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 0], atol=1e-14)

    def test_values_of_nineteen_states(self):
        model = model_of("RandomWalk19")
        assert np.argmax(model.initial) == 10
        np.testing.assert_allclose(evaluate_evenly(model, 1.0)[1:-1], np.arange(-0.9, 0.91, 0.1), atol=1e-13)

    @pytest.mark.parametrize("states", [0, 4])
    def test_needs_a_middle(self, states):
        with pytest.raises(ValueError, match=f"states {states}"):
            make("RandomWalk", states=states)
