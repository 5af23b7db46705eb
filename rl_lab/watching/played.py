"""What a human played, saved as a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rl_lab.datasets.dataset import RecordedEpisode
from rl_lab.datasets.record import described_environment, play_episode
from rl_lab.datasets.writer import new_dataset
from rl_lab.environments.vectors import SingleVector
from rl_lab.storage.versions import versions
from rl_lab.types import Array, Decision, Obs, State, UsageError


@dataclass(frozen=True)
class Played:
    """An episode in which a human had a part: with its seed and actions it can be played again exactly."""

    seed: int
    actions: Sequence[Array]  # each [...]
    human_steps: int
    returned: float


def save_played(
    episodes: Sequence[Played],
    make: Callable[[], gymnasium.Env],
    path: str | Path,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, int]:
    """Write episodes as a dataset like those of `rl-lab record`, by playing their actions again.

    Args:
        make: makes the environment, wrapped as for training.
        path: folder of the dataset, which must not exist or be empty.

    Returns:
        The counts of episodes and steps, and of the steps that a human took.

    Raises:
        UsageError: there is nothing to save, the path is occupied, or an episode doesn't go the same way again.
        NotWritten: the file system refused.
    """
    if not episodes:
        raise UsageError("nobody has played yet (allowed: after taking over)")
    envs = SingleVector(make())
    try:
        with new_dataset(path, envs.single_observation_space, envs.single_action_space) as writer:
            writer.metadata |= described_environment(envs.env) | {"algorithm_name": "human"}
            for played in episodes:
                writer.add(_again(played, envs), played.seed)
            human_steps = sum(played.human_steps for played in episodes)
            writer.provenance |= {"agent": "human", "human_steps": human_steps, **(provenance or {})}
            writer.provenance |= {"versions": versions()}
            return {"episodes": len(writer.returns), "steps": writer.steps, "human_steps": human_steps}
    finally:
        envs.close()


def _again(played: Played, envs: SingleVector) -> RecordedEpisode:
    """Play an episode again.

    Raises:
        UsageError: it doesn't go the same way.
    """
    episode, _ = play_episode(_Scripted(played.actions), envs, (), played.seed, len(played.actions))
    total = 0.0
    for reward in episode.rewards:  # in the order of the steps, as it was added up
        total += float(reward)
    if len(episode) != len(played.actions) or total != played.returned:
        raise UsageError(
            f"the episode of seed {played.seed} returned {played.returned:g} in {len(played.actions)} steps and"
            f" {total:g} in {len(episode)} when its actions were played again: its environment isn't deterministic,"
            " nothing was saved (allowed: environments that are)"
        )
    return episode


class _Scripted:
    """Takes the given actions, one after the other."""

    def __init__(self, actions: Sequence[Array]):
        self._actions = iter(actions)

    def initial_state(self, num_envs: int) -> State:
        """Return that there is no carry."""
        return ()

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return the next action, [1, ...]."""
        return Decision(np.asarray(next(self._actions))[None])

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return no figures."""
        return {}
