"""Returns that a categorical distribution can't express are told."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import rl_lab
from rl_lab.agents.dqn.outside import OutsideRange, RangeWatch, _steps_until


def said(watch: RangeWatch, rewards: list[list[float]], ends: list[list[bool]]) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for reward, done in zip(rewards, ends, strict=True):
            watch(np.asarray(reward), np.asarray(done))
    assert all(one.category is OutsideRange for one in found)
    return [str(one.message) for one in found]


def watch(gamma: float, v_min: float, v_max: float, num_envs: int = 1) -> RangeWatch:
    return RangeWatch(SimpleNamespace(gamma=gamma, v_min=v_min, v_max=v_max), num_envs)


def test_a_return_beyond_v_max_is_told_with_its_figure():
    """1 + 2 / 2 + 4 / 4 = 3, 2 + 4 / 2 = 4, and 4."""
    assert said(watch(0.5, -2.0, 2.5), [[1.0], [2.0], [4.0]], [[False], [False], [True]]) == [
        "the rewards from one state on, discounted by gamma 0.5, add up to 4, beyond v_max 2.5: a categorical"
        " distribution takes such returns for 2.5"
    ]


def test_a_return_below_v_min_is_told():
    (line,) = said(watch(1.0, -2.0, 2.0), [[-1.0], [-1.5]], [[False], [True]])
    assert "add up to -2.5, beyond v_min -2:" in line


def test_a_return_far_from_the_start_is_told():
    """From the start the reward of 5 counts 5 / 1024, and from its own state 5."""
    rewards, ends = [[0.0]] * 4 + [[5.0]], [[False]] * 4 + [[True]]
    (line,) = said(watch(0.5, -4.0, 4.0), rewards, ends)
    assert "add up to 5," in line
    assert said(watch(0.5, -4.0, 5.0), rewards, ends) == []


def test_the_bounds_themselves_and_sums_within_an_episode_are_not_told():
    """From the last state back: 2, -2, 1, 2, -2 and 2. Summed from the first step on, rewards reach 4."""
    rewards = [[4.0], [-4.0], [1.0], [3.0], [-4.0], [2.0]]
    assert said(watch(1.0, -2.0, 2.0), rewards, [[False]] * 5 + [[True]]) == []


def test_each_environment_adds_up_its_own():
    """The first ends three times with 1; the second has 3 in the end, and 2.5 where the first ends before."""
    rewards, ends = [[1.0, 1.5], [1.0, 1.0], [1.0, 0.5]], [[True, False], [True, False], [True, True]]
    assert said(watch(1.0, -2.0, 2.0, 2), rewards[:2], ends[:2]) == []
    (line,) = said(watch(1.0, -2.0, 2.0, 2), rewards, ends)
    assert "add up to 3," in line


def test_sums_begin_anew_after_an_end():
    rewards, ends = [[1.0], [1.0], [1.0], [1.0], [1.0], [2.0]], [[False], [True]] * 3
    assert said(watch(1.0, -2.0, 2.0), rewards[:4], ends[:4]) == []
    (line,) = said(watch(1.0, -2.0, 2.0), rewards, ends)
    assert "add up to 3," in line


def test_it_is_told_once():
    assert len(said(watch(1.0, -1.0, 1.0), [[2.0], [3.0]], [[True], [True]])) == 1


def test_without_ends_the_first_state_is_judged_once_what_follows_counts_little():
    """0.5 ** 7 is the first below 0.01: the sum of seven rewards of 1 is 2 - 2 / 128."""
    rewards, ends = [[1.0]] * 7, [[False]] * 7
    assert said(watch(0.5, -1.0, 1.5), rewards[:6], ends[:6]) == []
    (line,) = said(watch(0.5, -1.0, 1.5), rewards, ends)
    assert "add up to 1.984," in line


def test_without_ends_later_states_are_not_judged_by_the_little_that_is_known():
    """The reward of 5 is the seventh, and what follows it, -8, makes it worth 1."""
    rewards = [[0.0]] * 6 + [[5.0], [-8.0]]
    assert said(watch(0.5, -8.0, 4.0), rewards, [[False]] * 7 + [[True]]) == []


@pytest.mark.parametrize(
    ("gamma", "steps"), [(0.0, 1), (0.5, 7), (0.99, 459), (1.0, 10_000), (0.99999, 10_000)]
)
def test_the_steps_that_are_held(gamma, steps):
    assert _steps_until(0.01, gamma) == steps


@pytest.mark.parametrize(
    ("agent", "fields", "told"),
    [
        ("c51", {"v_max": 5.0}, True),
        ("c51", {"v_max": 200.0}, False),
        ("c51", {"v_max": 5.0, "gamma": 0.5}, False),  # returns of at most 2
        ("c51", {"v_max": 5.0, "reward_clip": 0.05}, False),  # of at most 5
        ("qr-dqn", {"quantiles": 3}, False),
    ],
)
def test_a_run_tells_it_in_the_units_in_which_it_learns(tmp_path, recwarn, agent, fields, told):
    rl_lab.learn(
        agent, "CartPole-v1", total_steps=60, learning_starts_env_steps=50, batch_size=4,
        hidden=(4,), eval_episodes=1, run_dir=tmp_path / "run", seed=1, progress=False, **fields,
    )  # fmt: skip
    assert any(one.category is OutsideRange for one in recwarn) == told
