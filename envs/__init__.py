"""The lab's environments. Importing this package registers their ids with Gymnasium, and loads none of them.

`sutton_barto` holds the book's examples, `memory` the problems that need memory, `drawing` all pictures; other
environments and what they are built on stand directly in here. Making and wrapping them is up to
`rl_lab.environments`.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from rl_lab.envs.time_limits import CARTPOLE_STEPS, CONTINUING_STEPS, GRID_STEPS, STAR_STEPS, WANDER_STEPS


def _vector_entry_point(entry_point: str, vector: str | bool) -> str | None:
    """Return where the vectorised form of an environment is made; see `_register`."""
    if vector is True:
        return f"rl_lab.envs.vectorised:{entry_point.replace(':', '.')}"
    return f"rl_lab.envs.{vector}" if vector else None


def _register(
    name: str,
    entry_point: str,
    max_episode_steps: int | None,
    *,
    vector: str | bool = True,
    **kwargs: Any,
) -> None:
    """Register `lab/<name>-v0`.

    Args:
        entry_point: "module:class" within this package.
        vector: that of the vectorised form, as "module:class". True: the class has a method `world`. False: there is no
            such form.
    """
    env_id = f"lab/{name}-v0"
    if env_id in gymnasium.registry:  # this package is being imported again
        return
    gymnasium.register(
        id=env_id,
        entry_point=f"rl_lab.envs.{entry_point}",
        vector_entry_point=_vector_entry_point(entry_point, vector),
        max_episode_steps=max_episode_steps,
        kwargs=kwargs,
    )


_register("GridWorld", "gridworld:GridWorld", GRID_STEPS, observation="state")
_register("GridWorldCoordinates", "gridworld:GridWorld", GRID_STEPS, observation="coordinates")
_register("GridWorldPixels", "gridworld:GridWorld", GRID_STEPS, observation="pixels")

# Examples of Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed.
_register("SuttonGrid5x5", "sutton_barto.grid5x5:SuttonGrid5x5", CONTINUING_STEPS)
_register("SuttonGrid4x4", "sutton_barto.grid4x4:SuttonGrid4x4", GRID_STEPS)
_register("WindyGrid", "sutton_barto.windy_grid:WindyGrid", WANDER_STEPS)
_register("Cliff", "sutton_barto.cliff:Cliff", WANDER_STEPS)
_register("DynaMaze", "sutton_barto.dyna_maze:DynaMaze", WANDER_STEPS)
_register("Gambler", "sutton_barto.gambler:Gambler", WANDER_STEPS)
_register("CarRental", "sutton_barto.car_rental:CarRental", CONTINUING_STEPS)
_register("RandomWalk", "sutton_barto.random_walk:RandomWalk", WANDER_STEPS)
_register("RandomWalk19", "sutton_barto.random_walk:RandomWalk", WANDER_STEPS, states=19, left_reward=-1.0)
_register("Blackjack", "sutton_barto.blackjack:Blackjack", None)
_register("MaximisationBias", "sutton_barto.maximisation_bias:MaximisationBias", None)
_register("Bandit", "sutton_barto.bandit:Bandit", None)
_register("Baird", "sutton_barto.baird:Baird", STAR_STEPS)

# Other problems with known solutions.
_register("DeepSea", "deep_sea:DeepSea", None)
_register("Garnet", "garnet:Garnet", CONTINUING_STEPS)

# Problems that need memory.
_register("TMaze", "memory.tmaze:TMaze", None)
_register("MemoryChain", "memory.memory_chain:MemoryChain", None)
_register(
    "CartPolePositions", "memory.cartpole_positions:CartPolePositions", CARTPOLE_STEPS,
    vector="memory.cartpole_positions:CartPolePositionsVector",
)  # fmt: skip
_register("RepeatPrevious", "memory.repeat_previous:RepeatPrevious", None)
_register("Catch", "memory.catch:Catch", None)
_register("FlickeringGridWorld", "memory.flickering_gridworld:FlickeringGridWorld", GRID_STEPS)

# Labelled examples: supervised learning in the form of an environment.
_register("Examples", "labelled:LabelledExamples", None, vector=False)
