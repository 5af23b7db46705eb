"""The cliff walk: the book's path, and agreement with Gymnasium's."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from rl_lab.mdp.model import extract_model
from rl_lab.mdp.solve import value_iteration
from tabular_envs import DOWN, RIGHT, UP, best_return, make, model_of, play


class TestCliff:
    def test_best_return(self):
        assert best_return(model_of("Cliff")) == pytest.approx(-13)

    def test_the_safe_way_of_the_book_pays_minus_17(self):
        assert play(make("Cliff"), [UP] * 3 + [RIGHT] * 11 + [DOWN] * 3)[1:] == (-17, True)

    def test_falling_leads_to_the_start_and_on(self):
        assert play(make("Cliff"), [RIGHT, UP]) == ([36, 36, 24], -101, False)

    def test_agrees_with_gymnasiums(self):
        theirs = extract_model(gymnasium.make("CliffWalking-v1"))
        ours = model_of("Cliff")
        reachable = np.r_[0:37, 47]
        np.testing.assert_array_equal(ours.expected_reward[reachable], theirs.expected_reward[reachable])
        np.testing.assert_allclose(
            value_iteration(ours, 0.9).v[reachable], value_iteration(theirs, 0.9).v[reachable], rtol=1e-12
        )
