"""Where learning with a loss stays: against hand-computed numbers, bisection, and the loss's own gradient."""

from __future__ import annotations

import numpy as np
import pytest
from garnets import garnet
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnosed import small_models, two_states
from rl_lab.mdp.solve import policy_evaluation, solve
from rl_lab.mdp.td_fixed_point import fixed_point, locate
from rl_lab.mdp.td_targets import n_step_targets

EVENLY = np.full((2, 2), 0.5)


def clipped_mean(q, target, probability, delta=1.0):
    return float((probability * np.clip(target - q, -delta, delta)).sum())


class TestLocate:
    @given(
        st.lists(
            st.lists(st.tuples(st.floats(-5, 5), st.floats(0.01, 1)), min_size=1, max_size=6),
            min_size=1,
            max_size=4,
        ),
        st.floats(0.1, 4),
    )
    @settings(max_examples=100, deadline=None)
    def test_the_clipped_error_is_zero_on_average_in_every_group(self, groups, delta):
        sizes = [len(group) for group in groups]
        first = np.cumsum([0, *sizes[:-1]])
        target = np.array([t for group in groups for t, _ in group])
        weight = np.array([w for group in groups for _, w in group])
        weight = weight / np.repeat(np.add.reduceat(weight, first), sizes)
        found = locate("huber", target, weight, first, delta)
        for q, start, size in zip(found, first, sizes, strict=True):
            part = slice(start, start + size)
            assert abs(clipped_mean(q, target[part], weight[part], delta)) < 1e-9

    def test_a_far_and_rare_target_pulls_no_harder_than_delta(self):
        """0.9 (0 - q) + 0.1 * 1 = 0, wherever the rare target lies."""
        for far in (10.0, 1000.0):
            found = locate("huber", np.array([0.0, far]), np.array([0.9, 0.1]), np.array([0]))
            assert found == pytest.approx([1 / 9])

    def test_between_two_far_targets_of_equal_probability_it_is_the_middle(self):
        assert locate("huber", np.array([0.0, 10.0]), np.array([0.5, 0.5]), np.array([0])) == pytest.approx(
            [5]
        )

    def test_the_squared_loss_takes_the_mean(self):
        target, weight = np.array([0.0, 10.0, 3.0]), np.array([0.9, 0.1, 1.0])
        assert locate("squared", target, weight, np.array([0, 2])) == pytest.approx([1.0, 3.0])

    def test_an_unknown_loss_is_refused(self):
        with pytest.raises(ValueError, match="loss 'l1' is unknown"):
            locate("l1", np.zeros(1), np.ones(1), np.array([0]))


class TestFixedPoint:
    @pytest.mark.parametrize(
        ("n_steps", "quiet", "paying"), [(1, 3.6257, 4.1520), (2, 3.5023, 4.0286), (3, 3.3651, 3.8914)]
    )
    def test_two_states_whose_episodes_end_by_chance(self, n_steps, quiet, paying):
        """The values are 2.355 and 2.908; the ends lie further away than 1, so that each pulls with no more than 1."""
        targets = n_step_targets(two_states(), EVENLY, 0.9, n_steps)
        found = fixed_point(two_states(), targets, "huber", 0.9)
        assert found.v == pytest.approx([quiet, paying], abs=1e-4)
        assert found.bound < 1e-9
        exact = fixed_point(two_states(), targets, "squared", 0.9)
        assert exact.v == pytest.approx([0.81 / (1 - 0.81**2), 1 / (1 - 0.81**2)], abs=1e-10)

    def test_three_steps_by_hand(self):
        """0.729 (1.81 + 0.729 q0 - q1) = 0.271 and 0.729 (0.9 + 0.729 q1 - q0) = 0.271."""
        q0, q1 = np.linalg.solve([[1, -0.729], [-0.729, 1]], [0.9 - 0.271 / 0.729, 1.81 - 0.271 / 0.729])
        targets = n_step_targets(two_states(), EVENLY, 0.9, 3)
        assert fixed_point(two_states(), targets, "huber", 0.9).v == pytest.approx([q0, q1], abs=1e-10)

    @given(small_models(), st.integers(1, 3), st.sampled_from(["huber", "squared"]))
    @settings(max_examples=40, deadline=None)
    def test_learning_from_the_fixed_point_leaves_it_as_it_is(self, model, n_steps, loss):
        behaviour = model.available / model.available.sum(axis=1, keepdims=True)
        targets = n_step_targets(model, behaviour, 0.95, n_steps)
        found = fixed_point(model, targets, loss, 0.95)
        target = targets.reward + targets.discount * found.v[targets.state]
        for state, action in np.argwhere(model.available):
            mine = targets.row == state * model.num_actions + action
            delta = 1.0 if loss == "huber" else 1e9
            pull = clipped_mean(found.q[state, action], target[mine], targets.probability[mine], delta)
            assert abs(pull) < 1e-8

    def test_one_step_and_the_squared_loss_give_the_optimum(self):
        model = garnet(3, 30, 3, 2, ending=0.1)
        targets = n_step_targets(model, model.available / model.available.sum(axis=1, keepdims=True), 0.9, 1)
        found = fixed_point(model, targets, "squared", 0.9)
        assert np.allclose(found.q, solve(model, 0.9).q, atol=1e-8)

    def test_more_steps_than_one_mix_in_the_behaviour(self):
        """With one action alone, n steps of it are its own value for every n; with bad ones in between it is less."""
        model = garnet(5, 12, 1, 2, ending=0.1, share=1.0)
        only = np.ones((12, 1))
        found = fixed_point(model, n_step_targets(model, only, 0.9, 3), "squared", 0.9)
        assert np.allclose(found.v, policy_evaluation(model, only, 0.9), atol=1e-8)
        model = garnet(5, 12, 3, 2, ending=0.1, share=1.0)
        evenly = np.full((12, 3), 1 / 3)
        found = fixed_point(model, n_step_targets(model, evenly, 0.9, 3), "squared", 0.9)
        assert np.all(found.v < solve(model, 0.9).v - 0.01)

    def test_rewards_without_chance_have_no_bias(self):
        model = garnet(7, 20, 2, 1, share=1.0)
        targets = n_step_targets(model, np.full((20, 2), 0.5), 0.9, 1)
        pair = [fixed_point(model, targets, loss, 0.9).v for loss in ("huber", "squared")]
        assert np.allclose(*pair, atol=1e-8)

    def test_gamma_one_is_refused(self):
        targets = n_step_targets(two_states(), EVENLY, 1.0, 1)
        with pytest.raises(ValueError, match="below 1"):
            fixed_point(two_states(), targets, "huber", 1.0)
