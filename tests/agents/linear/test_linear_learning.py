"""The presets of linear learners keep their word on seeds that they weren't chosen on; the page tells of each one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from rl_lab.training.registry import preset_fields, presets_of, seeds_chosen_on
from runs import learn

ROOT = Path(__file__).parents[3]
STUDIES = json.loads((ROOT / "scripts" / "results" / "linear.json").read_bytes())["studies"]
AGENTS = ("semi-gradient-sarsa", "semi-gradient-q", "lstd", "lspi")
THRESHOLDS = {"MountainCar-v0": -130, "CartPole-v1": 475}  # of the mean over the seeds
LEAST = {"MountainCar-v0": -150, "CartPole-v1": 400}  # of a single seed, in 20 episodes
SEEDS = {agent: range(100, 105) if agent == AGENTS[0] else range(30_000, 30_005) for agent in AGENTS}
"""On which each was tried once its fields had been chosen."""


def reached(study) -> bool:
    return np.mean(study["eval_return_mean_by_seed"]) > THRESHOLDS[study["env_id"]]


@pytest.mark.long
@pytest.mark.parametrize(
    ("agent", "env_id"), [(study["agent"], study["env_id"]) for study in STUDIES if reached(study)]
)
def test_classic_control_is_solved(agent, env_id, tmp_path):
    """On average: single seeds come as near to the threshold of MountainCar as -125, or don't reach it.

    Rounding, which isn't the same on all machines, decides what single seeds of least squares find: so their median.
    """
    fields, middle = {"preset": f"recommended:{env_id}", "eval_episodes": 20}, np.median
    if agent in ("semi-gradient-sarsa", "semi-gradient-q"):  # the others need the best policy
        fields["eval_every_steps"], middle = 30_000, np.mean
    runs = [learn(tmp_path / str(seed), agent, env_id, seed=seed, **fields).summary for seed in SEEDS[agent]]
    assert all(run["env_steps"] <= 30_000 for run in runs)
    returns = [run["eval_return_mean"] for run in runs]
    assert middle(returns) > THRESHOLDS[env_id]
    assert middle is np.median or min(returns) > LEAST[env_id]


def test_the_page_says_what_was_measured():
    page = (ROOT / "docs" / "linear.md").read_text(encoding="utf8")
    found = re.findall(r"^\| `([\w-]+)` \| (\S+-v\d) \|(.*)\|$", page, re.MULTILINE)
    rows = {(agent, env_id): cells.split("|") for agent, env_id, cells in found}
    assert set(rows) == {(agent, env_id) for agent in AGENTS for env_id in THRESHOLDS}
    assert len(STUDIES) == len(rows)
    for study in STUDIES:
        _, steps, returns, verdict = rows[study["agent"], study["env_id"]]
        assert int(steps.replace(",", "")) == study["total_steps"]
        told = [float(x) for x in re.findall(r"-?\d+(?:\.\d+)?", returns)]
        assert told == pytest.approx(study["eval_return_mean_by_seed"], abs=0.051)
        assert verdict.split()[0] == ("yes," if reached(study) else "no,")
        assert float(verdict.split()[1]) == THRESHOLDS[study["env_id"]]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: f"{study['agent']}-{study['env_id']}")
def test_what_reaches_its_threshold_is_a_preset_and_was_measured_on_other_seeds(study):
    agent, preset = study["agent"], f"recommended:{study['env_id']}"
    assert tuple(study["seeds"]) == tuple(SEEDS[agent])
    assert (preset in presets_of(agent)) == reached(study)
    if reached(study):
        fields, tuned = preset_fields(agent, preset), seeds_chosen_on(agent, preset)
        assert (study["preset"], study["total_steps"]) == (preset, fields["total_steps"])
        assert tuned
        assert not set(study["seeds"]) & set(tuned)
    else:
        assert study["fields"]["total_steps"] == study["total_steps"]
        assert study["chosen_on_seeds"]
