"""Value iteration, tabular Q-learning and DQN on one-hot states find the same optimum."""

from __future__ import annotations

import pytest

import rl_lab

GAMMA = 0.95
WORLDS = {
    "FrozenLake": ("FrozenLake-v1", {"is_slippery": False}),
    "GridWorld": ("lab/GridWorld-v0", {"map": "S..#\n.#..\n...G"}),
}
OPTIMA = {
    "FrozenLake": GAMMA**5,  # 1 at the sixth step
    "GridWorld": GAMMA**4 - 0.01 * sum(GAMMA**t for t in range(5)),  # and each step costs 0.01
}
LEARNERS = {
    "value-iteration": {"total_steps": 1},
    "q-learning": {"total_steps": 10_000, "epsilon_fraction": 0.8},
    "dqn": {
        "total_steps": 6_000, "epsilon_fraction": 0.8, "learning_starts_env_steps": 500,
        "target_period_env_steps": 100,
    },
}  # fmt: skip


@pytest.mark.parametrize("agent", LEARNERS)
@pytest.mark.parametrize("world", WORLDS)
def test_each_learner_reaches_the_optimum(world, agent, tmp_path):
    env_id, env_kwargs = WORLDS[world]
    fields = {"gamma": GAMMA, "seed": 0, "env_kwargs": env_kwargs, "wandb": "disabled", "video_episodes": 0}
    summary = rl_lab.learn(agent, env_id, run_dir=tmp_path / "run", **fields, **LEARNERS[agent]).summary
    assert summary["optimal_return"] == pytest.approx(OPTIMA[world])
    assert 0 <= summary["regret"] < 0.02
