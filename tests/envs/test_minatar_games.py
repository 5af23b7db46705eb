"""MinAtar's games as the lab registers them: episodes are functions of their seeds and actions, and can be filmed.

Each test plays a stand-in with minatar's interface, and minatar's own games.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from types import ModuleType

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import rl_lab
from counting import Scripted
from rl_lab.environments.check_env import check_env
from rl_lab.environments.make import make_env, make_envs
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.problem import frames_per_step_of
from rl_lab.runs.fingerprint import fingerprint
from runs import asking_to_stop, differences, learn

ADAPTER = "rl_lab.envs.minatar_games"
ENV_ID = "MinAtar/Asterix-v1"


class Game:
    """Up to 12 steps; as in minatar's, a sticky action repeats the last one, which survives a reset."""

    def __init__(self):
        self.random, self.last_action, self.place = np.random.RandomState(), 0, 0

    def act(self, action):
        if self.random.rand() < 0.4:
            action = self.last_action
        self.last_action = action
        self.place, self.steps = (3 * self.place + action) % 10, self.steps + 1
        return action, self.steps == 12


class StandIn(gymnasium.Env):
    """What minatar.gym:BaseEnv is to the lab."""

    observation_space = spaces.Box(0.0, 1.0, (10, 10, 1), dtype=bool)

    def __init__(self, game, render_mode=None, use_minimal_action_set=False):
        assert game in ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
        self.render_mode, self.game = render_mode, Game()
        self.action_space = spaces.Discrete(4 if use_minimal_action_set else 6)

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.game.random = np.random.RandomState(seed)
        self.game.place, self.game.steps = self.game.random.randint(10), 0
        return self._seen(), {}

    def step(self, action):
        return self._seen(), *self.game.act(int(action)), False, {}

    def _seen(self):
        seen = np.zeros((10, 10, 1), bool)
        seen[self.game.place] = True
        return seen

    def render(self):
        return None if self.render_mode is None else np.where(self._seen(), [0.2, 0.4, 1.0], 0.0)


def stand_in() -> dict[str, ModuleType]:
    package, gym = ModuleType("minatar"), ModuleType("minatar.gym")
    gym.BaseEnv, package.gym = StandIn, gym  # type: ignore[attr-defined]
    return {"minatar": package, "minatar.gym": gym}


@pytest.fixture(params=["a stand-in", "minatar"])
def games(request, monkeypatch):
    """Register the games anew, for this test alone."""
    registered = {
        env_id: spec for env_id, spec in gymnasium.registry.items() if env_id.startswith("MinAtar/")
    }
    for name, module in stand_in().items() if request.param == "a stand-in" else ():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, ADAPTER, raising=False)
    for env_id in registered:
        del gymnasium.registry[env_id]
    import_module(ADAPTER)
    yield request.param
    for env_id in [env_id for env_id in gymnasium.registry if env_id.startswith("MinAtar/")]:
        del gymnasium.registry[env_id]
    gymnasium.registry.update(registered)
    sys.modules.pop(ADAPTER)


def wandering(obs, mask):
    """An action that depends on what is seen, and is rarely the same twice."""
    return int(np.flatnonzero(obs).sum() % 4)


def test_a_step_is_a_frame(games):
    assert frames_per_step_of(make_env(ENV_ID)) == 1


def test_an_episode_is_the_same_at_every_width(games):
    played = []
    for width in (1, 2, 5):
        envs = make_envs(ENV_ID, width)
        found = evaluate(Scripted(wandering), envs, episodes=60, seed=3, max_steps=200)
        played.append((found.returns.tolist(), found.lengths.tolist()))
        envs.close()
    assert played[0] == played[1] == played[2]


@pytest.mark.parametrize("version", [0, 1])
def test_an_episode_is_played_again_to_the_bit(games, version):
    found = {one.check: one for one in check_env(partial(make_env, f"MinAtar/Breakout-v{version}"))}
    assert {one.verdict for one in found.values()} <= {"ok", "note"}
    assert (found["replay"].verdict, found["replay"].text[-10:]) == ("ok", "to the bit")


@pytest.mark.parametrize("game", ["Freeway", "Seaquest", "SpaceInvaders"])
def test_the_other_games_are_played_again_to_the_bit(game):
    """Seeded episodes are the same whatever was played before, and differ with the seed."""
    played = []
    for seed in (3, 3, 4):
        seen: list[int] = []

        def noting(obs, mask, seen=seen):
            seen.append(int(np.flatnonzero(obs).sum()))
            return seen[-1] % 4

        envs = make_envs(f"MinAtar/{game}-v0", 2)
        evaluate(Scripted(wandering), envs, episodes=2, seed=9, max_steps=1 + 50 * len(played))
        found = evaluate(Scripted(noting), envs, episodes=4, seed=seed, max_steps=200)
        played.append((found.returns.tolist(), found.lengths.tolist(), seen))
        envs.close()
    assert played[0] == played[1] != played[2]
    assert len(set(played[0][2])) > 20


@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_resumed_run_equals_the_uninterrupted_one(games, tmp_path, num_envs):
    fields = {"total_steps": 300, "num_envs": num_envs, "seed": 4, "eval_episodes": 1}
    learn(tmp_path / "whole", "random", ENV_ID, **fields)
    learn(tmp_path / "cut", "random", ENV_ID, stop_at=60, **fields)
    for stop in (*range(90, 300, 30), None):
        with asking_to_stop(stop):
            rl_lab.resume(tmp_path / "cut")
    assert differences(fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "cut")) == set()


def test_a_new_game_takes_no_action_for_its_last(games):
    """The adapter begins every episode so."""
    env = gymnasium.make(ENV_ID)
    assert env.unwrapped.game.last_action == import_module(ADAPTER).NO_ACTION


def test_pictures_are_large_enough_to_be_watched(games):
    env = make_env(ENV_ID, render_mode="rgb_array")
    env.reset(seed=1)
    picture = env.render()
    assert (picture.shape, picture.dtype) == ((200, 200, 3), np.uint8)
    assert 2 <= len(np.unique(picture.reshape(-1, 3), axis=0)) <= 12
    cells = picture.reshape(10, 20, 10, 20, 3).transpose(0, 2, 1, 3, 4).reshape(100, 400, 3)
    assert (cells == cells[:, :1]).all()  # each is of one colour
    assert picture.max() > 60


def test_version_0_has_all_actions_and_version_1_those_that_do_something(games):
    names = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
    assert [make_env(f"MinAtar/{name}-v0").action_space.n for name in names] == [6] * 5
    if games == "minatar":
        plain = [make_env(f"MinAtar/{name}-v0").unwrapped.game for name in names]
        assert {game.sticky_action_prob for game in plain} == {0.1}
        assert [getattr(game.env, "ramping", None) for game in plain] == [True, None, None, True, True]
        assert [make_env(f"MinAtar/{name}-v1").action_space.n for name in names] == [5, 3, 3, 6, 4]
