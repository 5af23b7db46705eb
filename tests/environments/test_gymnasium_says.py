"""Warnings while an environment is made."""

from __future__ import annotations

import warnings

import gymnasium
import pytest

from rl_lab.environments.gymnasium_says import held_warnings
from rl_lab.environments.make import make_env
from rl_lab.types import UsageError


def said_by(block):
    """Return the warnings that a function gives, in text."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # of what other tests left to the garbage collector
        block()
    return [(str(one.message), one.category) for one in said]


def test_warnings_are_shown_at_the_end_without_colours():
    def block():
        with held_warnings():
            gymnasium.logger.warn("odd")
            warnings.warn("plain", DeprecationWarning, stacklevel=1)

    assert said_by(block) == [("WARN: odd", UserWarning), ("plain", DeprecationWarning)]


def test_an_error_is_not_preceded_by_warnings():
    def block():
        with pytest.raises(UsageError, match="deprecated"):
            make_env("Taxi-v3")

    assert said_by(block) == []


class Unseen(gymnasium.Env):
    """An environment that draws no pictures."""

    observation_space = action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        pass

    def reset(self, *, seed=None, options=None):
        return 0, {}


def test_it_is_not_said_twice_that_an_environment_draws_no_pictures():
    gymnasium.register("test/Unseen-v0", Unseen)
    made = {"id": "test/Unseen-v0", "render_mode": "rgb_array", "disable_env_checker": True}
    assert any("render_modes" in text for text, _ in said_by(lambda: gymnasium.make(**made)))
    assert said_by(lambda: make_env("test/Unseen-v0", render_mode="rgb_array")) == []
