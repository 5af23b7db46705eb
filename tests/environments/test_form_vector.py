"""A vectorised form is held to the contract of single environments."""

from __future__ import annotations

import numpy as np
import pytest

from forms import OwnVector
from rl_lab.environments.form_vector import FormVector
from rl_lab.types import EnvironmentFault, EnvironmentWarning

FIELDS = ("observation", "reward", "terminated", "truncated", "info")
ZERO, NO = np.zeros(2, np.int64), np.zeros(2, np.bool_)


def vector(changed=None, at_reset=None) -> FormVector:
    """A form of two environments whose steps and resets differ by these fields."""

    class Changed(OwnVector):
        def reset(self, **kwargs):
            return self._with(super().reset(**kwargs), at_reset or {})

        def step(self, actions):
            return self._with(super().step(actions), changed or {})

        def _with(self, answer, changes):
            named = dict(zip(("observation", "info") if len(answer) == 2 else FIELDS, answer, strict=True))
            return tuple((named | changes).values())

    return FormVector(Changed(2), "E-v0")


def take(envs: FormVector, steps: int) -> None:
    for _ in range(steps):
        envs.step(ZERO)


class TestFaults:
    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            (
                {"observation": np.zeros((3, 1), np.float32)},
                "observation: .*allowed: float32 of shape .2, 1.",
            ),
            ({"observation": np.array([[1], [np.nan]])}, "observation: nan at index 1, 0"),
            ({"reward": np.array([0.0, np.inf])}, "reward: .*allowed: finite numbers"),
            ({"reward": np.array([0.0, -1e39])}, "reward: .*allowed: finite numbers of up to 3.4e.38"),
            ({"reward": np.zeros(3)}, r"reward: .*allowed: finite numbers, as an array of shape \(2,\)"),
            ({"reward": [None, 1.0]}, "reward: "),
            ({"reward": [[0.0], [0.0, 1.0]]}, "reward: "),
            (
                {"terminated": np.zeros(2)},
                r"terminated: .*allowed: True or False, or 0 and 1, as an array of shape \(2,\)",
            ),
            ({"terminated": np.array([0, 2])}, "terminated: .*allowed: True or False, or 0 and 1"),
            ({"truncated": True}, "truncated: True"),
            ({"info": []}, r"info: \[\] \(allowed: a dict\)"),
            ({"info": {"action_mask": np.ones((2, 3))}}, "action mask: given at some times"),
            ({"more": 1}, "step returned .*allowed: a tuple of 5 parts"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_of_a_step_are_told_in_a_line(self, changed, message):
        envs = vector(changed)
        envs.reset(seed=[0, 1])
        with pytest.raises(
            EnvironmentFault, match=rf"the vector of E-v0 \(2 environments, step 1\): {message}"
        ) as told:
            envs.step(ZERO)
        assert "\n" not in str(told.value)

    def test_what_is_raised_is_told_with_its_place(self):
        class Raising(OwnVector):
            def step(self, actions):
                raise KeyError("torque")

        envs = FormVector(Raising(2), "E-v0")
        envs.reset(seed=[0, 1])
        with pytest.raises(
            EnvironmentFault, match=r"step raised KeyError: 'torque' \(test_form_vector.py, line "
        ):
            envs.step(ZERO)

    def test_a_mask_that_leaves_nothing_is_a_fault_before_the_end_alone(self):
        given = {"info": {"action_mask": np.array([[1, 0, 1], [0, 0, 0]], np.int8)}}
        all_legal = {"info": {"action_mask": np.ones((2, 3), np.int8)}}
        envs = vector(given, all_legal)
        envs.reset(seed=[0, 1])
        with pytest.raises(EnvironmentFault, match="action mask: no action is legal in environment 1"):
            envs.step(ZERO)
        envs = vector(given | {"terminated": np.array([False, True])}, all_legal)
        envs.reset(seed=[0, 1])
        assert envs.step(ZERO)[4]["action_mask"].tolist() == [[True, False, True], [True] * 3]

    def test_actions_outside_the_space_are_refused(self):
        envs = vector()
        envs.reset(seed=[0, 1])
        with pytest.raises(ValueError, match="action 3 is outside the action space"):
            envs.step(np.array([0, 3]))

    def test_observations_outside_their_bounds_are_said_once(self):
        envs = vector({"observation": np.array([[0], [-1000.0]])})
        envs.reset(seed=[0, 1])
        with pytest.warns(
            UserWarning, match=r"the vector of E-v0: observation -1000.0 at index 1, 0"
        ) as said:
            take(envs, 4)
        own = [one for one in said if one.category is EnvironmentWarning]  # garbage collection may warn, too
        assert len(own) == len(envs.notes) == 1


def test_observations_are_copies_and_rewards_float64():
    envs = vector()
    first = envs.reset(seed=[3, 4])[0]
    after, reward, *_ = envs.step(ZERO)
    assert first.tolist() == [[21.0], [28.0]]
    assert after.tolist() == [[22.0], [29.0]]
    assert reward.dtype == np.float64
    again = envs.reset(seed=[5, None], options={"reset_mask": np.array([True, False])})[0]
    assert again.tolist() == [[35.0], [29.0]]


def test_rewards_and_flags_stay_as_they_were_also_if_a_form_returns_the_same_arrays_again():
    class Reusing(OwnVector):
        reward, over = np.zeros(2), np.zeros(2, np.bool_)

        def step(self, actions):
            self.reward += 1
            self.over[:] = self.reward == 1
            return self._count, self.reward, self.over, ~self.over, {}

    envs = FormVector(Reusing(2), "E-v0")
    envs.reset(seed=[0, 1])
    _, reward, terminated, *_ = envs.step(ZERO)
    envs.reset(seed=[2, 3])
    envs.step(ZERO)
    assert (reward.tolist(), terminated.tolist()) == ([1.0, 1.0], [True, True])


def test_a_form_that_changes_its_actions_changes_a_copy():
    class Careless(OwnVector):
        def step(self, actions):
            actions[:] = 0
            return super().step(actions)

    envs, action = FormVector(Careless(2), "E-v0"), np.array([0, 1])
    envs.reset(seed=[0, 1])
    envs.step(action)
    assert action.tolist() == [0, 1]
