"""Value iteration, tabular Q-learning and DQN on one-hot states find the same optimum."""

from __future__ import annotations

from typing import Any

import pytest

import rl_lab
from rl_lab.mdp.model import extract_model
from rl_lab.mdp.solve import solve

GAMMA = 0.95
WORLDS: dict[str, tuple[str, dict[str, Any]]] = {
    "FrozenLake": ("FrozenLake-v1", {"is_slippery": False}),
    "GridWorld": ("lab/GridWorld-v0", {"map": "S..#\n.#..\n...G"}),
    "slippery FrozenLake": ("FrozenLake-v1", {}),
    "slippery GridWorld": ("lab/GridWorld-v0", {"map": "S..#\n.#..\n...G", "slip": 0.2}),
}
OPTIMA = {
    "FrozenLake": GAMMA**5,  # 1 at the sixth step
    "GridWorld": GAMMA**4 - 0.01 * sum(GAMMA**t for t in range(5)),  # and each step costs 0.01
}
LEARNERS: dict[str, dict[str, Any]] = {
    "value-iteration": {"total_steps": 1},
    "q-learning": {"total_steps": 10_000, "epsilon_fraction": 0.8},
    "dqn": {
        "total_steps": 6_000, "epsilon_fraction": 0.8, "learning_starts_env_steps": 500,
        "target_period_env_steps": 100,
    },
}  # fmt: skip
MORE = {  # steps where chance has its say
    "slippery FrozenLake": {"q-learning": 50_000, "dqn": 20_000},
    "slippery GridWorld": {"q-learning": 40_000, "dqn": 10_000},
}


def optimum_of(env_id: str, env_kwargs: dict[str, Any]) -> float:
    """By linear programming."""
    model = extract_model(rl_lab.make_env(env_id, env_kwargs))
    assert model is not None
    return float(model.initial @ solve(model, GAMMA, method="linear-programming").v)


@pytest.mark.parametrize(
    ("world", "agent"),
    [
        pytest.param(world, agent, marks=pytest.mark.long if world in MORE or agent == "dqn" else ())
        for world in WORLDS
        for agent in LEARNERS
    ],
)
def test_each_learner_reaches_the_optimum(world, agent, tmp_path):
    env_id, env_kwargs = WORLDS[world]
    fields = {"gamma": GAMMA, "seed": 0, "env_kwargs": env_kwargs, "wandb": "disabled", "video_episodes": 0}
    fields |= {
        "pictures": False,
        "eval_every_steps": 10**6,
        "checkpoint_every_steps": 10**6,
    }  # what counts is the end
    learner = LEARNERS[agent]
    if world not in OPTIMA:
        learner = learner | {"total_steps": MORE[world].get(agent, 1)}
    summary = rl_lab.learn(agent, env_id, run_dir=tmp_path / "run", **fields, **learner).summary
    assert summary["optimal_return"] == pytest.approx(OPTIMA.get(world) or optimum_of(env_id, env_kwargs))
    assert 0 <= summary["regret"] < 0.02
