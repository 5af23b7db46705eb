"""Distributions over actions of several parts, beside torch's own."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from torch import distributions as theirs

import drawn_spaces
from rl_lab.environments.actions import counts_of, leaf_spaces, mask_size, single_action
from rl_lab.nn.distributions import Categorical, DiagonalGaussian
from rl_lab.nn.joint_distributions import Categoricals, Joint, make_distribution
from rl_lab.trees import map_leaves
from rl_lab.types import UsageError

HYBRID = spaces.Dict(
    {
        "turn": spaces.Discrete(3, start=1),
        "push": spaces.Tuple((spaces.Box(-1, 1, (2,), np.float32), spaces.MultiDiscrete([2, 3]))),
    }
)


def parameters_of(distribution, rows: int, seed: int = 0):
    """Return the parameters of some features as numpy arrays, as acting computes them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = distribution.make_head(4)
        return map_leaves(lambda leaf: leaf.detach().numpy(), head(torch.randn(rows, 4)))


def evaluated(distribution, parameters, raw, mask=None):
    tensors = [map_leaves(torch.from_numpy, tree) for tree in (parameters, raw, mask)]
    return [x.numpy() for x in distribution.evaluate(*tensors)]


class TestCategoricals:
    SPACE = spaces.MultiDiscrete([2, 3], start=[0, -1])
    LOGITS = np.log(np.array([[0.5, 0.5, 0.2, 0.3, 0.5]], np.float32))

    def test_log_probability_and_entropy_by_hand(self):
        log_prob, entropy = evaluated(make_distribution(self.SPACE), self.LOGITS, np.array([[1, 2]]))
        np.testing.assert_allclose(log_prob, log(0.5 * 0.5), rtol=1e-5)
        np.testing.assert_allclose(entropy, log(2) - sum(p * log(p) for p in (0.2, 0.3, 0.5)), rtol=1e-5)

    def test_equals_torch_in_sequences_too(self):
        distribution = Categoricals([2, 4, 3], np.zeros(3, np.int64))
        logits, action = torch.randn(5, 7, 9), torch.tensor([1, 3, 0]).expand(5, 7, 3)
        parts = [theirs.Categorical(logits=part) for part in logits.split([2, 4, 3], -1)]
        log_prob, entropy = distribution.evaluate(logits, action, None)
        torch.testing.assert_close(log_prob, sum(p.log_prob(action[..., k]) for k, p in enumerate(parts)))
        torch.testing.assert_close(entropy, sum(p.entropy() for p in parts))

    def test_bits_equal_torchs_bernoulli_of_their_difference(self):
        logits, bits = torch.randn(6, 8), torch.randint(2, (6, 4))
        bernoulli = theirs.Bernoulli(logits=logits[:, 1::2] - logits[:, ::2])
        log_prob, entropy = make_distribution(spaces.MultiBinary(4)).evaluate(logits, bits, None)
        torch.testing.assert_close(log_prob, bernoulli.log_prob(bits.float()).sum(-1))
        torch.testing.assert_close(entropy, bernoulli.entropy().sum(-1))

    def test_a_mask_holds_for_each_entry_and_one_without_any_legal_value_has_all(self):
        distribution = make_distribution(self.SPACE)
        mask = np.array([[True, False, False, False, False]])
        log_prob, entropy = evaluated(distribution, self.LOGITS, np.array([[0, 1]]), mask)
        np.testing.assert_allclose(log_prob, log(0.3), rtol=1e-5)
        np.testing.assert_allclose(entropy, -sum(p * log(p) for p in (0.2, 0.3, 0.5)), rtol=1e-5)
        many = (x.repeat(500, axis=0) for x in (self.LOGITS, mask))
        drawn = distribution.draw(next(many), np.random.default_rng(0), next(many))
        assert np.unique(drawn.action, axis=0).tolist() == [[0, -1], [0, 0], [0, 1]]

    def test_gradients_are_finite_under_a_mask(self):
        logits = torch.randn(1, 5, requires_grad=True)
        mask = torch.tensor([[True, False, False, True, True]])
        log_prob, entropy = make_distribution(self.SPACE).evaluate(logits, torch.tensor([[0, 2]]), mask)
        (log_prob + entropy).sum().backward()
        assert logits.grad.isfinite().all()
        assert (logits.grad[~mask] == 0).all()

    def test_draws_by_its_probabilities(self):
        logits = self.LOGITS.repeat(20_000, axis=0)
        action = make_distribution(self.SPACE).draw(logits, np.random.default_rng(0), None).action
        assert action.dtype == np.int64
        np.testing.assert_allclose(np.bincount(action[:, 0]) / 20_000, [0.5, 0.5], atol=0.015)
        np.testing.assert_allclose(np.bincount(action[:, 1] + 1) / 20_000, [0.2, 0.3, 0.5], atol=0.015)

    def test_the_mode_is_the_best_value_of_each_entry(self):
        assert make_distribution(self.SPACE).mode(self.LOGITS, None).tolist() == [[0, 1]]

    @pytest.mark.parametrize("space", [SPACE, HYBRID])
    def test_a_mask_of_another_size_is_refused(self, space):
        distribution = make_distribution(space)
        with pytest.raises(UsageError, match=f"action_mask has 4 values .allowed: {mask_size(space)}"):
            distribution.mode(parameters_of(distribution, 2), np.ones((2, 4), np.bool_))


class TestIntegers:
    def test_few_values_are_drawn_one_by_one_and_many_rounded(self):
        assert isinstance(make_distribution(spaces.Box(-128, 127, (2,), np.int8)), Categoricals)
        assert isinstance(make_distribution(spaces.Box(0, 1000, (2,), np.int64)), DiagonalGaussian)
        assert isinstance(make_distribution(spaces.Box(-np.inf, np.inf, (2,), np.int64)), DiagonalGaussian)

    def test_small_types_do_not_overflow(self):
        distribution = make_distribution(spaces.Box(-128, 127, (1,), np.int8))
        best = np.eye(256, dtype=np.float32)[[0, 128, 255]]
        assert distribution.mode(best, None).tolist() == [[-128], [0], [127]]

    def test_means_are_rounded_and_clipped_and_the_density_is_that_of_the_draw(self):
        space = spaces.Box(0, 1000, (2,), np.int64)
        distribution = make_distribution(space)
        parameters = np.array([[3.4, -7.0], [2000.0, 0.6]], np.float32), np.zeros(2, np.float32)
        assert distribution.mode(parameters, None).tolist() == [[3, 0], [1000, 1]]
        drawn = distribution.draw(parameters, np.random.default_rng(0), None)
        normal = theirs.Normal(torch.from_numpy(parameters[0]), 1.0)
        np.testing.assert_allclose(
            drawn.log_prob, normal.log_prob(torch.from_numpy(drawn.raw)).sum(-1), rtol=1e-4
        )

    def test_without_bounds_every_draw_is_inside(self):
        space = spaces.Box(-np.inf, np.inf, (1,), np.int64)
        parameters = np.array([[1e30], [-1e30]], np.float32), np.zeros(1, np.float32)
        for action in make_distribution(space).mode(parameters, None):
            assert space.contains(action)


class TestJoint:
    def test_log_probability_and_entropy_are_the_sums_of_the_parts(self):
        distribution, rows = make_distribution(HYBRID), 5
        assert isinstance(distribution, Joint)
        (mean, log_std), wheel, turn = parameters = parameters_of(distribution, rows)
        drawn = distribution.draw(parameters, np.random.default_rng(1), None)
        push, spin, way = map(torch.from_numpy, drawn.raw)
        normal = theirs.Normal(torch.from_numpy(mean), torch.from_numpy(log_std).exp())
        categories = [
            theirs.Categorical(logits=torch.from_numpy(x)) for x in (wheel[:, :2], wheel[:, 2:], turn)
        ]
        chosen = spin[:, 0], spin[:, 1], way
        log_probs = [c.log_prob(x) for c, x in zip(categories, chosen, strict=True)]
        expected = normal.log_prob(push).sum(-1) + sum(log_probs)
        log_prob, entropy = evaluated(distribution, parameters, drawn.raw)
        np.testing.assert_allclose(log_prob, expected, atol=1e-5)
        np.testing.assert_allclose(drawn.log_prob, expected, atol=1e-5)
        total = normal.entropy().sum(-1) + sum(c.entropy() for c in categories)
        np.testing.assert_allclose(entropy, total, atol=1e-5)

    def test_masks_go_to_the_discrete_parts(self):
        distribution = make_distribution(HYBRID)
        mask = np.array([[False, True, True, False, False, False, False, True]]).repeat(50, axis=0)
        drawn = distribution.draw(parameters_of(distribution, 50), np.random.default_rng(0), mask)
        assert np.unique(drawn.action[:, 2:], axis=0).tolist() == [[1.0, 0.0, 3.0]]

    def test_a_single_discrete_space_keeps_its_own_distribution(self):
        distribution = make_distribution(spaces.Discrete(3, start=4))
        assert isinstance(distribution, Categorical)
        assert distribution.mode(np.array([[0.0, 2.0, 1.0]], np.float32), None).tolist() == [5]
        drawn = distribution.draw(np.zeros((50, 3), np.float32), np.random.default_rng(0), None)
        assert (drawn.action - drawn.raw == 4).all()


@given(drawn_spaces.actions)
@settings(max_examples=60, deadline=None)
def test_what_is_drawn_and_what_is_likeliest_is_always_inside(space):
    distribution = make_distribution(space)
    parameters = map_leaves(lambda leaf: 50 * leaf, parameters_of(distribution, 4))
    drawn = distribution.draw(parameters, np.random.default_rng(0), None)
    for actions in (drawn.action, distribution.mode(parameters, None)):
        for k in range(4):
            assert space.contains(single_action(space)(actions[k : k + 1]))
    np.testing.assert_allclose(
        drawn.log_prob, evaluated(distribution, parameters, drawn.raw)[0], rtol=1e-3, atol=1e-3
    )


@given(drawn_spaces.with_parts(drawn_spaces.finite))
@settings(max_examples=40, deadline=None)
def test_no_illegal_value_is_ever_drawn(space):
    distribution = make_distribution(space)
    counts = [n for leaf in leaf_spaces(space) for n in counts_of(leaf)]
    mask = np.concatenate([np.arange(n) == n - 1 for n in counts])[None]  # only the last value of each entry
    drawn = distribution.draw(parameters_of(distribution, 1), np.random.default_rng(0), mask)
    raws = drawn.raw if isinstance(drawn.raw, tuple) else (drawn.raw,)
    assert np.concatenate([np.ravel(raw) for raw in raws]).tolist() == [n - 1 for n in counts]
