"""A small grid world to imitate."""

from __future__ import annotations

from rl_lab.environments.make import make_envs
from rl_lab.problem import Problem

GRID = {"env_kwargs": {"map": "S...\n.#..\n...#\nP..G"}, "num_envs": 4, "hidden": (32,), "batch_size": 32}


def grid_problem(observation: str = "GridWorld") -> Problem:
    def make(n):
        return make_envs(f"lab/{observation}-v0", n, env_kwargs=GRID["env_kwargs"])

    return Problem("toy", {}, 2, 1000, 0, "cpu", make)
