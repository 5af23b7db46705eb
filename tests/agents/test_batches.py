"""A batch that is larger than the replay is refused by all agents that have one, before anything is written."""

from __future__ import annotations

import pytest

from rl_lab.training.launch import learn
from rl_lab.types import UsageError


@pytest.mark.parametrize(
    ("agent", "fields"),
    [("dqn", {}), ("dqn", {"memory": "lstm"}), ("sb3-dqn", {}), ("clone", {"oracle": True, "held_out": 0})],
)
def test_that_are_larger_than_the_replay_are_refused(tmp_path, agent, fields):
    small = {"replay_capacity": 31, "batch_size": 32, "num_envs": 1, "total_steps": 10, "hidden": (4,)}
    with pytest.raises(
        UsageError, match=r"^batch_size 32 is more than replay_capacity 31 \(allowed: up to 31\)$"
    ):
        learn(agent, "FrozenLake-v1", run_dir=tmp_path / "run", **small, **fields)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("agent", ["dqn", "sb3-dqn"])
def test_that_are_as_large_as_the_replay_or_as_what_is_in_it_are_taken(tmp_path, agent):
    """Zoo presets learn from the first step on: batches hold the same transitions several times."""
    fields = {
        "replay_capacity": 32, "batch_size": 32, "learning_starts_env_steps": 0, "hidden": (4,), "total_steps": 40,
        "eval_episodes": 0, "video_episodes": 0, "pictures": False, "wandb": "disabled",
    }  # fmt: skip
    result = learn(agent, "FrozenLake-v1", run_dir=tmp_path / "run", progress=False, **fields)
    assert result.summary["gradient_steps"] >= 8
