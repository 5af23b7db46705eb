"""Keys: what the environment says, arrows by name or number, digits."""

from __future__ import annotations

import gymnasium
import pytest
from gymnasium import spaces

from rl_lab.watching.keys import idle_action, keys_of


class Game(gymnasium.Env):
    """An environment of which only the actions are looked at."""

    def __init__(self, space, keys=None):
        self.action_space = space
        if keys is not None:
            self.get_keys_to_action = lambda: keys


@pytest.mark.parametrize(
    ("space", "names", "own", "expected"),
    [
        (spaces.Discrete(2), [], None, {0: ["ArrowLeft", "1"], 1: ["ArrowRight", "2"]}),
        (spaces.Discrete(2, start=5), [], None, {5: ["ArrowLeft", "1"], 6: ["ArrowRight", "2"]}),
        (spaces.Discrete(2), ["up", "down"], None, {0: ["ArrowUp", "1"], 1: ["ArrowDown", "2"]}),
        (
            spaces.Discrete(2),
            ["push right", "push left"],
            None,
            {0: ["ArrowRight", "1"], 1: ["ArrowLeft", "2"]},
        ),
        (
            spaces.Discrete(2),
            [],
            {(ord("a"),): 1, "d": 0, (ord("a"), ord("d")): 0},
            {0: ["d", "1"], 1: ["a", "2"]},
        ),
        (spaces.Discrete(2), [], {"1": 1}, {0: [], 1: ["1", "2"]}),
        (spaces.Discrete(1), [], {"x": 7}, {0: ["1"]}),
        (spaces.Box(-1, 1, (2,)), [], None, {}),
    ],
)
def test_keys_of_actions(space, names, own, expected):
    assert keys_of(Game(space, own), names) == expected


def test_an_action_that_does_nothing_is_known_by_its_name():
    assert idle_action(Game(spaces.Discrete(3)), ["left", "Noop", "right"]) == 1
    assert idle_action(Game(spaces.Discrete(2)), ["left", "right"]) is None
    assert idle_action(Game(spaces.Box(-1, 1, (2,))), []) is None
