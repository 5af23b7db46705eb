"""Whole runs on Atari: what is recorded is the game, what is learned from is clipped, and a stop loses nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest

import rl_lab
from rl_lab.environments.make import make_env
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.runs.rows import read_actions, read_episodes
from rl_lab.training.registry import preset_fields
from runs import learn

PONG = "ALE/Pong-v5"
SMALL = {
    "hidden": (16,), "eval_episodes": 2, "eval_envs": 2, "eval_max_steps": 60, "eval_total_steps": 120,
    "eval_every_steps": 1000, "checkpoint_every_steps": 400, "keep_best": 0,
}  # fmt: skip
"""Fields that make a run of a preset short."""
DQN = {
    "num_envs": 2, "total_steps": 2000, "replay_capacity": 1500, "learning_starts_env_steps": 400,
    "train_period_env_steps": 50, "target_period_updates": 10, "epsilon_fraction": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    learn(folder, "dqn", PONG, **preset_fields("dqn", "nature") | SMALL | DQN)
    return folder


@pytest.mark.long
class TestTwoThousandDecisions:
    def test_frames_and_decisions_are_counted_apart(self, whole):
        summary = json.loads((whole / "summary.json").read_text())
        assert (summary["env_steps"], summary["env_frames"]) == (2000, 8000)
        assert summary["gradient_steps"] == (2000 - 400) // 50
        assert len(summary["eval_returns"]) == 2
        assert summary["eval_capped_episodes"] == 2

    def test_what_is_recorded_are_the_games_that_were_played(self, whole):
        """Each is played again, alone, from its seed and its actions."""
        episodes = read_episodes(whole)
        assert episodes
        env = make_env(PONG, preprocess="nature")
        for number, episode in enumerate(episodes):
            env.reset(seed=episode["seed"])
            answers = [env.step(action) for action in read_actions(whole, number, env.action_space)]
            assert [terminated for _, _, terminated, *_ in answers] == [False] * (len(answers) - 1) + [True]
            rewards = [reward for _, reward, *_ in answers]
            assert (sum(rewards), len(rewards)) == (episode["return"], episode["length"])
        env.close()

    def test_a_run_that_was_stopped_within_episodes_ends_as_if_it_had_not_been(self, whole, tmp_path):
        folder = tmp_path / "stopped"
        learn(folder, "dqn", PONG, stop_at=900, **preset_fields("dqn", "nature") | SMALL | DQN)
        assert not (folder / "summary.json").exists()
        rl_lab.resume(folder)
        assert fingerprint(folder) == fingerprint(whole)

    def test_the_policy_plays_a_game_of_its_own(self, whole):
        policy = rl_lab.load_policy(whole)
        obs = make_env(PONG, preprocess="nature").reset(seed=1)[0][None]
        assert policy.act(obs, policy.initial_state(1), np.array([True])).action[0] in range(6)


@pytest.mark.long
@pytest.mark.parametrize("agent", ["pqn", "ppo"])
def test_rollouts_of_many_games_are_learned_from_and_resumed(agent, tmp_path):
    fields = preset_fields(agent, {"pqn": "atari", "ppo": "zoo:atari"}[agent]) | SMALL
    fields |= {
        "num_envs": 4,
        "n_steps": 16,
        "batch_size": 64,
        "n_epochs": 1,
        "total_steps": 256,
        "compile": "no",
    }
    fields |= {"env_kwargs": fields.get("env_kwargs", {}) | {"max_num_frames_per_episode": 200}}
    for folder, stop in (("whole", None), ("stopped", 150)):
        learn(tmp_path / folder, agent, PONG, stop_at=stop, **fields)
    rl_lab.resume(tmp_path / "stopped")
    assert fingerprint(tmp_path / "stopped") == fingerprint(tmp_path / "whole")
    assert json.loads((tmp_path / "whole" / "summary.json").read_text())["episodes"] == 4
