"""Random actions under a mask."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from hypothesis import given, settings

import drawn_spaces
from rl_lab.environments.actions import mask_size, single_action
from rl_lab.environments.draws import draw_legal

SPACE = spaces.Dict(
    {"turn": spaces.Discrete(3, start=1), "push": spaces.Box(-1, 1, (1,)), "bits": spaces.MultiBinary(2)}
)


def test_every_entry_is_uniform_over_its_legal_values():
    mask = np.array([[True, True, False, True, True, False, True]]).repeat(3_000, axis=0)
    drawn = draw_legal(SPACE, np.random.default_rng(0), 3_000, mask)  # bits, push, turn
    assert np.unique(drawn[:, 1]).tolist() == [1.0]
    for column, values in ((0, [0, 1]), (3, [1, 3])):
        found, counts = np.unique(drawn[:, column], return_counts=True)
        assert found.tolist() == values
        np.testing.assert_allclose(counts / 3_000, 0.5, atol=0.04)


def test_an_entry_without_any_legal_value_has_all():
    drawn = draw_legal(spaces.MultiBinary(1), np.random.default_rng(0), 50, np.zeros((50, 2), np.bool_))
    assert set(drawn[:, 0].tolist()) == {0, 1}


@given(drawn_spaces.actions)
@settings(max_examples=40, deadline=None)
def test_what_is_drawn_is_inside_the_space(space):
    mask = np.ones((3, mask_size(space)), np.bool_)
    for action in draw_legal(space, np.random.default_rng(0), 3, mask):
        assert space.contains(single_action(space)(action[None]))
