"""Spaces shown as beginning at 0."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from mirrors import SPACES, Mirror
from rl_lab.environments.zero_based import ZeroBased, from_zero_based, to_zero_based, zero_based
from rl_lab.trees import leaves_of


@pytest.mark.parametrize(
    "name", [name for name, space in SPACES.items() if "from" not in name and "Dict" not in name]
)
def test_a_space_without_a_start_is_left_as_it_is(name):
    assert zero_based(SPACES[name]) is SPACES[name]


@pytest.mark.parametrize("name", SPACES)
def test_values_go_there_and_back(name):
    space = SPACES[name]
    space.seed(0)
    for _ in range(5):
        value = space.sample()
        shown = to_zero_based(space, value)
        assert zero_based(space).contains(shown)
        for one, other in zip(leaves_of(from_zero_based(space, shown)), leaves_of(value), strict=True):
            np.testing.assert_array_equal(one, other)


def test_no_start_is_left():
    shown = zero_based(SPACES["MultiDiscrete 2 x 2 from -1"])
    assert not np.any(shown.start)
    assert zero_based(spaces.Tuple([spaces.Discrete(3, start=7)])) == spaces.Tuple([spaces.Discrete(3)])


def test_an_environment_is_shown_from_0_and_stepped_with_its_own_values():
    env = ZeroBased(Mirror("Discrete from -2"))
    shown, _ = env.reset(seed=0)
    assert env.observation_space.contains(shown)
    assert env.step(shown)[1] == 1.0
