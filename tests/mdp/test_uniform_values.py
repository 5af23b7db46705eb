"""The exact values of acting at random, and how far tables of values are from them."""

from __future__ import annotations

import numpy as np
import pytest
from garnets import garnet

from rl_lab.evaluation.exact import expected_return
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.rows import NeverEnds
from rl_lab.mdp.uniform_values import root_mean_squared_errors, uniform_return, uniform_values

# State 0: one action ends with 4, the other leads to state 1, which ends with 2; state 2 can't be met.
OUTCOMES = [
    (0, 0, 1.0, 0, 4.0, True),
    (0, 1, 1.0, 1, 0.0, False),
    (1, 0, 1.0, 0, 2.0, True),
    (2, 0, 1.0, 0, 9.0, True),
]
MODEL = TabularModel.from_outcomes(OUTCOMES, 3, 2, [1.0, 0.0, 0.0])


def test_values_are_those_computed_by_hand_with_the_legal_actions_alone():
    met, values = uniform_values(MODEL, 0.5)
    assert met.tolist() == [0, 1]
    np.testing.assert_allclose(values, [0.5 * 4 + 0.5 * 0.5 * 2, 2.0])
    assert uniform_return(MODEL, 1.0) == pytest.approx(3.0)


def test_the_return_is_that_of_the_policy_evaluated_directly():
    model = garnet(3, 8, 3, 2, ending=0.1, share=0.6)
    uniform = model.available / model.available.sum(axis=1, keepdims=True)
    assert uniform_return(model, 0.9) == pytest.approx(expected_return(model, uniform, 0.9), rel=1e-12)


def test_errors_are_taken_over_the_states_that_can_be_met():
    tables = np.array([[9.0, 2.5, 2.0], [9.0, 5.5, -2.0]])
    found = root_mean_squared_errors(MODEL, tables, np.array([1, 2, 0]), 0.5)
    np.testing.assert_allclose(found, [0.0, np.sqrt((3.0**2 + 4.0**2) / 2)])


def test_an_episode_without_an_end_has_no_values():
    model = TabularModel.from_outcomes([(0, 0, 1.0, 0, 1.0, False)], 1, 1, [1.0])
    with pytest.raises(NeverEnds):
        uniform_return(model, 1.0)
