"""The presets of linear learners keep their word on seeds that they weren't chosen on."""

from __future__ import annotations

import pytest

from runs import learn

SEEDS = (100, 101, 102, 103, 104)
"""On which the presets were tried once they had been chosen; the quickest of them are tried here."""


@pytest.mark.long
@pytest.mark.parametrize(
    ("env_id", "seed", "threshold"), [("MountainCar-v0", 100, -130), ("CartPole-v1", 100, 475)]
)
def test_classic_control_is_solved(env_id, seed, threshold, tmp_path):
    assert seed in SEEDS
    fields = {"preset": f"recommended:{env_id}", "seed": seed, "eval_episodes": 20, "eval_every_steps": 5_000}
    summary = learn(tmp_path / "run", "semi-gradient-sarsa", env_id, **fields).summary
    assert summary["env_steps"] <= 30_000
    assert summary["eval_return_mean"] > threshold
