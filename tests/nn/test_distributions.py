"""Distributions over actions: probabilities, entropies, draws and modes."""

from __future__ import annotations

from math import exp, log

import numpy as np
import torch
from gymnasium import spaces

from rl_lab.nn.distributions import Categorical, DiagonalGaussian, categorical, diagonal_gaussian


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
