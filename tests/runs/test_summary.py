"""summary.json: what is copied, counted and divided."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rl_lab.runs.config import RunConfig
from rl_lab.runs.description import RunDescription
from rl_lab.runs.summary import summarise
from rl_lab.storage.state_trees import weights_sha256

SECONDS = {"train_seconds": 2.0, "wall_seconds": 3.0, "cpu_seconds": 4.5, "compile_seconds": 0.5}
WEIGHTS = {"w": np.arange(3.0)}


def summary(**changes):
    config = RunConfig(env_id="FrozenLake-v1", total_steps=300, seed=4, eval_gamma=0.9)
    description = RunDescription("q-learning", {}, config, None, None, {}, config_sha256="abc")
    given = {
        "env_steps": 304, "stopped_early": None, "gradient_steps": 7, "seconds": SECONDS, "episodes": 5,
        "figures": {"eval_return_mean": 0.5, "theirs": [1, 2]}, "weights": WEIGHTS,
    }  # fmt: skip
    return summarise(description, **given | changes)


def test_says_what_was_asked_for_and_what_came_of_it():
    found = summary()
    assert (found["agent"], found["env_id"], found["seed"], found["total_steps"]) == (
        "q-learning", "FrozenLake-v1", 4, 300,
    )  # fmt: skip
    assert (found["env_steps"], found["gradient_steps"], found["episodes"]) == (304, 7, 5)
    assert (found["eval_return_mean"], found["theirs"]) == (0.5, [1, 2])
    assert (found["eval_gamma"], found["config_sha256"]) == (0.9, "abc")
    assert found["weights_sha256"] == weights_sha256(WEIGHTS)
    assert found["peak_rss_mb"] > 10
    assert {"numpy", "torch"} <= found["versions"].keys()
    assert {name: found[name] for name in SECONDS} == SECONDS
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(("seconds", "rate"), [(2.0, 152.0), (0.0, 0.0)])
def test_steps_a_second_are_those_of_training(seconds, rate):
    assert summary(seconds=SECONDS | {"train_seconds": seconds})["env_steps_per_second"] == rate


def test_frames_of_games_are_counted_beside_decisions():
    assert summary(frames_per_step=4)["env_frames"] == 4 * 304
    assert "env_frames" not in summary()


def test_hash_follows_the_weights():
    assert summary(weights={"w": np.arange(3.0) + 1})["weights_sha256"] != summary()["weights_sha256"]
