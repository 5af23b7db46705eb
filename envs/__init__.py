"""Environments of the lab; importing this module registers their ids with Gymnasium."""

from __future__ import annotations

from typing import Any

import gymnasium

GRID_STEPS = 200  # time limit of the grid worlds; their default map takes 14 steps
WANDER_STEPS = 1000  # time limit where a random policy takes long to arrive
ENDLESS_STEPS = 100  # time limit of problems that go on for ever
CARTPOLE_STEPS = 500  # that of Gymnasium's CartPole-v1


def _register(env_id: str, entry_point: str, max_episode_steps: int | None, **kwargs: Any) -> None:
    if env_id in gymnasium.registry:  # an entry point may import this module under a second name
        return
    gymnasium.register(id=env_id, entry_point=entry_point, max_episode_steps=max_episode_steps, kwargs=kwargs)


_register("lab/GridWorld-v0", "rl_lab.envs.gridworld:GridWorld", GRID_STEPS, observation="state")
_register(
    "lab/GridWorldCoordinates-v0", "rl_lab.envs.gridworld:GridWorld", GRID_STEPS, observation="coordinates"
)
_register("lab/GridWorldPixels-v0", "rl_lab.envs.gridworld:GridWorld", GRID_STEPS, observation="pixels")

# The examples of Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed.
_register("lab/SuttonGrid5x5-v0", "rl_lab.envs.sutton_grid5x5:SuttonGrid5x5", ENDLESS_STEPS)
_register("lab/SuttonGrid4x4-v0", "rl_lab.envs.sutton_grid4x4:SuttonGrid4x4", GRID_STEPS)
_register("lab/WindyGrid-v0", "rl_lab.envs.windy_grid:WindyGrid", WANDER_STEPS)
_register("lab/Cliff-v0", "rl_lab.envs.cliff:Cliff", WANDER_STEPS)
_register("lab/DynaMaze-v0", "rl_lab.envs.dyna_maze:DynaMaze", WANDER_STEPS)
_register("lab/Gambler-v0", "rl_lab.envs.gambler:Gambler", WANDER_STEPS)
_register("lab/CarRental-v0", "rl_lab.envs.car_rental:CarRental", ENDLESS_STEPS)
_register("lab/RandomWalk-v0", "rl_lab.envs.random_walk:RandomWalk", WANDER_STEPS)
_register(
    "lab/RandomWalk19-v0", "rl_lab.envs.random_walk:RandomWalk", WANDER_STEPS, states=19, left_reward=-1.0
)
_register("lab/Blackjack-v0", "rl_lab.envs.blackjack:Blackjack", None)
_register("lab/Bandit-v0", "rl_lab.envs.bandit:Bandit", None)

# Other problems whose truth is known.
_register("lab/DeepSea-v0", "rl_lab.envs.deep_sea:DeepSea", None)
_register("lab/Garnet-v0", "rl_lab.envs.garnet:Garnet", ENDLESS_STEPS)

# Problems that need memory; each knows its best return with memory and without.
_register("lab/TMaze-v0", "rl_lab.envs.tmaze:TMaze", None)
_register("lab/MemoryChain-v0", "rl_lab.envs.memory_chain:MemoryChain", None)
_register("lab/CartPolePositions-v0", "rl_lab.envs.cartpole_positions:CartPolePositions", CARTPOLE_STEPS)
_register("lab/RepeatPrevious-v0", "rl_lab.envs.repeat_previous:RepeatPrevious", None)
_register("lab/Catch-v0", "rl_lab.envs.catch:Catch", None)
_register("lab/FlickeringGridWorld-v0", "rl_lab.envs.flickering_gridworld:FlickeringGridWorld", GRID_STEPS)
# Labelled examples, to be answered.
_register("lab/Examples-v0", "rl_lab.envs.examples:Examples", None)
