"""An environment that agrees with its model is played for it once; one that doesn't, or another one, always."""

import gymnasium
import pytest
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

from rl_lab.mdp import agreed
from rl_lab.mdp.agreed import find_new_disagreement
from rl_lab.mdp.model import extract_model


class Paying(FrozenLakeEnv):
    """Pays otherwise than its model says."""

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, reward - 0.01, *rest


class Lake(FrozenLakeEnv):
    """A lake of this file."""


def raised(obs, reward, *rest):
    """Return what a step gave, with 1 more reward."""
    return obs, reward + 1, *rest


@pytest.fixture
def played(monkeypatch):
    """What environments were played, as they are."""
    envs, original = [], agreed.find_disagreement

    def find(env, model):
        envs.append(env)
        return original(env, model)

    monkeypatch.setattr(agreed, "find_disagreement", find)
    monkeypatch.setattr(agreed, "_AGREED", set())
    return envs


def found(env):
    env.reset(seed=0)
    return find_new_disagreement(env, extract_model(env))


def test_one_that_agrees_is_played_once(played):
    assert [found(Lake()) for _ in range(3)] == [None] * 3
    assert len(played) == 1


def test_one_that_does_not_agree_is_named_each_time(played):
    answers = [found(Paying()) for _ in range(2)]
    assert len(played) == 2
    assert answers[0] == answers[1]
    assert "reward -0.01" in answers[0]


@pytest.mark.parametrize(
    "other",
    [
        lambda: Lake(is_slippery=False),
        lambda: Lake(desc=["SF", "FG"]),
        lambda: FrozenLakeEnv(),
        lambda: gymnasium.wrappers.TimeLimit(Lake(), 50),
        lambda: gymnasium.make("FrozenLake-v1", reward_schedule=(1, 0, 0)),
    ],
)
def test_another_one_is_played_for_itself(played, other):
    found(Lake())
    found(other())
    assert len(played) == 2


def test_one_with_arguments_that_no_text_tells_is_played_each_time(played):
    gymnasium.register("Told-v0", entry_point=lambda note: Lake())
    try:
        for _ in range(2):
            assert found(gymnasium.make("Told-v0", note=object())) is None
    finally:
        gymnasium.registry.pop("Told-v0")
    assert len(played) == 2


def test_an_instance_with_a_step_of_its_own_is_played_again(played):
    assert found(Lake()) is None
    env, original = Lake(), FrozenLakeEnv.step
    env.step = lambda action: raised(*original(env, action))
    assert "reward 1" in found(env)


def test_a_class_whose_step_was_replaced_is_played_again(played, monkeypatch):
    assert found(Lake()) is None
    original = FrozenLakeEnv.step
    monkeypatch.setattr(Lake, "step", lambda self, action: raised(*original(self, action)))
    assert "reward 1" in found(Lake())
