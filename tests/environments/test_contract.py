"""The contract: what environments may give, alike for one environment, vectors and worker processes."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from fractions import Fraction

import numpy as np
import pytest
from gymnasium import spaces

from faulty import OBSERVATIONS, REWARDS, Faulty
from generated import Silent
from rl_lab.environments.contract import Contract
from rl_lab.environments.make import vector_of
from rl_lab.environments.wrappers import LIFE_LOST, LifeLoss
from rl_lab.types import EnvironmentFault
from telling import WIDTHS, Told, play


class TestActions:
    @WIDTHS
    def test_an_environment_may_change_its_own_copy(self, num_envs, vector):
        class Clips(Told):
            action_space = spaces.Box(-1.0, 1.0, (2,), np.float64)

            def step(self, action):
                np.clip(action, -0.1, 0.68, out=action)
                return 0, float(action.sum()), False, False, {}

        chosen = np.array([[0.86, -0.70]] * num_envs)
        _, reward, *_ = play(Clips, num_envs, vector, steps=1, actions=chosen)
        assert chosen.tolist() == [[0.86, -0.70]] * num_envs
        assert reward.tolist() == pytest.approx([0.58] * num_envs)

    def test_whoever_steps_an_environment_keeps_the_action_it_handed_over(self):
        class Clips(Told):
            action_space = spaces.Box(-1.0, 1.0, (2,), np.float64)

            def step(self, action):
                action[:] = 0.0
                return 0, 0.0, False, False, {}

        env, chosen = Contract(Clips()), np.array([0.86, -0.70])
        env.reset(seed=0)
        env.step(chosen)
        assert chosen.tolist() == [0.86, -0.70]

    @WIDTHS
    def test_discrete_actions_are_int64_scalars(self, num_envs, vector):
        class Asks(Told):
            def step(self, action):
                assert type(action) is np.int64
                return 0, float(action.item()), False, False, {}

        for dtype in (np.int64, np.int32, np.uint8):
            _, reward, *_ = play(Asks, num_envs, vector, actions=np.full(num_envs, 2, dtype))
            assert reward.tolist() == [2.0] * num_envs


class TestInfo:
    @WIDTHS
    @pytest.mark.parametrize(
        "info",
        [
            lambda t: {"path": np.arange(t)},
            lambda t: {"found": None if t % 2 else 1},
            lambda t: {"note": "text" if t % 2 else 0.5},
            lambda t: {"nested": {"a": [np.zeros(t), {"b": np.ones((t, t))}]}, 3: object},
            lambda t: {"path": np.zeros(0)} if t % 2 else {},
        ],
    )
    def test_only_what_is_needed_is_read(self, info, num_envs, vector):
        *_, seen = play(lambda: Told(info=info), num_envs, vector)
        assert seen == {}
        *_, seen = play(lambda: Told([1, 0, 0, 0], info=info), num_envs, vector)
        assert list(seen) == ["action_mask"]

    def test_it_must_be_a_dict(self):
        with pytest.raises(EnvironmentFault, match=r"step 2\): info: None \(allowed: a dict\)"):
            play(lambda: Faulty("info", at=2), 1, "sync")
        assert play(lambda: Told(info=lambda t: OrderedDict(a=1)), 1, "sync")[-1] is not None

    @WIDTHS
    def test_a_lost_life_is_a_flag_where_it_is_asked_for(self, num_envs, vector):
        def lost(flag):
            return lambda: LifeLoss(Told(info=lambda t: {"life_lost": flag(t)}))

        *_, seen = play(lost(lambda t: np.array([t == 3])), num_envs, vector)
        assert seen[LIFE_LOST].tolist() == [True, False][:num_envs]
        with pytest.raises(EnvironmentFault, match=r"info 'life_lost': \[1, 2\] \(allowed: True or False\)"):
            play(lost(lambda t: [1, 2]), num_envs, vector)

    @WIDTHS
    @pytest.mark.parametrize("told", [True, 2, None, [1, 2], "no"])
    def test_an_entry_of_that_name_is_the_environments_own_otherwise(self, told, num_envs, vector):
        *_, seen = play(lambda: Told(info=lambda t: {"life_lost": told}), num_envs, vector)
        assert seen == {}


def test_resets_of_one_and_of_several_give_the_same_options():
    class Asks(Told):
        def reset(self, *, seed=None, options=None):
            assert options is None
            return super().reset(seed=seed)

    for num_envs in (1, 2):
        envs = vector_of(Asks, num_envs)
        envs.reset(seed=[0] * num_envs)
        envs.reset(seed=[1] * num_envs, options={"reset_mask": np.ones(num_envs, np.bool_)})


class TestRewardsAndFlags:
    @WIDTHS
    @pytest.mark.parametrize(
        "reward", [np.float32(2), np.array(2.0), np.array([2.0]), 2, np.int8(2), np.array([2], np.uint8), 2.0]
    )
    def test_numbers_are_taken(self, reward, num_envs, vector):
        assert play(lambda: Told(reward=reward), num_envs, vector)[1].tolist() == [2.0] * num_envs

    @pytest.mark.parametrize("reward", [True, np.True_])
    def test_booleans_are_numbers(self, reward):
        assert play(lambda: Told(reward=reward), 2, "sync")[1].tolist() == [1.0, 1.0]

    @WIDTHS
    @pytest.mark.parametrize("fault", [*REWARDS, "flag", "short"])
    def test_other_things_are_refused_at_every_width(self, fault, num_envs, vector):
        field = {"flag": "terminated: 'no'", "short": "step returned"}.get(fault, "reward: ")
        with pytest.raises(EnvironmentFault, match=rf"Faulty \(number [01], seed [01], step 2\): {field}"):
            play(lambda: Faulty(fault, at=2), num_envs, vector)

    @pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
    @pytest.mark.parametrize("kind", [float, np.float16, np.float32, np.float64])
    def test_what_is_not_finite_is_refused_in_every_type(self, kind, value):
        with pytest.raises(EnvironmentFault, match="reward: "):
            play(lambda: Told(reward=kind(value)), 1, "sync")

    @pytest.mark.parametrize("reward", [1e39, -1e308, np.float64(1e300), 10**40, np.longdouble("1e300")])
    def test_what_float32_does_not_hold_is_refused(self, reward):
        with pytest.raises(
            EnvironmentFault, match=r"reward: .* \(allowed: (what float32 holds|a finite number)"
        ):
            play(lambda: Told(reward=reward), 1, "sync")
        assert play(lambda: Told(reward=np.float64(3e38)), 1, "sync")[1].tolist() == [3e38]

    @pytest.mark.parametrize("reward", [{}, [1.0], Fraction(1, 2), np.array([[1.0]]), np.array("1")])
    def test_what_only_looks_like_a_number_is_refused(self, reward):
        with pytest.raises(EnvironmentFault, match="allowed: a finite number"):
            play(lambda: Told(reward=reward), 1, "sync")

    @WIDTHS
    @pytest.mark.parametrize("flag", [np.array([True]), np.True_, 1, np.array(1)])
    def test_flags_of_one_entry_are_taken(self, flag, num_envs, vector):
        _, _, terminated, truncated, _ = play(lambda: Told(terminated=flag), num_envs, vector, steps=1)
        assert (terminated.tolist(), truncated.tolist()) == ([True] * num_envs, [False] * num_envs)

    @pytest.mark.parametrize("flag", [2, 1.0, None, "True", np.array([True, False])])
    def test_other_flags_are_refused(self, flag):
        with pytest.raises(EnvironmentFault, match=r"terminated: .* \(allowed: True or False\)"):
            play(lambda: Told(terminated=flag), 1, "sync")


class TestObservations:
    @WIDTHS
    @pytest.mark.parametrize("at", [0, 2])
    @pytest.mark.parametrize("fault", OBSERVATIONS)
    def test_the_fault_names_the_field_and_the_moment(self, fault, at, num_envs, vector):
        moment = f"step {at}" if at else "reset"
        with pytest.raises(
            EnvironmentFault, match=rf"Faulty \(number [01], seed [01], {moment}\): observation: "
        ):
            play(lambda: Faulty(fault, at=at), num_envs, vector)

    def test_an_error_of_the_environment_is_one_line(self):
        with pytest.raises(EnvironmentFault) as fault:
            play(lambda: Faulty("raise", at=2), 1, "sync")
        assert "step 2): step raised RuntimeError: the arm is stuck (faulty.py, line " in str(fault.value)

    def test_an_error_that_cannot_be_shown_is_named_by_its_type(self):
        class Breaks(Told):
            def step(self, action):
                raise Silent

        with pytest.raises(EnvironmentFault, match=r"step raised Silent \(test_contract\.py, line "):
            play(Breaks, 1, "sync")

    def test_what_lies_a_little_outside_its_bounds_is_noted_once(self):
        class Beyond(Faulty):
            def _observation(self):
                return np.array([1.5, 0.0], np.float32)

        env = Contract(Beyond())
        with pytest.warns(UserWarning, match=r"1\.5 at index 0"):
            env.reset(seed=3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            env.step(0)
        assert env.notes == [
            "environment Beyond (number 0, seed 3, reset): observation 1.5 at index 0 (allowed: from -1 to 1)"
            " is kept as it is"
        ]

    def test_a_sound_environment_passes(self):
        obs, reward, terminated, truncated, info = play(lambda: Faulty(), 2, "sync", steps=100)
        assert obs.tolist() == [[0.5, -0.5]] * 2
        assert (reward.tolist(), terminated.any(), truncated.tolist(), info) == (
            [1, 1],
            False,
            [True] * 2,
            {},
        )
