"""The gambler's problem: exact values from bold play, and the stakes of the book's figure."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.mdp.methods import METHODS
from rl_lab.mdp.solve import policy_evaluation, solve
from tabular_envs import make, model_of


def printed_stakes() -> np.ndarray:
    """The stakes [101] of figure 4.3: 50 at 50, 25 at 25 and 75, 12 around 12, 37, 62 and 87, ..."""
    stakes = np.zeros(101, dtype=int)
    for capital in range(1, 100):
        folded = capital % 25  # distance to the nearest multiple of 25 below
        stakes[capital] = min(folded, 25 - folded) if folded else min(capital, 100 - capital)
    return stakes


def bold_stakes() -> np.ndarray:
    return np.minimum(np.arange(101), 100 - np.arange(101))


class TestGambler:
    @pytest.mark.parametrize("method", METHODS)
    def test_undiscounted_values_are_certified_by_every_method(self, method):
        """Many stakes are tied, and some of them go on for longer than others."""
        solution = solve(model_of("Gambler"), 1.0, method)
        np.testing.assert_allclose(solution.v[[25, 50, 75]], [0.16, 0.4, 0.64], atol=1e-12)
        assert solution.bound < 1e-10

    """Below even odds bold play is optimal (Dubins and Savage, 1965): that gives the exact values."""

    model = property(lambda self: model_of("Gambler"))

    def values(self) -> np.ndarray:
        policy = np.eye(51)[bold_stakes()]
        return policy_evaluation(self.model, policy, 1.0)

    def action_values(self) -> np.ndarray:
        model = self.model
        q = model.expected_reward + (model.continuation @ self.values()).reshape(101, 51)
        return np.where(model.available, q, -np.inf)

    def test_values_by_hand(self):
        values = self.values()
        np.testing.assert_allclose(values[[25, 50, 75]], [0.16, 0.4, 0.64], rtol=1e-13)

    def test_no_stake_beats_bold_play(self):
        """So its values solve Bellman's equation, and being attained they are the optimum."""
        best = self.action_values()[1:100].max(axis=1)
        np.testing.assert_allclose(best, self.values()[1:100], rtol=1e-12)

    def test_every_stake_that_figure_4_3_prints_is_optimal(self):
        q, printed = self.action_values(), printed_stakes()
        assert printed[[12, 13, 25, 37, 38, 50, 62, 75, 87]].tolist() == [12, 12, 25, 12, 12, 50, 12, 25, 12]
        for capital in range(1, 100):
            assert q[capital, printed[capital]] == pytest.approx(q[capital].max(), rel=1e-12)
        optimal = q[51] >= q[51].max() * (1 - 1e-12)
        assert np.flatnonzero(optimal).tolist() == [1, 49]

    def test_stakes_are_masked_by_the_capital(self):
        env = make("Gambler", start=30)
        _, info = env.reset(seed=0)
        assert info["action_mask"].dtype == np.int8
        assert np.flatnonzero(info["action_mask"]).tolist() == list(range(1, 31))
        assert model_of("Gambler").available[80].nonzero()[0].tolist() == list(range(1, 21))
        assert env.step(50)[0] in (0, 60)  # too much counts as all there is

    @pytest.mark.parametrize("fields", [{"p_heads": 0.0}, {"p_heads": 1.5}, {"start": 0}, {"start": 100}])
    def test_refusals(self, fields):
        with pytest.raises(ValueError, match=next(iter(fields))):
            make("Gambler", **fields)
