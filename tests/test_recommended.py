"""The presets of our own keep their word."""

from __future__ import annotations

import pytest

import rl_lab


@pytest.mark.parametrize("seed", [0, 1])
def test_cartpole_is_solved(seed, tmp_path):
    quiet = {"wandb": "disabled", "video_episodes": 0, "eval_every_steps": 50_000, "eval_episodes": 20}
    summary = rl_lab.learn(
        "dqn", "CartPole-v1", preset="recommended:CartPole-v1", seed=seed, run_dir=tmp_path / "run", **quiet
    ).summary
    assert summary["env_steps"] <= 50_000
    assert summary["eval_return_mean"] >= 475
