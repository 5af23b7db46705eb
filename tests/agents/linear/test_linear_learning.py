"""The presets of linear learners keep their word on seeds that they weren't chosen on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from rl_lab.training.registry import preset_fields
from runs import learn

ROOT = Path(__file__).parents[3]

THRESHOLDS = {"MountainCar-v0": -130, "CartPole-v1": 475}
LEAST = {"MountainCar-v0": -150, "CartPole-v1": 400}  # of a single seed, in 20 episodes
SEEDS = (100, 101, 102, 103, 104)
"""On which the presets were tried once they had been chosen."""


@pytest.mark.long
@pytest.mark.parametrize("env_id", THRESHOLDS)
def test_classic_control_is_solved(env_id, tmp_path):
    """On average: single seeds come as near to the threshold of MountainCar as -125."""
    fields = {"preset": f"recommended:{env_id}", "eval_episodes": 20, "eval_every_steps": 30_000}
    runs = [
        learn(tmp_path / str(seed), "semi-gradient-sarsa", env_id, seed=seed, **fields).summary
        for seed in SEEDS
    ]
    assert all(run["env_steps"] <= 30_000 for run in runs)
    returns = [run["eval_return_mean"] for run in runs]
    assert np.mean(returns) > THRESHOLDS[env_id]
    assert min(returns) > LEAST[env_id]


def test_the_page_says_what_was_measured():
    page = (ROOT / "docs" / "linear.md").read_text(encoding="utf8")
    measured = json.loads((ROOT / "scripts" / "results" / "linear.json").read_bytes())["studies"]
    assert {study["env_id"] for study in measured} == set(THRESHOLDS)
    for study in measured:
        env_id, returns = study["env_id"], study["eval_return_mean_by_seed"]
        assert study["total_steps"] == preset_fields(study["agent"], study["preset"])["total_steps"]
        assert tuple(study["seeds"]) == SEEDS
        assert min(returns) > THRESHOLDS[env_id]
        row = re.search(rf"^\| {env_id} \|.*$", page, re.MULTILINE)
        assert row is not None
        told = [float(x) for x in re.findall(r"-?\d+(?:\.\d+)?", row[0].split("|")[4])]
        assert told == pytest.approx(returns, abs=0.05)
