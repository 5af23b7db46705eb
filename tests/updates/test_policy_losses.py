"""Losses and distributions of policy gradients: hand-computed numbers, and torch's own distributions."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_lab.nn.distributions import Categorical, DiagonalGaussian, categorical, diagonal_gaussian
from rl_lab.updates.minibatches import Minibatch, minibatches
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


class TestCategorical:
    LOGITS = np.array([[0.0, 1.0, 3.0], [5.0, -2.0, 0.5]], np.float32)
    MASK = np.array([[True, True, False], [False, True, True]])
    HEAD = Categorical(spaces.Discrete(3))

    def test_equals_torch_without_a_mask(self):
        logits, action = torch.from_numpy(self.LOGITS), torch.tensor([2, 1])
        theirs = torch.distributions.Categorical(logits=logits)
        log_prob, entropy = categorical(logits, action)
        torch.testing.assert_close(log_prob, theirs.log_prob(action))
        torch.testing.assert_close(entropy, theirs.entropy())
        np.testing.assert_allclose(
            self.HEAD.probabilities(self.LOGITS, None), theirs.probs.numpy(), atol=1e-6
        )

    def test_illegal_actions_have_no_probability_and_no_part_in_the_entropy(self):
        logits, mask = torch.from_numpy(self.LOGITS).requires_grad_(), torch.from_numpy(self.MASK)
        log_prob, entropy = categorical(logits, torch.tensor([1, 2]), mask)
        p = exp(1) / (1 + exp(1)), exp(0.5) / (exp(0.5) + exp(-2))
        np.testing.assert_allclose(log_prob.detach().numpy(), np.log(p), atol=1e-6)
        np.testing.assert_allclose(
            entropy.detach().numpy(), [-(x * log(x) + (1 - x) * log(1 - x)) for x in p], atol=1e-6
        )
        (log_prob.sum() + entropy.sum()).backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()
        assert (logits.grad[~mask] == 0).all()
        probabilities = self.HEAD.probabilities(self.LOGITS, self.MASK)
        assert (probabilities[~self.MASK] == 0).all()
        np.testing.assert_allclose(probabilities.sum(-1), 1.0, atol=1e-6)

    def test_draws_by_its_probabilities_and_never_an_illegal_action(self):
        logits, mask = (x.repeat(20_000, axis=0) for x in (self.LOGITS, self.MASK))
        drawn = self.HEAD.draw(logits, np.random.default_rng(0), mask)
        assert mask[np.arange(len(mask)), drawn.action].all()
        expected = self.HEAD.probabilities(self.LOGITS, self.MASK)
        for k in range(2):
            rows = drawn.action[k * 20_000 : (k + 1) * 20_000]
            np.testing.assert_allclose(np.bincount(rows, minlength=3) / 20_000, expected[k], atol=0.015)
        again = categorical(torch.from_numpy(logits), torch.from_numpy(drawn.raw), torch.from_numpy(mask))[0]
        np.testing.assert_allclose(drawn.log_prob, again.numpy(), atol=1e-5)

    def test_the_mode_is_the_first_best_legal_action(self):
        assert self.HEAD.mode(self.LOGITS, None).tolist() == [2, 0]
        assert self.HEAD.mode(self.LOGITS, self.MASK).tolist() == [1, 2]
        assert self.HEAD.mode(np.zeros((1, 3), np.float32), None).tolist() == [0]


class TestGaussian:
    SPACE = spaces.Box(np.array([[-1.0], [0.0]], np.float32), np.array([[1.0], [0.5]], np.float32))
    MEAN, LOG_STD = np.array([[0.5, -3.0], [0.0, 0.2]], np.float32), np.array([-1.0, 0.7], np.float32)

    def test_equals_torch(self):
        mean, log_std = torch.from_numpy(self.MEAN), torch.from_numpy(self.LOG_STD)
        action = torch.tensor([[0.1, 2.0], [-0.5, 0.3]])
        theirs = torch.distributions.Normal(mean, log_std.exp())
        log_prob, entropy = diagonal_gaussian((mean, log_std), action)
        torch.testing.assert_close(log_prob, theirs.log_prob(action).sum(-1))
        torch.testing.assert_close(entropy, theirs.entropy().sum(-1))

    def test_what_is_drawn_is_clipped_for_the_environment_alone(self):
        head = DiagonalGaussian(self.SPACE)
        mean = self.MEAN.repeat(10_000, axis=0)
        drawn = head.draw((mean, self.LOG_STD), np.random.default_rng(0), None)
        assert drawn.action.shape == (20_000, 2, 1)
        assert drawn.action.dtype == np.float32
        assert all(self.SPACE.contains(a) for a in drawn.action[::97])
        np.testing.assert_array_equal(
            drawn.action.reshape(-1, 2), drawn.raw.clip(self.SPACE.low[:, 0], self.SPACE.high[:, 0])
        )
        assert (drawn.raw[:, 1] > 0.5).any()
        np.testing.assert_allclose(drawn.raw[:10_000].mean(0), self.MEAN[0], atol=0.08)
        np.testing.assert_allclose(drawn.raw[:10_000].std(0), np.exp(self.LOG_STD), rtol=0.03)
        parameters = torch.from_numpy(mean), torch.from_numpy(self.LOG_STD)
        again = diagonal_gaussian(parameters, torch.from_numpy(drawn.raw))[0]
        np.testing.assert_allclose(drawn.log_prob, again.numpy(), atol=1e-4)

    def test_the_mode_is_the_clipped_mean(self):
        found = DiagonalGaussian(self.SPACE).mode((self.MEAN, self.LOG_STD), None)
        np.testing.assert_allclose(found[..., 0], [[0.5, 0.0], [0.0, 0.2]])


class TestMinibatches:
    @staticmethod
    def whole(*shape):
        number = torch.arange(float(np.prod(shape))).reshape(shape)
        sequences = (
            {"is_first": number > 0, "state": (torch.arange(float(shape[-1])),)} if len(shape) == 2 else {}
        )
        return Minibatch({"a": number.unsqueeze(-1)}, *[number] * 5, **sequences)

    def test_each_epoch_shows_every_step_once_in_an_order_of_its_own(self):
        rng = np.random.default_rng(0)
        parts = list(minibatches(self.whole(10), 4, 2, rng))
        assert [len(part.action) for part in parts] == [4, 4, 2] * 2
        epochs = [torch.cat([p.value for p in parts[k : k + 3]]) for k in (0, 3)]
        for epoch in epochs:
            assert sorted(epoch.tolist()) == list(range(10))
        assert epochs[0].tolist() != epochs[1].tolist()
        for part in parts:
            assert torch.equal(part.obs["a"][:, 0], part.log_prob)

    @pytest.mark.parametrize("size", [None, 10, 64])
    def test_a_rollout_that_fits_is_taken_as_it_is(self, size):
        whole = self.whole(10)
        assert all(part is whole for part in minibatches(whole, size, 3, np.random.default_rng(0)))

    @pytest.mark.parametrize(
        ("size", "environments"), [(12, [3, 2]), (11, [2, 2, 1]), (1, [1] * 5), (99, [5])]
    )
    def test_sequences_stay_whole_and_keep_their_carry(self, size, environments):
        parts = list(minibatches(self.whole(4, 5), size, 1, np.random.default_rng(0)))
        assert [part.value.shape[1] for part in parts] == environments
        for part in parts:
            assert torch.equal(part.value[0], part.state[0])  # both count the environments in the first row
            assert torch.equal(part.value, part.value[0] + 5 * torch.arange(4.0)[:, None])
            assert torch.equal(part.is_first, part.value > 0)
        assert sorted(torch.cat([p.state[0] for p in parts]).tolist()) == [0, 1, 2, 3, 4]
