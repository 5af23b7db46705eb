"""Models found by exploring an environment."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from rl_lab.mdp.explore import explore_samples, explore_states
from rl_lab.mdp.model import TabularModel, extract_model
from rl_lab.mdp.solve import solve


def lake() -> TabularModel:
    model = extract_model(gymnasium.make("FrozenLake-v1"))
    assert model is not None
    return model


class TestExploration:
    def test_a_deterministic_environment_is_found_exactly(self):
        env = gymnasium.make("CliffWalking-v1")
        found = explore_states(env, deterministic=True)
        assert found.exact
        assert found.describe().startswith("exact: 38 states")  # the start row holds 36, the goal; no cliff
        truth = solve(extract_model(env), 0.9)
        np.testing.assert_allclose(
            solve(found.model, 0.9).v, [truth.v[s] for s in found.states], rtol=0, atol=1e-10
        )
        np.testing.assert_array_equal(found.model.observe(np.arange(38)), found.states)

    def test_a_stochastic_environment_gives_an_estimate_with_its_sample_size(self):
        env = gymnasium.make("FrozenLake-v1")
        found, truth = explore_states(env, samples=400), lake()
        assert not found.exact
        assert "400 to 400 tries" in found.describe()
        assert "estimate" in found.describe()
        assert set(found.tries.ravel()) == {0, 400}  # ends are not tried
        order = np.argsort(found.states)
        difference = found.model.continuation.toarray().reshape(16, 4, 16)[order][:, :, order]
        difference -= truth.continuation.toarray().reshape(16, 4, 16)
        assert np.abs(difference).max() < 5 * np.sqrt(2 / 9 / 400)

    def test_a_stochastic_environment_is_not_accepted_as_deterministic(self):
        with pytest.raises(ValueError, match="not deterministic"):
            explore_states(gymnasium.make("FrozenLake-v1"), deterministic=True)

    def test_samples_alone_give_an_estimate(self):
        env = gymnasium.make("FrozenLake-v1", is_slippery=False)
        found = explore_samples(env, 20_000)
        truth = solve(extract_model(env), 0.9)
        assert found.tries.sum() == 20_000
        start = int(np.argmax(found.model.initial))
        assert solve(found.model, 0.9).v[start] == pytest.approx(truth.v[0], abs=1e-10)
        assert "20000 steps" in found.describe()

    def test_masks_are_respected(self):
        found = explore_samples(gymnasium.make("Taxi-v4"), 3000)
        assert not found.model.available.all()
        assert (found.tries[~found.model.available] == 0).all()

    def test_starts_are_counted(self):
        found = explore_samples(gymnasium.make("FrozenLake-v1"), 2000)
        assert found.model.initial[found.states.index(0)] == 1.0
        found = explore_states(gymnasium.make("Taxi-v4"), samples=1, deterministic=True)
        assert found.resets == 1
        starts = explore_samples(gymnasium.make("Taxi-v4"), 5000)
        assert starts.resets == pytest.approx(1 / starts.model.initial[starts.model.initial > 0].min())
        assert (starts.model.initial > 0).sum() > 10

    def test_invalid_arguments_are_refused(self):
        env = gymnasium.make("CliffWalking-v1")
        with pytest.raises(ValueError, match="no attribute 'where'"):
            explore_states(env, "where")
        with pytest.raises(ValueError, match="max_states = 5"):
            explore_states(env, samples=1, max_states=5)
        with pytest.raises(ValueError, match="Discrete"):
            explore_samples(gymnasium.make("Pendulum-v1"), 5)
