"""Returns are those of whole games at the environment's own rewards, whatever an agent does to learn from them."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rl_lab.runs.rows import read_episodes
from rl_lab.training.setup import configure, problem_of
from rl_lab.types import UsageError
from runs import learn

LIVES, STEPS_OF_A_LIFE, REWARD = 3, 4, 5.0
GAME = LIVES * STEPS_OF_A_LIFE * REWARD


class Lives(gymnasium.Env):
    """Takes one of three lives after every fourth step, and pays 5 a step; tells its lives as the games of ALE do."""

    observation_space = spaces.Box(0.0, 20.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.ale = SimpleNamespace(lives=lambda: LIVES - self.steps // STEPS_OF_A_LIFE)
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._seen(), {"lives": LIVES}

    def step(self, action):
        self.steps += 1
        return self._seen(), REWARD, self.ale.lives() == 0, False, {"lives": self.ale.lives()}

    def _seen(self):
        return np.array([self.steps], np.float32)


ENV = "raw_returns/Lives-v0"
gymnasium.register(ENV, entry_point=Lives)
DQN = {"replay_capacity": 200, "learning_starts_env_steps": 20, "batch_size": 8, "hidden": (8,)}
PPO = {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "hidden": (8,)}


@pytest.mark.parametrize(
    ("agent", "fields"),
    [
        ("dqn", DQN | {"reward_clip": 1.0, "life_loss_terminates": True}),
        ("dqn", DQN | {"normalise_rewards": True, "num_envs": 2}),
        ("ppo", PPO | {"normalise_rewards": True, "life_loss_terminates": True}),
        ("sb3-dqn", DQN | {"normalise_rewards": True}),
        ("sb3-ppo", PPO | {"normalise_rewards": True, "num_envs": 2}),
        ("sb3-qrdqn", DQN | {"normalise_rewards": True, "n_quantiles": 5}),
        ("sb3-recurrent-ppo", PPO | {"normalise_rewards": True, "memory_size": 4}),
        ("random", {"life_loss_terminates": True}),
    ],
)
def test_lives_and_clipped_or_scaled_rewards_leave_them_alone(tmp_path, agent, fields):
    found = learn(tmp_path, agent, ENV, total_steps=96, device="cpu", **fields)
    rows = read_episodes(tmp_path)
    assert len(rows) >= 96 // 12
    assert {(row["return"], row["length"]) for row in rows} == {(GAME, 12)}
    assert set(found.summary["eval_returns"]) == {GAME}


def one_life(env):
    """Ends an episode with the first life, as Gymnasium's preprocessing of Atari does where it is asked to."""
    found = gymnasium.Wrapper(env)
    found.terminal_on_life_loss = True
    return found


@pytest.mark.parametrize(
    ("wrapper", "named"),
    [
        ("stable_baselines3.common.atari_wrappers:EpisodicLifeEnv", "EpisodicLifeEnv"),
        ("lives_of_this_test:one_life", "Wrapper"),
    ],
)
def test_a_wrapper_that_ends_episodes_with_a_life_is_refused(tmp_path, monkeypatch, wrapper, named):
    """After a lost life SB3's goes on with the game at the reset, whatever seed it is given."""
    monkeypatch.setitem(sys.modules, "lives_of_this_test", sys.modules[__name__])
    with pytest.raises(UsageError, match=f"wrapper {named} ends episodes when a life is lost"):
        learn(tmp_path / "run", "sb3-ppo", ENV, total_steps=96, device="cpu", wrappers=[wrapper], **PPO)


@pytest.mark.parametrize("agent", ["sb3-dqn", "sb3-ppo", "sb3-qrdqn", "sb3-recurrent-ppo"])
def test_sb3_is_not_told_of_lost_lives(agent):
    learner, config = configure(agent, {"env_id": ENV, "life_loss_terminates": True, "device": "cpu"})
    reason = learner.refuse(problem_of(config, learner))
    assert (
        reason == f"{agent} would end the episode when a life is lost (allowed: life_loss_terminates False)"
    )
