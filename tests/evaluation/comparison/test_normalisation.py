"""Scales of scores, exact and measured."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from rl_lab.evaluation.comparison.normalisation import (
    Scale,
    discounted_scale,
    episode_scale,
    measured_scale,
    uniform_policy,
)
from rl_lab.evaluation.exact import expected_return, limited_return, optimal_return
from rl_lab.mdp.model import TabularModel, extract_model
from rl_lab.types import UsageError

# From 0: stay for 1, or end for 5.
STAY = TabularModel.from_outcomes([(0, 0, 1.0, 0, 1.0, False), (0, 1, 1.0, 0, 5.0, True)], 1, 2, [1.0])


def test_scores_become_fractions_of_the_way():
    scale = Scale(10.0, 20.0, "made up")
    assert scale.normalise([[10.0, 20.0], [15.0, 25.0]]).tolist() == [[0.0, 1.0], [0.5, 1.5]]


def test_exact_scales_by_hand():
    # discounted by 1/2: stay for ever earns 2, ending 5; half and half v = 3 + v / 4
    assert discounted_scale(STAY, 0.5) == Scale(4.0, 5.0, "exact, from random play to the optimum, gamma 0.5")
    # two steps: stay and end earns 6; random play 3 + 1/2 * 3
    within = episode_scale(STAY, 2)
    assert (within.low, within.high) == (4.5, 6.0)
    assert within.source == "exact, from random play to the optimum within 2 steps"


def test_frozen_lake_has_its_known_optimum():
    model = extract_model(gymnasium.make("FrozenLake-v1"))
    scale = discounted_scale(model, 0.99)
    assert (scale.low, scale.high) == pytest.approx((0.0124, 0.5420), abs=1e-4)
    within = episode_scale(model, 100)
    assert within.high == pytest.approx(0.744, abs=1e-3)
    best = np.eye(4)[[0, 3, 3, 3, 0, 0, 0, 0, 3, 1, 0, 0, 0, 2, 1, 0]]  # optimal without a limit
    normalised = within.normalise(limited_return(model, best, 100))
    assert 0.98 < normalised < 1.0  # knowing the steps that are left is worth a little
    assert scale.normalise(expected_return(model, best, 0.99)) == pytest.approx(1.0)
    assert scale.high == optimal_return(model, 0.99)


def test_random_play_takes_available_actions_only():
    outcomes = [(0, 0, 1.0, 0, 1.0, True), (1, 0, 1.0, 1, 0.0, True), (1, 1, 1.0, 1, 3.0, True)]
    model = TabularModel.from_outcomes(outcomes, 2, 2, [0.5, 0.5])
    assert uniform_policy(model).tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert discounted_scale(model, 0.9).low == pytest.approx(0.5 * 1 + 0.5 * 1.5)


def test_measured_scales_run_from_mean_to_mean():
    scale = measured_scale([0.0, 2.0], [5.0, 6.0, 10.0], "sb3-dqn")
    assert scale == Scale(1.0, 7.0, "measured, from random play to sb3-dqn")


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_scale_needs_two_finite_numbers_in_order(low, high):
    with pytest.raises(UsageError, match=r"can't be normalised from .* \(made up\)"):
        Scale(low, high, "made up")
