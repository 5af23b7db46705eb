"""Vectorised forms play what single environments play, to the bit."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from hypothesis import given, settings
from hypothesis import strategies as st

import rl_lab.envs
from rl_lab.environments.form_vector import FormVector
from rl_lab.environments.forms import form_maker, make_form
from rl_lab.environments.make import make_env, make_envs, vector_of
from rl_lab.environments.masks import mask_of, merge_masks
from rl_lab.envs.vectorised import Draws, Shown
from rl_lab.trees import leaves_of
from rl_lab.types import EnvironmentFault

assert rl_lab.envs  # whose ids are used
WITHOUT = {
    "lab/Examples-v0",  # has no form, for its examples come from files
    "lab/CarRental-v0",  # takes a second to make; the wide Garnet stands for it
}
IDS = sorted(i for i in gymnasium.registry if i.startswith("lab/") and i not in WITHOUT)
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((env_id, {}) for env_id in IDS),
    ("CartPole-v1", {}),
    ("CartPole-v1", {"sutton_barto_reward": True, "max_episode_steps": 25}),
    ("CartPole-v1", {"max_episode_steps": -1}),
    ("lab/GridWorld-v0", {"map": "S.S\n..G\nS.P", "slip": 0.5}),
    ("lab/GridWorldPixels-v0", {"map": "S.\n.G", "slip": 0.3}),
    ("lab/FlickeringGridWorld-v0", {"map": "S.\n.G", "slip": 0.2}),
    ("lab/TMaze-v0", {"length": 2, "max_steps": 5}),
    (
        "lab/TMaze-v0",
        {"length": 1, "max_steps": 2},
    ),  # most episodes end in the step in which they would be cut
    ("lab/MemoryChain-v0", {"length": 3, "num_bits": 3}),
    ("lab/RepeatPrevious-v0", {"k": 0, "length": 5}),
    ("lab/RepeatPrevious-v0", {"k": 2, "length": 5}),
    ("lab/Catch-v0", {"visible_rows": 2}),
    ("lab/Garnet-v0", {"states": 70, "branching": 67}),
    ("lab/Gambler-v0", {"max_episode_steps": 3}),
]


def form_of(env_id: str, kwargs: dict[str, Any], num_envs: int) -> FormVector:
    maker = form_maker(env_id, kwargs)
    assert maker is not None
    return FormVector(make_form(env_id, maker, num_envs, kwargs), env_id)


def require_same(ours: Any, theirs: Any) -> None:
    """Compare bits and dtypes: 0.0 isn't -0.0."""
    for one, other in zip(leaves_of(ours), leaves_of(theirs), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()
        assert one.flags.c_contiguous


def play_both(env_id: str, kwargs: dict[str, Any], num_envs: int, steps: int, seed: int) -> int:
    """Play the same seeds and random legal actions both ways, comparing everything; return how many episodes ended."""
    ours, theirs = form_of(env_id, kwargs, num_envs), vector_of(partial(make_env, env_id, kwargs), num_envs)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.single_action_space == theirs.single_action_space
    rng, ended = np.random.default_rng(seed), 0
    seeds = rng.integers(2**31, size=num_envs).tolist()
    (obs, info), (expected, told) = (envs.reset(seed=seeds) for envs in (ours, theirs))
    require_same((obs, info), (expected, told))
    mask = mask_of(told)
    for _ in range(steps):
        wanted = rng.random((num_envs, ours.single_action_space.n)) * (1 if mask is None else mask)
        found, expected = (envs.step(wanted.argmax(axis=1)) for envs in (ours, theirs))
        require_same(found, expected)
        mask, done = mask_of(expected[4]), expected[2] | expected[3]
        if done.any():
            ended += np.count_nonzero(done)
            seeds = [int(rng.integers(2**31)) if d else None for d in done]
            (obs, info), (expected, told) = (
                envs.reset(seed=seeds, options={"reset_mask": done.copy()}) for envs in (ours, theirs)
            )
            require_same(obs, expected)
            fresh = merge_masks(done, mask_of(info), mask)
            mask = merge_masks(done, mask_of(told), mask)
            assert np.array_equal(fresh, mask)
    return ended


@pytest.mark.parametrize(("env_id", "kwargs"), VARIANTS)
def test_the_same_seeds_and_actions_give_the_same_bits(env_id, kwargs):
    play_both(env_id, kwargs, num_envs=5, steps=50, seed=1)


@given(st.integers(0, 2**31 - 1), st.integers(2, 40))
@settings(max_examples=8, deadline=None)
def test_carts_are_equal_whatever_the_seed_and_however_many(seed, num_envs):
    assert play_both("CartPole-v1", {}, num_envs, 40, seed) > 0


@given(st.integers(0, 2**31 - 1), st.integers(1, 5), st.integers(2, 40))
@settings(max_examples=8, deadline=None)
def test_random_models_are_equal_whatever_their_rows(seed, branching, num_envs):
    kwargs = {"states": 9, "branching": branching, "problem_seed": seed, "max_episode_steps": 11}
    assert play_both("lab/Garnet-v0", kwargs, num_envs, 40, seed) == 3 * num_envs


@pytest.mark.parametrize("env_id", IDS)
def test_a_dataset_can_tell_of_the_environment(env_id):
    spec = gymnasium.spec(env_id)
    assert EnvSpec.from_json(spec.to_json()) == spec


def test_gymnasium_makes_them_too():
    envs = gymnasium.make_vec("lab/Cliff-v0", 3)
    assert (envs.num_envs, envs.spec.id) == (3, "lab/Cliff-v0")
    obs, _ = envs.reset(seed=0)
    assert obs.tolist() == [36, 36, 36]
    envs.step(envs.action_space.sample())
    envs.close()


def test_an_action_without_outcomes_is_a_fault_that_names_the_environment():
    envs = form_of("lab/Blackjack-v0", {}, 2)
    envs.envs._world._has_gaps, envs.envs._world._width = True, np.zeros_like(envs.envs._world._width)
    envs.reset(seed=[0, 1])
    with pytest.raises(
        EnvironmentFault, match=r"action 1 is not available in state \d+ \(environment number 0\)"
    ):
        envs.step(np.array([1, 0]))


def test_draws_are_those_of_each_generator_one_by_one():
    draws, theirs = Draws(3), [np.random.default_rng(i) for i in range(3)]
    for i in range(3):
        draws.open(i, {i: np.random.default_rng(i)})
    rng = np.random.default_rng(0)
    for _ in range(3 * Draws.AHEAD):
        places = np.flatnonzero(rng.random(3) < 0.7)
        assert draws.take(places).tolist() == [theirs[i].random() for i in places]
    draws.open(1, {1: np.random.default_rng(9)})
    assert draws.take(np.array([1])) == np.random.default_rng(9).random()


def test_observations_that_no_table_holds_are_the_same(monkeypatch):
    env = make_env("lab/GridWorldPixels-v0").unwrapped
    args = env.model().observe, 3, env.observation_space
    kept = Shown(*args)
    monkeypatch.setattr("rl_lab.envs.vectorised.LARGEST_TABLE", 0)
    drawn, states = Shown(*args), np.array([2, 0])
    assert (kept._table is None, drawn._table is None) == (False, True)
    require_same(kept(states), drawn(states))


def test_what_an_environment_shows_is_not_shared():
    envs = make_envs("lab/GridWorldPixels-v0", 8)
    obs, _ = envs.reset(seed=list(range(8)))
    obs[:] = 0
    assert envs.step(np.zeros(8, np.int64))[0].any()
