"""The replay layouts of format 1, brought up to date.

Format 1 changed its layout twice without a new number. At first every column was a ring, "obs" and
"next_obs" among them. Later each observation was kept once ("columns", "frames" and "sampler"), and
windows came to begin at fixed steps of an episode (the column "episode_step").
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rl_lab.replay.footprint import column_types
from rl_lab.replay.frames import ObservationStore
from rl_lab.storage.state_trees import LoadedRing, Ring
from rl_lab.types import Array, EnvSpec, Step

BOTH_ENDS = {"obs", "next_obs", "is_first", "action", "reward", "terminated"}
KEPT_ONCE = {"columns", "frames", "sampler"}


def migrate_replays(tree: Any, spec: EnvSpec) -> Any:
    """Return a state tree of format 1 with every replay in it in the layout of format 2.

    Args:
        spec: the environment's, which the replays were made for.

    Raises:
        CheckpointError: the rows of a replay don't fit the spec.
    """
    if not isinstance(tree, dict):
        return tree
    if tree.keys() >= BOTH_ENDS:
        return _with_episode_steps(_observations_once(tree, spec), spec)
    if tree.keys() == KEPT_ONCE:
        return _with_episode_steps(tree, spec)
    return {key: migrate_replays(part, spec) for key, part in tree.items()}


def _observations_once(rings: dict[str, LoadedRing], spec: EnvSpec) -> dict[str, Any]:
    """Keep each observation of a replay once; every row stays where it is in the ring."""
    rows, written = rings["action"].capacity, rings["action"].written
    space = spec.observation_space
    shape = (rows, spec.num_envs, *(space.shape or ()))
    obs = _array_of(rings["obs"], np.zeros(shape, space.dtype))
    next_obs = _array_of(rings["next_obs"], np.zeros(shape, space.dtype))
    is_first = _array_of(rings["is_first"], np.zeros((rows, spec.num_envs), np.bool_))
    position, nothing = np.zeros((rows, spec.num_envs), np.int64), np.zeros(spec.num_envs)
    observations = ObservationStore(spec, rows)
    for number in range(max(0, written - rows), written):
        row = number % rows
        step = Step(
            obs[row], nothing, nothing, nothing, nothing, next_obs[row], is_first[row], (), (), None, None
        )
        position[row] = observations.add(step)
    dropped = ("obs", "next_obs", "is_first", "truncated")
    columns = {name: ring for name, ring in rings.items() if name not in dropped}
    return {
        "columns": columns | {"position": Ring(position, written)},
        "frames": observations.state_dict(),
        "sampler": {},  # both ends were only ever drawn uniformly
    }


def _with_episode_steps(state: dict[str, Any], spec: EnvSpec) -> dict[str, Any]:
    """Add the column "episode_step" where carries were kept without it: windows then began at every step."""
    columns = state["columns"]
    if "state_0" not in columns or "episode_step" in columns:
        return state
    action = columns["action"]
    _, dtype = column_types(spec, (np.zeros(1),))["episode_step"]
    steps = Ring(np.zeros((action.capacity, spec.num_envs), dtype), action.written)
    return state | {"columns": columns | {"episode_step": steps}}


def _array_of(ring: LoadedRing, array: Array) -> Array:
    ring.copy_into(array)
    return array
