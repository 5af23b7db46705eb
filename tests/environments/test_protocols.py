"""The protocols under which games are played: what env_kwargs change, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.environments.atari import GameVector
from rl_lab.environments.make import Layers, make_env, make_envs, other_episodes
from rl_lab.environments.protocols import (
    OWN,
    PREPROCESSING,
    PROTOCOLS,
    WHOLE,
    Protocol,
    protocol_of,
    resolve_preprocessing,
)
from rl_lab.types import UsageError

PONG = "ALE/Pong-v5"


def test_every_protocol_is_a_preprocessing():
    assert set(PREPROCESSING) == {"auto", "none", "atari"} | set(PROTOCOLS)


def test_arguments_of_the_environment_change_a_protocol_and_leave_the_rest():
    assert protocol_of("nature", {}) == Protocol(noop_max=30)
    assert protocol_of("nature", {"noop_max": 0, "repeat_action_probability": 0.25}) == PROTOCOLS["dopamine"]
    assert PROTOCOLS["nature"] == Protocol(noop_max=30)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"frame_skip": 4},
            r"env_kwargs 'frame_skip' is unknown to protocol 'v5' \(allowed: repeat_action_prob",
        ),
        ({"noop_max": -1}, "noop_max must be a whole number from 0 to 1000, got -1"),
        ({"noop_max": 1.5}, "noop_max must be a whole number from 0 to 1000, got 1.5"),
        ({"noop_max": 10**12}, "noop_max must be a whole number from 0 to 1000, got 1000000000000"),
        ({"frameskip": 0}, "frameskip must be a whole number from 1 to 1000, got 0"),
        ({"frameskip": 10**10}, "frameskip must be a whole number from 1 to 1000, got 10000000000"),
        ({"frameskip": None}, "frameskip must be a whole number from 1 to 1000, got None"),
        ({"max_num_frames_per_episode": 0}, "max_num_frames_per_episode must be .* to 1000000000, got 0"),
        ({"max_num_frames_per_episode": 2**31}, "max_num_frames_per_episode must be .*, got 2147483648"),
        ({"mode": -1}, "mode must be a whole number from 0 to 1000000000, got -1"),
        ({"difficulty": 10**400}, r"difficulty must be a whole number from 0 to 1000000000, got 10+\.\.\."),
        ({"repeat_action_probability": 1.1}, "repeat_action_probability must lie between 0 and 1, got 1.1"),
        (
            {"repeat_action_probability": "0.1"},
            "repeat_action_probability must lie between 0 and 1, got '0.1'",
        ),
        ({"maxpool": 1}, "maxpool must be true or false, got 1"),
        ({"mode": "hard"}, "mode must be a whole number from 0 to 1000000000, got 'hard'"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(given, says):
    for make in (make_env, lambda *arguments, **more: make_envs(arguments[0], 2, *arguments[1:], **more)):
        with pytest.raises(UsageError, match=says) as caught:
            make(PONG, given, preprocess="v5")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("num_envs", [1, 2])
def test_the_greatest_values_are_played(num_envs):
    greatest = {name: most for name, (_, most) in WHOLE.items() if name not in OWN}
    envs = make_envs(PONG, num_envs, greatest | {"noop_max": 1}, preprocess="nature")
    envs.reset(seed=[1] * num_envs)
    _, _, terminated, truncated, _ = envs.step(np.zeros(num_envs, np.int64))
    assert terminated.all() or not truncated.any()
    envs.close()


def test_a_mode_that_the_game_lacks_is_said_in_one_line():
    with pytest.raises(
        UsageError, match=r"with mode 77, difficulty None: .*allowed: modes 0, 1; diff"
    ) as caught:
        make_env(PONG, {"mode": 77}, preprocess="nature")
    assert "\n" not in str(caught.value)


def test_they_are_for_games_without_wrappers_beneath():
    with pytest.raises(UsageError, match=r"preprocess 'nature' needs a game, ALE/..., not 'CartPole-v1'"):
        make_env("CartPole-v1", preprocess="nature")
    with pytest.raises(
        UsageError, match=r"wrappers gymnasium.wrappers:FlattenObservation go beneath preprocess"
    ):
        make_env(PONG, wrappers=["gymnasium.wrappers:FlattenObservation"], preprocess="nature")


def test_a_name_is_itself_and_auto_stays_gymnasiums_preprocessing():
    assert [resolve_preprocessing(PONG, name) for name in PROTOCOLS] == list(PROTOCOLS)
    assert resolve_preprocessing(PONG, "auto") == "atari"


def test_vector_own_is_that_of_the_games_which_plays_what_single_games_play():
    layers = Layers(preprocess="nature")
    assert other_episodes(PONG, 2, {}, layers, "own") is None
    with pytest.raises(UsageError, match="vector own needs a vectorised form, and ALE/Pong-v5 has none"):
        other_episodes(PONG, 2, {"mode": 0}, layers, "own")
    envs = make_envs(PONG, 2, preprocess="nature", vector="own")
    assert isinstance(envs, GameVector)
    envs.close()
