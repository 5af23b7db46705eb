"""The agents for the average reward: what they keep of a solution, and how they act and refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest

import rl_lab
from rl_lab.mdp.average_reward import AVERAGE_METHODS, solve_average
from rl_lab.mdp.model import extract_model

BRIEF = {"wandb": "disabled", "video_episodes": 0, "pictures": False, "eval_episodes": 2, "total_steps": 1}


@pytest.mark.parametrize("agent", AVERAGE_METHODS)
def test_the_policy_is_that_of_the_solution_and_rows_tell_its_gain(agent, tmp_path):
    rl_lab.learn(agent=agent, env_id="FrozenLake-v1", run_dir=tmp_path / "run", **BRIEF)
    solution = solve_average(extract_model(rl_lab.make_env("FrozenLake-v1")), agent)
    policy = rl_lab.load_policy(tmp_path / "run")
    states, first = np.arange(16), np.ones(16, dtype=bool)
    assert policy.act(states, (), first).action.tolist() == solution.policy.tolist()
    assert policy.inspect(states, (), first) == {}  # there is no discounted value to compare with
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    told = [row for row in rows if "gain" in row]
    assert (told[-1]["gain"], told[-1]["bound"]) == (solution.gain, solution.bound)
    assert len(told) > solution.sweeps > 1


def test_it_solves_another_problem_than_the_discounted_one(tmp_path):
    result = rl_lab.learn(
        agent="average-policy-iteration", env_id="FrozenLake-v1", run_dir=tmp_path / "run", **BRIEF
    )
    assert result.summary["regret"] == pytest.approx(0.0219012, abs=1e-6)
    assert result.summary["value_error_max"] is None


@pytest.mark.parametrize(
    ("env_id", "named"),
    [
        ("odd_models:odd/OneWay-v0", "multichain: no policy goes from state 0 to state 1 and back"),
        ("CartPole-v1", "average-policy-iteration needs a finite MDP, and CartPole-v1 gives no model"),
    ],
)
def test_what_has_no_one_average_is_refused_in_a_line(env_id, named, tmp_path):
    with pytest.raises(rl_lab.UsageError, match=f"^{named}"):
        rl_lab.learn(agent="average-policy-iteration", env_id=env_id, run_dir=tmp_path / "run", **BRIEF)


@pytest.mark.parametrize(
    ("agent", "named"),
    [
        ("value-iteration", r"residual.*\(allowed: more max_sweeps, a larger tolerance, a smaller gamma\)$"),
        ("relative-value-iteration", r"gain.*\(allowed: more max_sweeps, a larger tolerance\)$"),
    ],
)
def test_too_few_sweeps_are_said_in_a_line_that_names_what_helps(agent, named, tmp_path):
    with pytest.raises(rl_lab.UsageError, match=rf"stopped after max_sweeps = 1 with .*{named}"):
        rl_lab.learn(agent=agent, env_id="FrozenLake-v1", max_sweeps=1, run_dir=tmp_path / "run", **BRIEF)
