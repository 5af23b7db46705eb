"""Helpers for tests of recorded transitions: who plays, who watches, and datasets that others wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from rl_lab.agents.random import RandomPolicy
from rl_lab.datasets.dataset import METADATA
from rl_lab.datasets.record import record_dataset
from rl_lab.environments.make import make_env
from rl_lab.types import Decision
from toys import Counting


class Mixed(gymnasium.Env):
    """Observes a tree of arrays and takes vectors; 1 to 8 steps."""

    observation_space = spaces.Dict(
        {
            "a": spaces.Box(-1, 1, (2,), np.float32),
            "b": spaces.Tuple((spaces.Discrete(5), spaces.MultiBinary(3))),
        }
    )
    action_space = spaces.Box(-2, 2, (3,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 9))
        return self._seen(), {}

    def step(self, action):
        self.left -= 1
        return self._seen(), float(action.sum()), self.left == 0, False, {}

    def _seen(self):
        draw = self.np_random
        a = draw.uniform(-1, 1, 2).astype(np.float32)
        return {"a": a, "b": (int(draw.integers(5)), draw.integers(2, size=3, dtype=np.int8))}


class Witness(gymnasium.Wrapper):
    """Keeps all that passes, episode by episode."""

    def __init__(self, env: gymnasium.Env, log: list[dict[str, list[Any]]]):
        super().__init__(env)
        self.log = log

    def reset(self, **kwargs):
        obs, info = self.env.reset(**kwargs)
        self.log.append({"seed": [kwargs["seed"]], "obs": [obs], "mask": [info.get("action_mask")]})
        return obs, info

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        said = {"obs": obs, "mask": info.get("action_mask"), "action": action, "reward": reward}
        for name, value in (said | {"terminated": terminated, "truncated": truncated}).items():
            self.log[-1].setdefault(name, []).append(value)
        return obs, reward, terminated, truncated, info


ENVIRONMENTS = {
    "table": lambda: make_env("FrozenLake-v1"),
    "masked": lambda: make_env("Taxi-v4"),
    "vectors": lambda: make_env("CartPole-v1"),
    "images": lambda: make_env("lab/GridWorldPixels-v0", {"map": "S.\n.G"}),
    "trees": Mixed,
    "cut": Counting,
}


def random_policy(env: gymnasium.Env) -> RandomPolicy:
    return RandomPolicy(env.action_space, lambda: np.random.default_rng(7))


def record_random(make, path: Path, **fields: Any) -> list[dict[str, list[Any]]]:
    """Record random play; return what passed."""
    log: list[dict[str, list[Any]]] = []
    record_dataset(random_policy(make()), lambda: Witness(make(), log), path, **({"episodes": 5} | fields))
    return log


def on_frozen_lake(path: Path, episodes: int = 40, **fields: Any) -> Path:
    record_random(ENVIRONMENTS["table"], path, episodes=episodes, **fields)
    return path


def require_equal(found: Any, expected: list[Any]) -> None:
    """The recorded column is what passed, to the bit and in the space's own dtype."""
    assert not isinstance(found, dict | tuple)
    stacked = np.stack([np.asarray(x) for x in expected])
    assert found.shape == stacked.shape
    assert np.array_equal(found, stacked)


class Always:
    """Takes action 0; its carry counts steps."""

    def __init__(self, space=None):
        self.space = space or spaces.Discrete(4)

    def initial_state(self, num_envs):
        return (np.zeros(num_envs),)

    def act(self, obs, state, is_first, mask=None):
        zero = np.zeros((len(is_first), *self.space.shape), self.space.dtype)
        return Decision(zero, (np.where(is_first, 0, state[0]) + 1,))

    def inspect(self, obs, state, is_first, mask=None):
        return {"q_values": np.zeros((len(is_first), 2)), "probabilities": np.ones((len(is_first), 2)) / 2}


def by_minari(
    path: Path, episodes: list[EpisodeBuffer], observations=None, actions=None, **metadata: Any
) -> Path:
    """Write a dataset with Minari's own code, without anything of ours."""
    lake_spaces = spaces.Discrete(16), spaces.Discrete(4)
    storage = MinariStorage.new(path, observations or lake_spaces[0], actions or lake_spaces[1])
    storage.update_metadata({"dataset_id": "stranger-v0", "minari_version": minari.__version__})
    storage.update_episodes(episodes)
    if metadata:
        known = json.loads((path / METADATA).read_bytes())
        (path / METADATA).write_text(
            json.dumps({k: v for k, v in (known | metadata).items() if v is not None})
        )
    return path


def walk(length: int = 3, **fields: Any) -> EpisodeBuffer:
    """An episode on FrozenLake's numbers that ends by truncation."""
    flags = [False] * (length - 1) + [True]
    given = {
        "observations": np.arange(length + 1), "actions": np.zeros(length, np.int64),
        "rewards": np.ones(length, np.float32), "terminations": [False] * length, "truncations": flags,
        "infos": {"note": ["a"] * (length + 1)},
    }  # fmt: skip
    return EpisodeBuffer(**(given | fields))
