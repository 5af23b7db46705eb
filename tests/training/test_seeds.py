"""Many seeds of an agent in memory: exact curves, and the tables of single simulated runs."""

from __future__ import annotations

import numpy as np
import pytest

import rl_lab
from rl_lab.training import simulation
from rl_lab.types import UsageError


def test_each_seed_learns_what_a_simulated_run_learns(tmp_path):
    found = rl_lab.simulate(
        "q-learning", "FrozenLake-v1", seeds=[4, 8], total_steps=3_000, evaluate_every=1_000
    )
    assert (found.seeds, found.env_steps.tolist()) == ((4, 8), [1_000, 2_000, 3_000])
    run = rl_lab.learn(
        "q-learning", "FrozenLake-v1", simulated=True, seed=8, total_steps=3_000, run_dir=tmp_path / "run",
        eval_episodes=0, video_episodes=0, pictures=False, wandb="disabled", progress=False,
    )  # fmt: skip
    told = run.policy.inspect(np.arange(16), (), np.ones(16, bool))
    assert np.array_equal(told["q_values"], found.q[1])
    assert found.regret[1, -1] == pytest.approx(run.summary["regret"], abs=1e-12)
    assert found.optimal_return == pytest.approx(run.summary["optimal_return"], rel=1e-12)


def test_an_undiscounted_policy_that_loses_for_ever_has_an_infinite_regret():
    found = rl_lab.simulate("q-learning", "CliffWalking-v1", seeds=2, total_steps=200, gamma=1.0)
    assert found.optimal_return == -13.0
    assert (found.greedy_return == -np.inf).any()
    assert not np.isnan(found.regret).any()
    assert np.array_equal(found.regret == np.inf, found.greedy_return == -np.inf)


def test_fields_and_numbers_of_seeds_are_checked():
    for wrong in (0, np.int64(0), 2.5, None):
        with pytest.raises(UsageError, match="seeds must be"):
            rl_lab.simulate("q-learning", "FrozenLake-v1", seeds=wrong)
    with pytest.raises(UsageError, match="simulated needs a finite MDP"):
        rl_lab.simulate("q-learning", "Blackjack-v1", seeds=2)
    with pytest.raises(UsageError, match="simulated"):
        rl_lab.simulate("random", "FrozenLake-v1", seeds=2)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"num_seeds": 0}, r"num_seeds 0 is not a field here \(allowed: seeds\)"),
        ({"seeds": []}, r"seeds must be one or more, got \[\]"),
        ({"seeds": 10**12}, "seeds must be at most 10000000, got 1000000000000"),
        ({"agent": 5}, "agent must be text, got 5"),
        ({"agent": "random"}, r"agent 'random' can't be simulated \(allowed: tabular agents"),
        ({"agent": "q-lerning"}, r"unknown agent 'q-lerning' \(close: q-learning"),
        ({"evaluate_every": 0}, "evaluate_every must be at least 1, got 0"),
        ({"evaluate_every": "x"}, "evaluate_every must be a whole number, got 'x'"),
        (
            {"evaluate_every": 1, "total_steps": 10**15},
            r"evaluate_every 1 is too .*\(allowed: from 1000000000\)",
        ),
        (
            {"run_dir": "runs/nope"},
            r"run_dir 'runs/nope' does nothing in rl_lab.simulate \(allowed: in rl_lab.learn",
        ),
        ({"eval_episodes": 7}, "eval_episodes 7 does nothing in rl_lab.simulate"),
        ({"seed": 3}, r"seed 3 does nothing in rl_lab.simulate \(allowed: seeds\)"),
        ({"total_steps": 10**20}, "total_steps must be at most 1000000000000000, got 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_line(fields, says):
    given = {"agent": "q-learning", "env_id": "FrozenLake-v1", "seeds": 2, "total_steps": 10} | fields
    with pytest.raises(UsageError, match=says):
        rl_lab.simulate(**given)


def test_more_seeds_than_the_memory_holds_are_refused_with_the_number_that_would_fit(monkeypatch):
    monkeypatch.setattr(simulation, "free_memory", lambda: 100_000_000)
    with pytest.raises(
        UsageError, match=r"50 seeds .* need 0\.3 GB, 0\.1 GB may be used \(allowed: up to 12 at once\)"
    ):
        rl_lab.simulate("learned-prioritised-sweeping", "Taxi-v4", seeds=50)
