"""A vectorised form accepts and refuses what a single environment does, field by field."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from generated import ABSENT, PLAIN_SPACES, THINGS, Generated, Script, all_odd
from rl_lab.environments.actions import first_action
from rl_lab.environments.form_vector import FormVector
from rl_lab.environments.make import vector_of
from rl_lab.trees import leaves_of
from rl_lab.types import EnvironmentFault

ACTIONS = {
    "Discrete": spaces.Discrete(4),
    "MultiDiscrete": spaces.MultiDiscrete([2, 2]),
    "parts": spaces.Dict({"a": spaces.Discrete(2), "b": spaces.MultiBinary(1), "c": spaces.Box(-1, 1, (2,))}),
    "Box": spaces.Box(-1, 1, (2,)),
}
MASKS = (
    [1, 1, 1, 1], (True, False, True, False), np.int8([0, 1, 0, 1]), np.float32([1, 0, 1, 0]), [0, 0, 1, 1],
    [0, 0, 0, 0], [1, 0.5, 1, 1], [1, -1, 1, 1], [1, np.nan, 1, 1], [1, 1, 1], [[1, 1, 1, 1]], np.ones((4, 1)),
    "1111", ["1", "1", "1", "1"], [None] * 4, ABSENT,
)  # fmt: skip
ENDS = {"goes on": (False, False), "terminates": (True, False), "is cut off": (False, True)}
SOUND = Script(
    spaces.Discrete(3), spaces.Discrete(4), (0, 1), (1.0,), (False,), (False,), ({}, {}), (ABSENT, ABSENT)
)


class Stacked(VectorEnv):
    """Two environments of one script as a form: each field holds what both give."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012
    num_envs = 2

    def __init__(self, script: Script):
        self.script = script
        self.single_observation_space, self.single_action_space = (
            script.observation_space,
            script.action_space,
        )
        self.observation_space = batch_space(self.single_observation_space, 2)
        self.action_space = batch_space(self.single_action_space, 2)

    def reset(self, *, seed=None, options=None):
        return self._both(self.script.observations[0]), self._info(0)

    def step(self, actions):
        one = self.script
        fields = (one.observations[1], one.rewards[0], one.terminated[0], one.truncated[0])
        return *map(self._both, fields), self._info(1)

    def _info(self, at):
        mask = self.script.masks[at]
        return {} if mask is ABSENT else {"action_mask": self._both(mask)}

    @staticmethod
    def _both(value):
        try:
            return np.array([value, value])
        except Exception:  # what no array can hold is given as it is
            return [value, value]


def outcome(envs) -> list | None:
    """Return what the environments give in a step, alike for all of them; None where it is refused."""
    count = envs.num_envs
    try:
        envs.reset(seed=[0] * count)
        obs, *fields, info = envs.step(np.array([first_action(envs.single_action_space)] * count))
    except EnvironmentFault:
        return None
    columns = [*leaves_of(obs, sort_keys=True), *fields, *([info["action_mask"]] if info else [])]
    rows = [[(column.dtype.str, column[i].tolist()) for column in columns] for i in range(count)]
    assert rows == rows[:1] * count
    return rows[0]


def is_taken(**fields) -> bool:
    """Say whether a script's step is taken, as it must be by one environment and by a form of two."""
    script = Script(**vars(SOUND) | fields)
    alone = outcome(vector_of(lambda: Generated(script), 1))
    assert outcome(FormVector(Stacked(script), "E-v0")) == alone
    return alone is not None


@pytest.mark.filterwarnings("ignore:.*kept as it is:UserWarning")
class TestOneAgainstMany:
    @pytest.mark.parametrize("name", ["rewards", "terminated", "truncated"])
    def test_rewards_and_flags(self, name):
        taken = [is_taken(**{name: (thing,)}) for thing in THINGS]
        assert 0 < sum(taken) < len(taken)

    @pytest.mark.parametrize("how", ENDS)
    @pytest.mark.parametrize("actions", ACTIONS)
    def test_masks(self, actions, how):
        terminated, truncated = ENDS[how]
        taken = [
            is_taken(
                action_space=ACTIONS[actions], masks=([1, 1, 1, 1], mask), terminated=(terminated,),
                truncated=(truncated,),
            )
            for mask in (*MASKS, *THINGS)
        ]  # fmt: skip
        least = 0 if actions == "Box" else 3 + (how != "goes on")
        assert least <= sum(taken) < len(taken)
        assert taken[len(MASKS) - 1] == (how == "terminates" and actions != "Box")

    @pytest.mark.parametrize("space", PLAIN_SPACES, ids=str)
    def test_observations(self, space):
        space.seed(0)
        sound = space.sample()
        taken = [is_taken(observation_space=space, observations=(sound, odd)) for odd in all_odd(sound)]
        assert 0 < sum(taken) < len(taken)
