"""Linear learners on recorded steps, on actions that start elsewhere, and what is refused from the command line."""

from __future__ import annotations

import numpy as np
import pytest

from by_hand import agent_for
from mirrors import Mirror
from recorded import record_random
from rl_lab.agents.linear import build_lspi, build_lstd, build_q, build_sarsa
from rl_lab.environments.make import make_env
from rl_lab.types import UsageError
from runs import learn
from toys import interact, problem_on

MAZE = {"map": "S..\n.#.\n..G"}


def test_policy_iteration_finds_the_optimum_in_the_steps_of_a_random_policy(tmp_path):
    record_random(lambda: make_env("lab/GridWorld-v0", MAZE), tmp_path / "data", episodes=20)
    fields = {
        "dataset": str(tmp_path / "data"),
        "total_steps": 400,
        "update_period_env_steps": 400,
        "ridge": 1e-6,
    }
    found = learn(tmp_path / "run", "lspi", "lab/GridWorld-v0", env_kwargs=MAZE, **fields)
    assert found.summary["regret"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("agent", ["semi-gradient-sarsa", "lstd", "bandit-gradient"])
def test_what_learns_about_its_own_policy_takes_no_dataset(agent, tmp_path):
    with pytest.raises(UsageError, match=f"agent '{agent}' can't learn from dataset"):
        learn(tmp_path / "run", agent, "FrozenLake-v1", dataset=str(tmp_path))


@pytest.mark.parametrize("build", [build_sarsa, build_q, build_lstd, build_lspi])
def test_actions_and_observations_that_start_elsewhere_are_learned(build):
    problem = problem_on(lambda: Mirror("Discrete from -2"), total_steps=300)
    period = {"update_period_env_steps": 300} if build in (build_lstd, build_lspi) else {}
    agent = interact(agent_for(build, problem, gamma=0.0, **period)[0], problem)
    greedy = agent.policy(explore=False).act(np.array([-2, -1, 0]), (), np.ones(3, bool))
    assert greedy.action.tolist() == [-2, -1, 0]
