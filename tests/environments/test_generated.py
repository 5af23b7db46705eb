"""Whatever an environment gives: one, two and an evaluation take it alike, or all refuse it in one line."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from generated import (
    ABSENT,
    ANSWERS,
    FIXED,
    INFOS,
    PLAIN_SPACES,
    THINGS,
    UNSHAPED,
    Generated,
    Script,
    all_odd,
    odd_observations,
    scripts,
    sound_scripts,
)  # fmt: skip
from rl_lab.environments.make import vector_of
from rl_lab.environments.masks import KEY, mask_of
from rl_lab.environments.observed import Refused, observation_check
from rl_lab.environments.wrappers import LIFE_LOST
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.trees import leaves_of, map_leaves
from rl_lab.types import Decision, EnvironmentFault, UsageError

FUZZ = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
VARIED = ({}, {"path": np.arange(2)}, {"path": np.arange(3)}, {"path": None}, {"path": "text"}, {"path": 0.5})
Seen = list[
    tuple[Any, ...]
]  # of one environment: (observation, reward, terminated, truncated, mask, life lost) by step


def makers(given: tuple[Script, ...]) -> Callable[[], Generated]:
    """Return a function that makes an environment of each script in turn."""
    left = iter(given)
    return lambda: Generated(next(left))


class Legal:
    """Takes the first legal action."""

    def __init__(self, space: spaces.Space):
        self._space = space

    def initial_state(self, num_envs):
        return ()

    def act(self, obs, state, is_first, mask=None):
        masks = [None] * len(is_first) if mask is None else mask
        return Decision(np.array([self._first(m) for m in masks]))

    def _first(self, mask):
        if isinstance(self._space, spaces.Box):
            return np.zeros(self._space.shape, self._space.dtype)
        if isinstance(self._space, spaces.Discrete):
            return self._space.start + (0 if mask is None else int(np.argmax(mask)))
        if mask is None:
            return np.zeros_like(self._space.nvec)
        return np.array([np.argmax(part) for part in np.split(mask, np.cumsum(self._space.nvec)[:-1])])

    def inspect(self, obs, state, is_first, mask=None):
        return {}


def outcome(given: tuple[Script, ...]) -> str | list[Seen]:
    """Return what a vector of the scripts' environments gives in their first episodes, or why it is refused."""
    try:
        envs = vector_of(makers(given), len(given))
        return first_episodes(envs, given[0].action_space, steps=8)
    except EnvironmentFault as fault:
        return plain(fault)


def first_episodes(envs: Any, actions: spaces.Space, steps: int) -> list[Seen]:
    """Play until every environment has ended an episode."""
    policy, width = Legal(actions), envs.num_envs
    obs, info = envs.reset(seed=[0] * width)
    none, open_ = np.zeros(width), np.ones(width, np.bool_)
    seen = [[row] for row in rows(obs, none, none, none, info)]
    while open_.any():
        result = envs.step(policy.act(obs, (), open_, mask_of(info)).action)
        for i, row in enumerate(rows(*result)):
            seen[i] += [row] if open_[i] else []
        obs, _, terminated, truncated, info = result
        done = terminated | truncated
        open_ &= ~done
        if done.any():
            obs, fresh = envs.reset(seed=[0] * width, options={"reset_mask": done})
            info = {KEY: np.where(done[:, None], fresh[KEY], info[KEY])} if KEY in fresh else {}
        steps -= 1
        assert steps >= 0, "no end"
    return seen


def rows(obs, reward, terminated, truncated, info) -> Seen:
    """Return each environment's part of a vector step, comparable with ==."""
    lost, mask = info.get(LIFE_LOST, np.zeros(len(reward), np.bool_)), mask_of(info)
    return [
        (
            [
                (leaf[i].dtype.str, leaf[i].shape, leaf[i].tobytes())
                for leaf in leaves_of(obs, sort_keys=True)
            ],
            float(reward[i]),
            bool(terminated[i]),
            bool(truncated[i]),
            None if mask is None else mask[i].tolist(),
            bool(lost[i]),
        )
        for i in range(len(reward))
    ]


def assert_one_line(text: str) -> None:
    assert text.isprintable(), text


def plain(fault: EnvironmentFault) -> str:
    """Return a fault without the environment's number and seed, which say where it came from."""
    text = str(fault)
    assert_one_line(text)
    assert text.startswith("environment Generated (number ")
    return re.sub(r"\(number \d+, seed \d+, ", "(", text)


class TestVectors:
    @settings(FUZZ, max_examples=300)
    @given(one=scripts())
    def test_one_alone_and_two_together_agree(self, one):
        alone, both = outcome((one,)), outcome((one, one))
        assert both == (alone if isinstance(alone, str) else alone * 2)

    @settings(FUZZ, max_examples=100)
    @given(one=scripts())
    def test_a_sound_neighbour_changes_nothing(self, one):
        sound = Script(**vars(one) | good_parts(one))
        alone = outcome((one,))
        for pair, place in (((one, sound), 0), ((sound, one), 1)):
            together = outcome(pair)
            if not isinstance(alone, str):
                assert together[place] == alone[0]
            else:
                assert together == alone

    @settings(FUZZ, max_examples=150)
    @given(one=scripts())
    def test_an_evaluation_agrees(self, one):
        alone = outcome((one,))
        for width in (1, 2):
            try:
                envs = vector_of(makers((one,) * width), width)
                found = evaluate(Legal(one.action_space), envs, episodes=width, seed=3)
            except EnvironmentFault as fault:
                found = plain(fault)
            if isinstance(found, str) or isinstance(alone, str):
                assert found == alone
            else:
                (seen,) = alone
                assert found.lengths.tolist() == [len(seen) - 1] * width
                np.testing.assert_allclose(found.returns, [sum(row[1] for row in seen)] * width)

    @settings(FUZZ, max_examples=10)
    @given(one=sound_scripts(UNSHAPED))
    def test_spaces_without_a_fixed_shape_are_refused_at_every_width(self, one):
        for width in (1, 2):
            with pytest.raises(UsageError, match="no fixed shape") as refused:
                vector_of(makers((one,) * width), width)
            assert str(refused.value).isprintable()


def good_parts(script: Script) -> dict[str, Any]:
    """Return parts for a script that plays on beside another one, with masks where that one begins with one."""
    space, steps = script.observation_space, 8
    masks = (
        (
            [True]
            * {spaces.Discrete: lambda s: int(s.n)}.get(
                type(script.action_space), lambda s: int(s.nvec.sum())
            )(script.action_space),
        )
        if script.masks[0] is not ABSENT and not isinstance(script.action_space, spaces.Box)
        else (ABSENT,)
    )
    return {
        "observations": tuple(space.sample() for _ in range(steps + 1)),
        "rewards": (1.0,) * steps,
        "terminated": (False,) * steps,
        "truncated": (False,) * (steps - 1) + (True,),
        "infos": ({},) * (steps + 1),
        "masks": masks * (steps + 1),
        "has_method": False,
        "answers": (),
    }


class TestOddThings:
    """One odd thing at the second step of a sound environment, and each of them once."""

    SOUND = Script(
        spaces.Discrete(3), spaces.Discrete(3), (0, 1, 2, 0), (1.0,) * 3, (False,) * 3, (False, False, True),
        ({}, {"path": 1}, {"path": [1, 2]}, {}), (ABSENT,) * 4,
    )  # fmt: skip

    @pytest.mark.parametrize("name", ["observations", "rewards", "terminated", "truncated"])
    def test_are_taken_or_refused_alike(self, name):
        taken = 0
        for thing in THINGS:
            values = list(getattr(self.SOUND, name))
            values[2 if name == "observations" else 1] = thing
            taken += self.require_alike(replace(self.SOUND, **{name: tuple(values)}))
        assert 0 < taken < len(THINGS)

    @pytest.mark.parametrize("info", INFOS, ids=range(len(INFOS)))
    def test_infos_are_read_alike(self, info):
        self.require_alike(replace(self.SOUND, infos=({}, {}, info, {})))

    def test_infos_may_differ_between_neighbours(self):
        for one, other in itertools.permutations(VARIED, 2):
            pair = tuple(replace(self.SOUND, infos=({}, info, info, {})) for info in (one, other))
            assert outcome(pair) == [outcome((script,))[0] for script in pair]

    @pytest.mark.parametrize("method", [False, True])
    def test_masks_are_read_alike(self, method):
        masked = replace(self.SOUND, masks=([1, 1, 1],) * 4, has_method=method)
        forms = (
            [0, 1, 1],
            (True, False, True),
            np.int8([1, 0, 0]),
            np.ones((1, 3)),
            [0, 0, 0],
            [1, 0.5, 0],
            ABSENT,
        )
        taken = [
            self.require_alike(replace(masked, masks=([1, 1, 1], [1, 1, 1], mask, [0, 0, 0])))
            for mask in (*forms, *THINGS)
        ]
        assert taken == [True] * 3 + [False] * (len(taken) - 3)

    @pytest.mark.parametrize("at", [0, 2])
    def test_answers_as_a_whole_are_refused_alike(self, at):
        for answer in ANSWERS:
            assert not self.require_alike(replace(self.SOUND, answers=((at, answer),)))

    @staticmethod
    def require_alike(script: Script) -> bool:
        """Say whether a script is taken, as it must be at every width."""
        alone, both = outcome((script,)), outcome((script, script))
        assert both == (alone if isinstance(alone, str) else alone * 2)
        if isinstance(alone, str):
            return False
        for t, row in enumerate(alone[0][1:]):
            given = (script.rewards[t], script.terminated[t], script.truncated[t])
            assert row[1:4] == tuple(np.asarray(x).item() for x in given)
            assert math.isfinite(row[1])
        return True


class TestValues:
    """What passes is what was given: cast without loss, floats rounded to the declared precision."""

    @pytest.mark.parametrize("space", PLAIN_SPACES, ids=str)
    def test_every_odd_observation_is_taken_unchanged_or_refused(self, space):
        space.seed(0)
        taken = [is_taken(space, value) for value in all_odd(space.sample())]
        assert any(taken)
        assert not all(taken)

    @settings(FUZZ, max_examples=200)
    @given(data=st.data())
    def test_so_is_one_of_parts(self, data):
        space = data.draw(FIXED)
        space.seed(0)
        is_taken(space, data.draw(odd_observations(space, space.sample())))

    @settings(FUZZ, max_examples=300)
    @given(one=scripts())
    def test_nothing_is_changed_silently(self, one):
        alone = outcome((one,))
        if isinstance(alone, str):
            return
        envs = vector_of(makers((one,)), 1)
        obs, info = envs.reset(seed=[0])
        self.require_same(one, 0, obs, info, over=False)
        for t in range(1, len(alone[0])):
            action = Legal(one.action_space).act(obs, (), np.ones(1), mask_of(info)).action
            obs, reward, terminated, truncated, info = envs.step(action)
            over = bool(terminated[0] or truncated[0])
            self.require_same(one, min(t, len(one.rewards)), obs, info, over)
            if t <= len(one.rewards):
                given_reward = np.asarray(one.rewards[t - 1]).reshape(())
                assert reward[0] == given_reward or t in dict(one.answers)
                assert terminated[0] == np.asarray(one.terminated[t - 1]).reshape(())
                assert truncated[0] == np.asarray(one.truncated[t - 1]).reshape(())

    @staticmethod
    def require_same(one, t, obs, info, over):
        require_same_values(one.observation_space, one.observations[t], map_leaves(lambda leaf: leaf[0], obs))
        given_mask = one.masks[t]
        if not one.has_method and given_mask is ABSENT and isinstance(one.infos[t], dict):
            given_mask = one.infos[t].get(KEY, ABSENT)
        if given_mask is ABSENT:
            assert KEY not in info
        elif np.asarray(given_mask).any() or not over:
            assert isinstance(one.action_space, spaces.MultiDiscrete) or (
                info[KEY][0].tolist() == np.asarray(given_mask).astype(bool).tolist()
            )


def is_taken(space: spaces.Space, value: Any) -> bool:
    """Say whether an observation is taken, which it may be only unchanged; a refusal is one line."""
    try:
        got = observation_check(space)(value)
    except Refused as refused:
        assert_one_line(str(refused))
        return False
    require_same_values(space, value, got)
    return True


def require_same_values(space: spaces.Space, given: Any, got: Any) -> None:
    """Every number that came is the number that was given; floats as the space's precision rounds them."""
    if isinstance(space, spaces.Dict):
        assert set(given) == set(got) == set(space.spaces)
        for key, part in space.spaces.items():
            require_same_values(part, given[key], got[key])
    elif isinstance(space, spaces.Tuple):
        assert len(given) == len(got) == len(space.spaces)
        for part, x, y in zip(space.spaces, given, got, strict=True):
            require_same_values(part, x, y)
    else:
        exact = np.asarray(given)
        assert got.dtype == space.dtype
        assert got.shape == space.shape == exact.shape
        if got.dtype.kind == exact.dtype.kind == "f":
            assert np.isfinite(got).all()
            assert (got == exact.astype(got.dtype)).all()
        else:  # Python's numbers compare without casting
            assert got.tolist() == exact.tolist()
