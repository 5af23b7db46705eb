"""Temporal-difference targets against numbers computed by hand, for numpy and torch alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lab.updates.td import double_q_target, q_learning_target, rescaled, unscaled

LIBRARIES = {
    "numpy": lambda x: np.array(x, np.float32),
    "torch": lambda x: torch.tensor(x, dtype=torch.float32),
}


@pytest.fixture(params=LIBRARIES)
def array(request):
    return LIBRARIES[request.param]


class TestQLearning:
    @pytest.mark.parametrize(
        ("reward", "discount", "terminated", "next_q_max", "target"),
        [
            (1.0, 0.5, 0, 4.0, 3.0),
            (1.0, 0.5, 1, 4.0, 1.0),  # an end is worth nothing
            (-2.0, 0.9, 0, -10.0, -11.0),
            (3.0, 0.0, 0, 100.0, 3.0),
            (0.0, 1.0, 0, 7.0, 7.0),
        ],
    )
    def test_hand_computed(self, array, reward, discount, terminated, next_q_max, target):
        found = q_learning_target(array([reward]), discount, array([terminated]), array([next_q_max]))
        np.testing.assert_allclose(np.asarray(found), [target], rtol=1e-6)

    def test_takes_a_discount_for_each_sample(self, array):
        found = q_learning_target(array([1, 1]), array([0.5, 0.25]), array([0, 0]), array([8, 8]))
        np.testing.assert_array_equal(np.asarray(found), [5, 3])

    def test_numpy_flags_may_be_boolean(self):
        found = q_learning_target(np.zeros(2), 0.5, np.array([True, False]), np.full(2, 4.0))
        np.testing.assert_array_equal(found, [0, 2])


class TestDoubleQLearning:
    ONLINE = [[1, 2], [5, 0], [3, 3], [0, 9]]  # noqa: RUF012  chooses 1, 0, 0 (the first of a tie), 1
    TARGET = [[10, 20], [30, 40], [7, 9], [50, 60]]  # noqa: RUF012  values them 20, 30, 7, 60

    def test_online_chooses_and_target_values(self, array):
        found = double_q_target(
            array([1, 1, 1, 1]), 0.5, array([0, 0, 0, 1]), array(self.ONLINE), array(self.TARGET)
        )
        np.testing.assert_array_equal(np.asarray(found), [11, 16, 4.5, 1])

    def test_serves_windows_of_steps(self, array):
        def fold(rows):
            return array(rows).reshape(2, 2, *np.shape(rows)[1:])

        found = double_q_target(
            fold([1, 1, 1, 1]), 0.5, fold([0, 0, 0, 1]), fold(self.ONLINE), fold(self.TARGET)
        )
        np.testing.assert_array_equal(np.asarray(found), [[11, 16], [4.5, 1]])

    def test_equals_q_learning_when_both_networks_agree(self, array):
        q = array(self.TARGET)
        double = double_q_target(array([1] * 4), 0.9, array([0] * 4), q, q)
        plain = q_learning_target(array([1] * 4), 0.9, array([0] * 4), array([20, 40, 9, 60]))
        np.testing.assert_array_equal(np.asarray(double), np.asarray(plain))

    def test_never_exceeds_q_learning_on_the_same_values(self, array):
        rng = np.random.default_rng(0)
        online, target = rng.normal(size=(2, 50, 4)).astype(np.float32)
        double = double_q_target(array([0] * 50), 1.0, array([0] * 50), array(online), array(target))
        assert (np.asarray(double) <= target.max(axis=1)).all()
        assert (np.asarray(double) < target.max(axis=1)).any()


class TestRescaling:
    @pytest.mark.parametrize(
        ("value", "epsilon", "expected"),
        [
            (0.0, 1e-3, 0.0),
            (3.0, 0.0, 1.0),
            (3.0, 1e-3, 1.003),
            (-8.0, 1e-3, -2.008),
            (99.0, 0.01, 9.99),
        ],
    )
    def test_hand_computed(self, array, value, epsilon, expected):
        np.testing.assert_allclose(np.asarray(rescaled(array([value]), epsilon)), [expected], rtol=1e-6)
        np.testing.assert_allclose(np.asarray(unscaled(array([expected]), epsilon)), [value], rtol=1e-6)

    @settings(deadline=None)
    @given(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1e-3, 0.1]))
    def test_the_inverse_is_exact_in_both_directions(self, x, epsilon):
        value = np.array([x])
        np.testing.assert_allclose(unscaled(rescaled(value, epsilon), epsilon), value, rtol=1e-9, atol=1e-12)
        if abs(x) < 1e3:
            back = rescaled(unscaled(value, epsilon), epsilon)
            np.testing.assert_allclose(back, value, rtol=1e-9, atol=1e-12)

    @settings(deadline=None)
    @given(st.floats(-1e4, 1e4, width=32))
    def test_in_single_precision_too_where_the_textbook_form_cancels(self, x):
        value = torch.tensor([x], dtype=torch.float32)
        torch.testing.assert_close(unscaled(rescaled(value)), value, rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(rescaled(value).numpy(), textbook(x), rtol=1e-6, atol=1e-6)

    def test_equals_the_textbook_form(self):
        for x in np.linspace(-50, 50, 41):
            assert rescaled(x) == pytest.approx(textbook(x), abs=1e-12)
            root = np.sqrt(1 + 4e-3 * (abs(x) + 1 + 1e-3))
            assert unscaled(x) == pytest.approx(np.sign(x) * (((root - 1) / 2e-3) ** 2 - 1), abs=1e-8)


def textbook(x):
    return np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + 1e-3 * x
