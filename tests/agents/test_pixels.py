"""Learning from pixels alone ends near the exact optimum."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import rl_lab

ROOT = Path(__file__).parents[2]
MAP = "S....\n.#.#.\n.#P..\n...#.\n....G"  # eight moves to the goal; images uint8 [40, 40, 3]
# Values are learned off-policy from random play, which finds goal and pit. A fine convolution sees each
# cell, and layer normalisation keeps the floor, which all images share, from drowning the agent.
FIELDS = {
    "num_envs": 8, "encoder": "minatar", "hidden": (64,), "layer_norm": True, "double": True, "prioritised": True,
    "n_steps": 2, "gamma": 0.95, "eval_gamma": 0.99, "epsilon_initial": 1.0, "epsilon_final": 1.0, "batch_size": 32,
    "learning_rate": 1e-3, "learning_starts_env_steps": 1_600, "train_period_env_steps": 16,
    "target_period_env_steps": 320, "replay_capacity": 12_800, "compile": "no",
}  # fmt: skip
# Greedy play is all or nothing while values still move, so that training stops where it is right: the shortest way
# takes eight moves, and a return of 0.9 ten.
STOP = {"eval_every_steps": 800, "eval_episodes": 2, "stop_at_return": 0.9}
QUIET = {"wandb": "disabled", "video_episodes": 0, "pictures": False}


@pytest.mark.long
def test_a_grid_world_is_solved_from_pixels_in_three_minutes_of_a_processor(tmp_path):
    begun = time.process_time()
    summary = rl_lab.learn(
        "dqn", "lab/GridWorldPixels-v0", env_kwargs={"map": MAP}, run_dir=tmp_path / "run", total_steps=12_800,
        seed=0, device="cpu", **FIELDS | STOP | QUIET,
    ).summary  # fmt: skip
    assert time.process_time() - begun < 180
    assert summary["regret"] < 0.05


# As on the page of PQN, on a seed that they weren't chosen on.
DEFAULT_MAP = {
    "num_envs": 64, "encoder": "cnn", "hidden": (256,), "gamma": 0.97, "eval_gamma": 0.99, "epsilon_initial": 1.0,
    "epsilon_final": 0.1, "epsilon_fraction": 0.7, "eval_every_steps": 20_000, "eval_episodes": 2,
    "stop_at_return": 0.7, "compile": "no",
}  # fmt: skip


@pytest.mark.long
def test_the_default_map_is_solved_from_pixels_in_three_minutes_of_a_processor(tmp_path):
    begun = time.process_time()
    summary = rl_lab.learn(
        "pqn", "lab/GridWorldPixels-v0", run_dir=tmp_path / "run", total_steps=500_000, seed=3, device="cpu",
        **DEFAULT_MAP | QUIET,
    ).summary  # fmt: skip
    assert time.process_time() - begun < 180
    assert summary["regret"] < 0.05


def test_the_page_says_what_was_kept():
    kept = json.loads((ROOT / "scripts" / "results" / "pixels.json").read_bytes())
    page = " ".join((ROOT / "docs" / "agents" / "pqn.md").read_text(encoding="utf8").split())
    assert [run["seed"] for run in kept["runs"]] == [0, 1, 2]
    assert {run["regret"] for run in kept["runs"]} == {0.0}
    assert "with a regret of 0, on seeds 0, 1 and 2 (the settings were chosen on seed 0)" in page
    first, second, third = (round(run["process_cpu_seconds"]) for run in kept["runs"])
    assert f"in {first}, {second} and {third} seconds of one core" in page
    steps = [round(run["env_steps"], -4) for run in kept["runs"]]
    assert f"after {min(steps):,} to {max(steps):,} steps" in page
    for name, value in DEFAULT_MAP.items() - {("compile", "no")}:
        shown = (
            " ".join(map(str, value))
            if isinstance(value, tuple)
            else f"{value:g}"
            if not isinstance(value, str)
            else value
        )
        assert f"--{name.replace('_', '-')} {shown} " in kept["command"]
