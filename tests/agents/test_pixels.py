"""Learning from pixels alone ends near the exact optimum."""

from __future__ import annotations

import time

import pytest

import rl_lab

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
