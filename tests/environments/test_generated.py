"""Whatever an environment gives: one, two and an evaluation take it alike, or all refuse it in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings

from generated import ABSENT, UNSHAPED, Generated, Script, scripts, sound_scripts
from rl_lab.environments.make import vector_of
from rl_lab.environments.masks import KEY, mask_of
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.trees import leaves_of, map_leaves
from rl_lab.types import Decision, EnvironmentFault, UsageError

FUZZ = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
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
    lost, mask = info.get("life_lost", np.zeros(len(reward), np.bool_)), mask_of(info)
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


def plain(fault: EnvironmentFault) -> str:
    """Return a fault without the environment's number and seed, which say where it came from."""
    text = str(fault)
    assert "\n" not in text
    assert text.isprintable()
    assert text.startswith("environment Generated (number ")
    return re.sub(r"\(number \d+, seed \d+, ", "(", text)


def step_of(fault: str) -> int:
    """Return the step that a fault names; 0 for the reset."""
    found = re.match(r"environment Generated \((?:reset|step (\d+))\): ", fault)
    assert found, fault
    return int(found[1] or 0)


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


class TestValues:
    """What passes is what was given: cast without loss, floats rounded to the declared precision."""

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
