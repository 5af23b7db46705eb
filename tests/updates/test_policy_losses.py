"""Losses of policy gradients against hand-computed numbers."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch

from rl_lab.nn.distributions import categorical
from rl_lab.updates.minibatches import Minibatch
from rl_lab.updates.policy_losses import (
    Objective,
    approximate_kl,
    clipped_fraction,
    clipped_surrogate,
    normalised,
    score_function,
    squared_error,
)


def tensors(*columns):
    return [torch.tensor(c, dtype=torch.float64) for c in columns]


RATIOS = [
    # ratio, advantage, clip range: min(r A, clip(r) A)
    (1.0, 2.0, 0.2, 2.0),
    (1.5, 2.0, 0.2, 2.4),  # clipped from above
    (1.5, -2.0, 0.2, -3.0),  # the worse of both
    (0.5, 2.0, 0.2, 1.0),
    (0.5, -2.0, 0.2, -1.6),  # clipped from below
    (1.1, 2.0, 0.2, 2.2),  # within
    (1.1, 2.0, 0.0, 2.0),  # a range that has fallen to 0
]


class TestLosses:
    @pytest.mark.parametrize(("ratio", "advantage", "clip", "expected"), RATIOS)
    def test_the_clipped_surrogate_takes_the_lesser(self, ratio, advantage, clip, expected):
        new, old, a = tensors([log(ratio) - 3.0], [-3.0], [advantage])
        assert clipped_surrogate(new, old, a, torch.tensor(clip)).item() == pytest.approx(-expected)

    def test_the_clipped_surrogate_is_a_mean(self):
        rows = [row for row in RATIOS if row[2] == 0.2]
        new, old, a = tensors([log(r[0]) for r in rows], [0.0] * 6, [r[1] for r in rows])
        found = clipped_surrogate(new, old, a, torch.tensor(0.2)).item()
        assert found == pytest.approx(-sum(r[3] for r in rows) / 6)

    @pytest.mark.parametrize(
        ("ratio", "advantage", "moves"), [(1.5, 2.0, 0), (1.5, -2.0, 1), (0.5, -2.0, 0), (0.5, 2.0, 1)]
    )
    def test_what_was_clipped_has_no_gradient(self, ratio, advantage, moves):
        new = torch.tensor([log(ratio)], requires_grad=True)
        clipped_surrogate(new, torch.zeros(1), torch.tensor([advantage]), torch.tensor(0.2)).backward()
        assert new.grad is not None
        assert new.grad.item() == pytest.approx(-ratio * advantage * moves)

    def test_the_score_function_weighs_log_probabilities(self):
        new, old, a = tensors([-1.0, -2.0], [-9.0, -9.0], [3.0, -0.5])
        assert score_function(new, old, a, torch.tensor(0.2)).item() == -(-3.0 + 1.0) / 2

    @pytest.mark.parametrize(
        ("value", "clip", "expected"),
        [
            (3.0, None, 4.0),  # (3 - 5)^2
            (3.0, 0.5, 12.25),  # from 1 no further than 1.5: (1.5 - 5)^2
            (1.2, 0.5, 3.8**2),
            (-3.0, 0.5, 20.25),  # no further than 0.5
        ],
    )
    def test_the_value_may_be_held_near_the_old_one(self, value, clip, expected):
        assert squared_error(*tensors([value], [1.0], [5.0]), clip).item() == pytest.approx(expected)

    def test_advantages_are_normalised_with_the_unbiased_deviation(self):
        (a,) = tensors([1.0, 2.0, 3.0])
        np.testing.assert_allclose(normalised(a).numpy(), [-1.0, 0.0, 1.0], atol=1e-7)
        assert normalised(a[:1]).item() == 1.0  # one alone has no deviation
        np.testing.assert_allclose(normalised(torch.full((4,), 7.0)).numpy(), 0.0)

    def test_the_divergence_is_that_of_schulman(self):
        new, old = tensors([log(1.5), log(0.5)], [0.0, 0.0])
        expected = ((1.5 - 1 - log(1.5)) + (0.5 - 1 - log(0.5))) / 2
        assert approximate_kl(new, old).item() == pytest.approx(expected)
        assert approximate_kl(old, old).item() == 0.0

    def test_the_clipped_fraction_counts_both_sides(self):
        new, old = tensors([log(1.5), log(0.5), log(1.1), 0.0], [0.0] * 4)
        assert clipped_fraction(new, old, torch.tensor(0.2)).item() == 0.5

    def test_the_objective_adds_its_parts_up(self):
        """Logits (0, log 3) give probabilities 1/4 and 3/4; the action is 1, the old policy was uniform."""

        def network(obs, state, is_first):
            return torch.tensor([[0.0, log(3.0)]]), torch.tensor([2.0]), ()

        batch = Minibatch(
            torch.zeros(1, 1), torch.tensor([1]), torch.tensor([log(0.5)]), torch.tensor([1.0]),
            torch.tensor([2.0]), torch.tensor([5.0]),
        )  # fmt: skip
        loss, figures = Objective(categorical, clipped_surrogate, 0.5, 0.1, True)(
            network, batch, torch.tensor(0.2)
        )
        entropy = -(0.25 * log(0.25) + 0.75 * log(0.75))
        expected = [-2.4 + 0.5 * 9 - 0.1 * entropy, -2.4, 9.0, entropy, 0.5 - log(1.5), 1.0]
        np.testing.assert_allclose(figures.numpy(), expected, atol=1e-6)
        assert loss.item() == pytest.approx(expected[0])
