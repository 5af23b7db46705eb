"""Garnet: random MDPs have the shape that was asked for, and follow from their seed."""

from __future__ import annotations

import numpy as np
import pytest

from tabular_envs import make, model_of


class TestGarnet:
    def test_each_pair_branches_as_asked_for(self):
        model = model_of("Garnet", states=12, actions=3, branching=4)
        onward = model.continuation.toarray()
        assert onward.shape == (36, 12)
        np.testing.assert_allclose(onward.sum(axis=1), 1.0, atol=1e-12)
        assert ((onward > 0).sum(axis=1) == 4).all()

    def test_the_problem_follows_from_its_seed_alone(self):
        one, same, other = (model_of("Garnet", problem_seed=seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one.reward, same.reward)
        assert (one.reward != other.reward).any()

    def test_refuses_more_branches_than_states(self):
        with pytest.raises(ValueError, match=r"branching 5 must be in 1\.\.4"):
            make("Garnet", states=4, branching=5)
