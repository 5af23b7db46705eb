"""Linear learners on recorded steps, on actions that start elsewhere, and what is refused from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

import rl_lab
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


WAVES = {"features": "fourier", "total_steps": 200, "trace_decay": 0.5}


@pytest.mark.parametrize(
    ("env_id", "fields", "said"),
    [
        ("MountainCar-v0", {"features": "fourier", "tilings": 4}, r"tilings 4 .* features tiles \(allowed: 8\)"),
        ("MountainCar-v0", {"features": "fourier", "tiles": (4, 4)}, r"tiles \(4, 4\) does nothing"),
        ("MountainCar-v0", {"fourier_order": 5}, "fourier_order 5 does nothing without features fourier"),
        ("MountainCar-v0", {"features": "raw", "tilings": 4}, "tilings 4 does nothing without features tiles"),
        ("FrozenLake-v1", {"tilings": 4}, "tilings 4 does nothing without features tiles"),
        ("FrozenLake-v1", {"fourier_interactions": 2}, "fourier_interactions 2 does nothing"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("agent", ["semi-gradient-q", "lspi"])
def test_fields_of_other_features_are_refused_before_there_is_a_folder(agent, env_id, fields, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        learn(tmp_path / "run", agent, env_id, **fields)
    assert not (tmp_path / "run").exists()


def test_a_run_from_before_fields_of_other_features_were_refused_is_loaded_and_goes_on(tmp_path):
    learn(tmp_path / "run", "semi-gradient-q", "MountainCar-v0", stop_at=100, **WAVES)
    place = tmp_path / "run" / "config.json"
    config = json.loads(place.read_bytes())
    assert config["fields"]["tilings"] == 8
    config["fields"]["tilings"] = 4
    place.write_text(json.dumps(config))
    rl_lab.load_policy(tmp_path / "run")
    assert rl_lab.resume(tmp_path / "run").env_steps == 200
