"""Wrappers by name: applied from the inside out, refused in a line, and part of the run."""

from __future__ import annotations

import sys

import gymnasium
import numpy as np
import pytest

import rl_lab
from rl_lab.environments.make import make_env
from rl_lab.environments.named_wrappers import wrapped
from rl_lab.runs.config import RunConfig
from rl_lab.types import UsageError
from runs import learn

MODULE = """
from gymnasium.wrappers import TransformReward

class Doubled(TransformReward):
    def __init__(self, env):
        super().__init__(env, lambda r: 2 * r)

def plus_one(env):
    return TransformReward(env, lambda r: r + 1)

def nothing(env):
    return None

def picky(env):
    raise ValueError("not\\nthis")

number = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "own_wrappers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_wrappers", None)


def first_reward(names) -> float:
    env = wrapped(gymnasium.make("CartPole-v1"), names)
    env.reset(seed=0)
    return env.step(0)[1]


def test_are_applied_from_the_inside_out():
    assert first_reward([]) == 1.0
    assert first_reward(["own_wrappers:Doubled", "own_wrappers:plus_one"]) == 3.0
    assert first_reward(["own_wrappers:plus_one", "own_wrappers:Doubled"]) == 4.0


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Doubled", "wrapper 'Doubled' must be module:Class"),
        ("own_wrappers:", "must be module:Class"),
        ("no_such_module:X", "module 'no_such_module' can't be imported: ModuleNotFoundError"),
        ("own_wrappers:Nope", "module 'own_wrappers' has no class 'Nope'"),
        ("own_wrappers:number", "has no class 'number'"),
        ("own_wrappers:nothing", "returned NoneType"),
        ("own_wrappers:picky", "doesn't take .*: not this$"),
        ("gymnasium.wrappers:TimeLimit", "doesn't take .*max_episode_steps"),
        ("gymnasium.wrappers:NormalizeReward", "remembers across episodes"),
    ],
)
def test_others_are_refused_in_a_line(name, says):
    with pytest.raises(UsageError, match=says) as refused:
        make_env("CartPole-v1", wrappers=[name])
    assert "\n" not in str(refused.value)


def test_are_found_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "wrappers_of_here.py").write_text("def same(env):\n    return env\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    assert isinstance(make_env("CartPole-v1", wrappers=["wrappers_of_here:same"]), gymnasium.Env)


@pytest.mark.parametrize("agent", ["q-learning", "sb3-dqn"])
def test_are_part_of_the_run(tmp_path, agent):
    result = learn(tmp_path, agent, "FrozenLake-v1", total_steps=300, wrappers=["own_wrappers:plus_one"])
    assert min(result.summary["eval_returns"]) >= 1.0
    assert result.summary["optimal_return"] is None  # the model doesn't know of the wrapper
    envs = rl_lab.make_envs("FrozenLake-v1", **RunConfig("x", wrappers="own_wrappers:plus_one").env_arguments)
    envs.reset(seed=[0])
    assert envs.step(np.array([0]))[1] == 1.0


@pytest.mark.parametrize("given", [3, [3], {"a": "b"}])
def test_what_holds_no_names_is_refused(given):
    with pytest.raises(UsageError, match="wrappers must be names"):
        RunConfig("CartPole-v1", wrappers=given)
