"""Baird's star: what its actions do, what is seen of its states, and that all are visited equally often."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.envs.sutton_barto.baird import DASHED, FIRST_WEIGHTS, SOLID, features_of
from tabular_envs import make, model_of, table

FEATURES = """
    2 0 0 0 0 0 0 1
    0 2 0 0 0 0 0 1
    0 0 2 0 0 0 0 1
    0 0 0 2 0 0 0 1
    0 0 0 0 2 0 0 1
    0 0 0 0 0 2 0 1
    0 0 0 0 0 0 1 2
"""


def test_states_are_seen_as_in_the_figure():
    np.testing.assert_array_equal(model_of("Baird").observe(np.arange(7)), table(FEATURES))
    np.testing.assert_array_equal(features_of(np.arange(7)) @ FIRST_WEIGHTS, [3] * 6 + [12])


def test_solid_leads_to_the_seventh_state_and_dashed_evenly_to_the_others():
    model = model_of("Baird")
    onward = model.continuation.toarray().reshape(7, 2, 7)
    np.testing.assert_allclose(onward[:, DASHED], np.tile([1 / 6] * 6 + [0], (7, 1)))
    np.testing.assert_allclose(onward[:, SOLID], np.tile([0] * 6 + [1], (7, 1)))
    assert not model.reward.any()


def test_an_episode_is_one_step_from_any_state_and_then_cut_off():
    env = make("Baird")
    starts = np.array([env.reset(seed=seed)[0].argmax() for seed in range(700)])
    assert np.bincount(starts, minlength=8)[[0, 1, 2, 3, 4, 5, 7]].min() > 70
    env.reset(seed=0)
    obs, reward, terminated, truncated, _ = env.step(SOLID)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert obs == pytest.approx([0, 0, 0, 0, 0, 0, 1, 2])
