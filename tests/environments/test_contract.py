"""The contract: what environments may give, alike for one environment, vectors and worker processes."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from fractions import Fraction

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from faulty import OBSERVATIONS, REWARDS, Faulty
from generated import Silent
from rl_lab.environments.contract import Contract
from rl_lab.environments.make import vector_of
from rl_lab.environments.masks import MaskFromObservation, mask_of
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.types import Decision, EnvironmentFault, UsageError

WIDTHS = pytest.mark.parametrize(("num_envs", "vector"), [(1, "sync"), (2, "sync"), (2, "async")])


class Told(gymnasium.Env):
    """Four actions, one of which is illegal; masks, infos and rewards are as told. Steps without end."""

    observation_space, action_space = spaces.Discrete(4), spaces.Discrete(4)

    def __init__(self, mask=None, at=("reset", "step"), info=None, reward=1.0, terminated=False):
        self.mask, self.at, self.info, self.reward, self.terminated = mask, at, info, reward, terminated
        self.count, self.number = 0, 0

    def _info(self, place):
        info = dict(self.info(self.count + self.number)) if self.info else {}
        return info | ({"action_mask": self.mask} if place in self.at and self.mask is not None else {})

    def reset(self, *, seed=None, options=None):
        self.count, self.number = 0, seed or 0  # environments beside one another tell different things
        return 0, self._info("reset")

    def step(self, action):
        self.count += 1
        if np.any(action == 3):
            raise RuntimeError("illegal")
        return 0, self.reward, self.terminated, False, self._info("step")


def play(make, num_envs, vector, steps=3, actions=None):
    """Return the last result of a few steps with action 0 in each environment."""
    envs = vector_of(make, num_envs, vector=vector, env_timeout_seconds=20)
    try:
        result = envs.reset(seed=list(range(num_envs)))
        zero = envs.single_action_space.sample() * 0
        for _ in range(steps):
            result = envs.step(np.array([zero] * num_envs) if actions is None else actions)
        return result
    finally:
        envs.close()


class TestMasks:
    GIVEN = ([1, 1, 1, 0], (True, True, True, False), np.array([1, 1, 1, 0], np.int8), [1.0, 1.0, 1.0, 0.0])

    @WIDTHS
    @pytest.mark.parametrize("mask", GIVEN, ids=["list", "tuple", "array", "floats"])
    def test_sequences_of_zeros_and_ones_are_taken(self, mask, num_envs, vector):
        *_, info = play(lambda: Told(mask), num_envs, vector)
        assert mask_of(info).tolist() == [[True, True, True, False]] * num_envs
        assert mask_of(info).dtype == np.bool_

    @WIDTHS
    @pytest.mark.parametrize(
        "mask", [[[1, 1, 1, 0]], np.ones((1, 4)), [1], [1, 1, 1], [1, 1, 1, 0.5], [1, 1, [1], 0], "1110", 7]
    )
    def test_other_forms_are_refused_at_every_width(self, mask, num_envs, vector):
        with pytest.raises(EnvironmentFault, match=r"action mask: .* \(allowed: 4 entries of 0 or 1\)"):
            play(lambda: Told(mask), num_envs, vector)

    @WIDTHS
    @pytest.mark.parametrize(
        ("at", "said"), [(("reset",), "none came, .* gave one"), (("step",), "one came, .* gave none")]
    )
    def test_masks_come_always_or_never(self, at, said, num_envs, vector):
        with pytest.raises(EnvironmentFault, match=rf"step 1\): action mask: {said}"):
            play(lambda: Told([1, 1, 1, 0], at), num_envs, vector)

    def test_a_later_reset_may_not_drop_them(self):
        class Forgets(Told):
            def reset(self, *, seed=None, options=None):
                obs, info = super().reset()
                return obs, info if seed == 0 else {}

        for num_envs in (1, 2):
            envs = vector_of(lambda: Forgets([1, 1, 1, 0]), num_envs)
            envs.reset(seed=[0] * num_envs)
            with pytest.raises(EnvironmentFault, match=r"seed 5, reset\): action mask: none came"):
                envs.reset(seed=[5] * num_envs)

    def test_some_action_is_legal_until_the_end(self):
        with pytest.raises(EnvironmentFault, match=r"reset\): action mask: no action is legal"):
            play(lambda: Told([0, 0, 0, 0]), 1, "sync")

        class Ends(Told):
            def step(self, action):
                self.mask = [0, 0, 0, 0]
                return *super().step(action)[:2], True, False, self._info("step")

        *_, info = play(lambda: Ends([1, 0, 0, 0]), 1, "sync", steps=1)
        assert mask_of(info).tolist() == [[True] * 4]

    def test_at_the_end_each_part_without_a_legal_value_has_all(self):
        class Ends(Told):
            action_space = spaces.MultiDiscrete([2, 3])

            def step(self, action):
                return 0, 0.0, True, False, {"action_mask": [0, 1, 0, 0, 0]}

        *_, info = play(lambda: Ends([1, 1, 1, 1, 1]), 2, "sync", steps=1)
        assert mask_of(info).tolist() == [[False, True, True, True, True]] * 2

    @pytest.mark.parametrize("method", [False, True])
    def test_where_an_episode_terminates_none_has_to_come(self, method):
        class Ends(Told):
            def step(self, action):
                return 0, 0.0, True, False, {}

        class Asked(Ends):
            def action_masks(self):
                if self.count < 0:
                    raise RuntimeError("the game is over")
                return [1, 1, 1, 0]

            def step(self, action):
                self.count = -1
                return super().step(action)

        *_, info = play(Asked if method else (lambda: Ends([1, 1, 1, 0], at=("reset",))), 2, "sync", steps=1)
        assert mask_of(info).tolist() == [[True] * 4] * 2

    def test_where_an_episode_is_cut_off_one_has_to_come(self):
        with pytest.raises(EnvironmentFault, match="none came"):
            play(lambda: TimeLimit(Told([1, 1, 1, 0], at=("reset",)), 1), 1, "sync", steps=1)

    def test_the_mask_is_a_copy(self):
        env = Told(np.ones(4, np.int8))
        envs = vector_of(lambda: env, 1)
        _, info = envs.reset(seed=[0])
        env.mask[:] = 0
        assert info["action_mask"].all()

    @WIDTHS
    def test_a_method_gives_them_where_info_does_not(self, num_envs, vector):
        class Method(Told):
            def action_masks(self):
                return [True, False, self.count % 2 == 0, False]

        *_, info = play(Method, num_envs, vector, steps=1)
        assert mask_of(info).tolist() == [[True, False, False, False]] * num_envs
        *_, info = play(lambda: TimeLimit(Method(), 9), num_envs, vector, steps=2)
        assert mask_of(info).tolist() == [[True, False, True, False]] * num_envs

    @WIDTHS
    def test_an_error_of_the_method_is_one_line(self, num_envs, vector):
        class Method(Told):
            def action_masks(self):
                return [True] * 4 if self.count < 2 else [1, 2][self.count]

        with pytest.raises(
            EnvironmentFault, match=r"step 2\): action mask: action_masks raised IndexError: "
        ):
            play(Method, num_envs, vector)

    @WIDTHS
    def test_a_dict_observation_may_hold_them(self, num_envs, vector):
        class Holds(Told):
            observation_space = spaces.Dict(
                {
                    "seen": spaces.Discrete(4),
                    "action_mask": spaces.MultiBinary(4),
                }
            )

            def reset(self, *, seed=None, options=None):
                return {"seen": 1, "action_mask": np.int8([1, 0, 0, 1])}, {}

            def step(self, action):
                return {"seen": 2, "action_mask": np.int8([0, 1, 0, 0])}, 1.0, False, False, {}

        env = MaskFromObservation(Holds())
        assert env.observation_space == spaces.Dict({"seen": spaces.Discrete(4)})
        obs, *_, info = play(lambda: MaskFromObservation(Holds()), num_envs, vector)
        assert {k: v.tolist() for k, v in obs.items()} == {"seen": [2] * num_envs}
        assert mask_of(info).tolist() == [[False, True, False, False]] * num_envs

    def test_an_observation_of_nothing_else_is_refused(self):
        class Bare(Told):
            observation_space = spaces.Dict({"action_mask": spaces.MultiBinary(4)})

        assert MaskFromObservation.fits(Bare())
        with pytest.raises(UsageError, match="nothing but 'action_mask'"):
            MaskFromObservation(Bare())

    def test_the_parts_of_multidiscrete_actions_lie_one_after_another(self):
        class Two(Told):
            action_space = spaces.MultiDiscrete([2, 3])

        *_, info = play(lambda: Two([1, 0, 0, 0, 1]), 2, "sync")
        assert mask_of(info).tolist() == [[True, False, False, False, True]] * 2
        with pytest.raises(EnvironmentFault, match="no action is legal"):
            play(lambda: Two([1, 0, 0, 0, 0]), 2, "sync")
        with pytest.raises(EnvironmentFault, match="allowed: 5 entries"):
            play(lambda: Two([1, 0, 0]), 1, "sync")

    def test_actions_without_a_choice_take_none(self):
        class Continuous(Told):
            action_space = spaces.Box(-1, 1, (1,))

        with pytest.raises(
            EnvironmentFault, match=r"Box.* actions take none \(allowed: actions with discrete"
        ):
            play(lambda: Continuous([1]), 1, "sync")

    def test_an_evaluation_plays_legally_whatever_the_width(self):
        class Legal:
            """Takes the last legal action; an illegal one raises in the environment."""

            def initial_state(self, num_envs):
                return ()

            def act(self, obs, state, is_first, mask=None):
                return Decision(3 - mask[:, ::-1].argmax(1))

            def inspect(self, *_):
                return {}

        for width in (1, 4):
            envs = vector_of(lambda: TimeLimit(Told([1, 1, 1, 0]), 50), width)
            assert evaluate(Legal(), envs, episodes=4, seed=0).returns.tolist() == [50.0] * 4


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

    def test_a_lost_life_is_a_flag(self):
        *_, seen = play(lambda: Told(info=lambda t: {"life_lost": np.array([t == 3])}), 2, "sync")
        assert seen["life_lost"].tolist() == [True, False]
        with pytest.raises(EnvironmentFault, match=r"info 'life_lost': \[1, 2\]"):
            play(lambda: Told(info=lambda t: {"life_lost": [1, 2]}), 2, "sync")


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
