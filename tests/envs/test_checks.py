"""What parameters and actions may be, and how others are refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rl_lab.environments.make import make_env
from rl_lab.envs.checks import require_action, require_finite, require_render_mode, require_whole
from rl_lab.types import UsageError

METADATA = {"render_modes": ["rgb_array", "human"]}


class TestRequireFinite:
    @pytest.mark.parametrize("value", [2, -0.5, np.float32(0.5), np.int64(7), True])
    def test_gives_back_numbers(self, value):
        assert require_finite("x", value) == value
        assert type(require_finite("x", value)) is float

    @pytest.mark.parametrize("value", [float("nan"), -np.inf, "1", None, [1.0], 1j, 10**400])
    def test_names_what_it_refuses(self, value):
        with pytest.raises(ValueError, match=f"^x is {re.escape(repr(value))} and must be finite$"):
            require_finite("x", value)


class TestRequireWhole:
    @pytest.mark.parametrize("value", [2, 7, np.int64(7)])
    def test_gives_back_whole_numbers(self, value):
        found = require_whole("n", value, 2, 7)
        assert (found, type(found)) == (value, int)

    @pytest.mark.parametrize("value", [1, 8, 2.0, "3", None])
    def test_names_what_it_refuses(self, value):
        with pytest.raises(
            ValueError, match=f"^n {value!r} must be a whole number of at least 2 and at most 7$"
        ):
            require_whole("n", value, 2, 7)

    def test_needs_no_upper_bound(self):
        assert require_whole("n", 10**9, 0) == 10**9
        with pytest.raises(ValueError, match=r"^n -1 must be a whole number of at least 0$"):
            require_whole("n", -1, 0)


class TestRequireAction:
    @pytest.mark.parametrize("action", [0, 2, np.int64(2), 2.0])
    def test_gives_back_an_int(self, action):
        found = require_action(action, 3)
        assert (found, type(found)) == (action, int)

    @pytest.mark.parametrize("action", [-1, 3, 0.5, -0.5])
    def test_names_what_it_refuses(self, action):
        with pytest.raises(ValueError, match=rf"^action {action} must be in 0\.\.2$"):
            require_action(action, 3)


class TestRequireRenderMode:
    @pytest.mark.parametrize("mode", [None, "rgb_array", "human"])
    def test_gives_back_known_modes(self, mode):
        assert require_render_mode(mode, METADATA) == mode

    def test_names_what_it_refuses(self):
        with pytest.raises(ValueError, match=r"^render_mode 'ansi' must be None, 'rgb_array' or 'human'$"):
            require_render_mode("ansi", METADATA)
        with pytest.raises(ValueError, match=r"^render_mode 'human' must be None or 'rgb_array'$"):
            require_render_mode("human", {"render_modes": ["rgb_array"]})


@pytest.mark.parametrize(
    ("env_id", "name", "says"),
    [
        ("GridWorld", "slip", "must be a probability in 0..1"),
        ("GridWorld", "observation", "must be one of"),
        ("FlickeringGridWorld", "blank_probability", "must be at least 0 and below 1"),
        ("Gambler", "p_heads", "must be above 0 and below 1"),
        ("Gambler", "start", "must be a whole number of at least 1 and at most 99"),
        ("RandomWalk", "states", "must be a whole number of at least 1"),
        ("RandomWalk", "left_reward", "must be finite"),
        ("Garnet", "branching", "must be a whole number of at least 1"),
        ("Garnet", "problem_seed", "must be a whole number of at least 0"),
        ("DeepSea", "problem_seed", "must be a whole number of at least 0"),
        ("Bandit", "problem_seed", "must be a whole number of at least 0"),
        ("Blackjack", "natural", "must be True or False"),
        ("Blackjack", "sab", "must be True or False"),
        ("WindyGrid", "stochastic", "must be True or False"),
        ("DynaMaze", "maze", "must be one of"),
        ("DynaMaze", "changed", "must be True or False"),
    ],
)
@pytest.mark.parametrize("value", ["a", [1]])
def test_parameters_of_another_type_are_refused_with_what_is_allowed(env_id, name, says, value):
    with pytest.raises(UsageError, match=rf"{name} .*{re.escape(repr(value))}.* {says}"):
        make_env(f"lab/{env_id}-v0", {name: value})
