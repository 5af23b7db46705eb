"""Environments of the lab; importing this module registers their ids with Gymnasium."""

from __future__ import annotations

import gymnasium

GRID_STEPS = 200  # time limit of the grid worlds; their default map takes 14 steps


def _register(env_id: str, observation: str) -> None:
    if env_id in gymnasium.registry:  # an entry point may import this module under a second name
        return
    gymnasium.register(
        id=env_id,
        entry_point="envs.gridworld:GridWorld",
        max_episode_steps=GRID_STEPS,
        kwargs={"observation": observation},
    )


_register("lab/GridWorld-v0", "state")
_register("lab/GridWorldCoordinates-v0", "coordinates")
_register("lab/GridWorldPixels-v0", "pixels")
