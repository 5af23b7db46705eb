"""Tracks the open episodes: actions, return, length, and a rolling hash of observations and rewards.

An episode is a function of its seed and its actions. Replaying the actions of an open episode therefore
rebuilds its environment, and the hash shows whether the rebuilt episode is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.environments.actions import action_dtype, action_shape, stored_dtype
from rl_lab.environments.masks import legal_actions, mask_of, merge_masks
from rl_lab.environments.vectors import VectorEnv
from rl_lab.seeding import EpisodeSeeds, episode_seed
from rl_lab.trees import leaves_of
from rl_lab.types import Array, Cursor, Obs, Step

BATCH = 256  # steps that are taken in together: one by one would cost more than stepping the environment
BATCH_BYTES = 2**20  # of observations; larger batches are shortened to it, down to SHORTEST_BATCH steps
SHORTEST_BATCH = 64  # as long as they take no more than MOST_BATCH_BYTES
MOST_BATCH_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class Episode:
    """One finished training episode."""

    env_steps: int  # of the whole run, when the episode ended
    env_index: int
    episode: int  # its number among the environment's episodes
    seed: int
    return_: float  # undiscounted, of the environment's own rewards
    length: int  # steps
    terminated: bool
    truncated: bool
    actions: Array  # [length, ...]


@dataclass(slots=True)
class OpenEpisode:
    """One environment's open episode so far."""

    actions: list[Array] = field(default_factory=list)  # chunks [k, ...]
    return_: float = 0.0
    length: int = 0
    hashers: list[Any] = field(default_factory=list)  # one per leaf of the observation, one for rewards

    def extend(self, actions: Array, rewards: Array, leaves: list[Array]) -> None:
        """Add k steps: actions [k, ...], rewards [k] and the leaves [k, ...] of the successors.

        Rewards are summed in order, so that the return doesn't depend on where batches are cut.
        """
        self.actions.append(actions)
        for reward in rewards.tolist():
            self.return_ += reward
        self.length += len(rewards)
        for hasher, values in zip(self.hashers, (rewards, *leaves), strict=True):
            hasher.update(np.ascontiguousarray(values).data)

    def open(self, leaves: list[Array]) -> None:
        """Take in the first observation, given as leaves [1, ...]; do nothing on later calls."""
        if not self.hashers:
            self.hashers = [hashlib.blake2b(digest_size=16) for _ in range(len(leaves) + 1)]
            for hasher, values in zip(self.hashers[1:], leaves, strict=True):
                hasher.update(np.ascontiguousarray(values).data)

    def digest(self) -> str:
        """Return the hash of all observations and rewards so far."""
        return "-".join(hasher.hexdigest() for hasher in self.hashers)


class Batch:
    """What is recorded of up to `size` vector steps, copied into arrays [size, N, ...].

    Keeping the steps themselves instead would spread them over so much memory that everything else in the loop slows
    down.

    Args:
        step: shows the shapes and types of those to come.
        dtype: of stored actions.
    """

    def __init__(self, step: Step, dtype: np.dtype):
        def room(array: Array, dtype: np.dtype | None = None) -> Array:
            return np.zeros((self.size, *array.shape), dtype or array.dtype)

        leaves = leaves_of(step.next_obs, sort_keys=True)
        step_bytes = max(1, sum(leaf.nbytes for leaf in leaves))
        shortest = max(1, min(SHORTEST_BATCH, MOST_BATCH_BYTES // step_bytes))
        self.size = max(shortest, min(BATCH, BATCH_BYTES // step_bytes))
        self.actions, self.rewards = room(step.action, dtype), room(step.reward)
        self.leaves = [room(leaf) for leaf in leaves]
        self._only_leaf = self.leaves[0] if isinstance(step.next_obs, np.ndarray) else None
        self._opens = True  # where the loop begins, all episodes may be new
        self._num_envs = len(step.reward)
        self.clear()

    def clear(self) -> None:
        """Make room for the next steps."""
        self.count = 0
        self._starts = [0] * self._num_envs  # of what is left of each environment's steps
        # By the place of a step that may open an episode, the observations before it.
        self.opened: dict[int, Obs] = {}
        # A step that ends an episode: its place, where one ends (bool [N]), and the step itself.
        self._ends: list[tuple[int, Array, Step]] = []

    def add(self, step: Step, done: Array) -> int:
        """Take in a step, and where an episode ends with it, bool [N]; return how many steps there are."""
        k = self.count
        if self._opens:
            self.opened[k] = step.obs
        self.actions[k] = step.action
        self.rewards[k] = step.reward
        if self._only_leaf is not None:
            self._only_leaf[k] = step.next_obs
        else:
            for column, leaf in zip(self.leaves, leaves_of(step.next_obs, sort_keys=True), strict=True):
                column[k] = leaf
        self._opens = 1 in done.tobytes()  # a third of the cost of `any`
        if self._opens:
            self._ends.append((k, done, step))
        self.count = k + 1
        return self.count

    def ended(self) -> Iterator[tuple[int, int, int, tuple[bool, bool]]]:
        """Take out the stretches [start, end) that close an episode, in the order of their ends.

        Each comes as (start, end, env_index, how it ends), the last being (terminated, truncated).
        """
        starts, ends, self._ends = self._starts, self._ends, []
        for t, done, step in ends:
            for i in done.nonzero()[0].tolist():
                yield starts[i], t + 1, i, (bool(step.terminated[i]), bool(step.truncated[i]))
                starts[i] = t + 1

    def left_open(self) -> Iterator[tuple[int, int, int]]:
        """Yield what is left once `ended` has taken its part, as (start, end, env_index)."""
        for i, begin in enumerate(self._starts):
            if begin < self.count:
                yield begin, self.count, i


class EpisodeTracker:
    """Follows the steps of a vector: passes finished episodes to `sink` and keeps the open ones."""

    def __init__(self, seed: int, num_envs: int, action_space: spaces.Space, sink: Callable[[Episode], None]):
        self._seed = seed
        self._sink = sink
        self._dtype = stored_dtype(action_space)
        self._open = [OpenEpisode() for _ in range(num_envs)]
        self._numbers = [0] * num_envs
        self._batch: Batch | None = None  # made by the first step, which shows the shapes
        self._env_steps = 0

    def add(self, step: Step, at: Cursor) -> None:
        """Take in one step; `at` is the cursor after it."""
        batch = self._batch
        if batch is None:
            batch = self._batch = Batch(step, self._dtype)
        if batch.add(step, at.is_first) == batch.size:
            self.flush()

    def settle(self) -> None:
        """Pass on the episodes that have ended; what was added of open ones waits for `flush`, which comes less often.

        Of many environments few end an episode between two rows of metrics.
        """
        if (batch := self._batch) is None:
            return
        for start, end, i, over in batch.ended():
            self._extend(batch, start, end, i)
            self._finish(i, self._env_steps + end * len(self._open), *over)

    def flush(self) -> None:
        """Process all steps that were added."""
        if (batch := self._batch) is None or not batch.count:
            return
        self.settle()
        for start, end, i in batch.left_open():
            self._extend(batch, start, end, i)
        self._env_steps += batch.count * len(self._open)
        batch.clear()

    def _extend(self, batch: Batch, start: int, end: int, i: int) -> None:
        """Add the steps [start, end) of environment i to its open episode."""
        if (obs := batch.opened.get(start)) is not None:
            self._open[i].open([x[i : i + 1] for x in leaves_of(obs, sort_keys=True)])
        self._open[i].extend(
            batch.actions[start:end, i].copy(),
            batch.rewards[start:end, i],
            [x[start:end, i] for x in batch.leaves],
        )

    def _finish(self, i: int, env_steps: int, terminated: bool, truncated: bool) -> None:
        """Pass the open episode of environment i to the sink and open the next one."""
        episode, self._open[i] = self._open[i], OpenEpisode()
        number, self._numbers[i] = self._numbers[i], self._numbers[i] + 1
        seed = episode_seed(self._seed, i, number)
        actions = episode.actions[0] if len(episode.actions) == 1 else np.concatenate(episode.actions)
        self._sink(
            Episode(
                env_steps, i, number, seed, episode.return_, episode.length, terminated, truncated, actions
            )
        )

    def state_dict(self, obs: Obs) -> dict[str, Any]:
        """Return the open episodes in the form that `restore` takes; `obs` [N, ...] are the current observations."""
        self.flush()
        self._open_new(obs)
        return {
            "env_steps": self._env_steps,
            "numbers": list(self._numbers),
            "digests": [e.digest() for e in self._open],
            "returns": [e.return_ for e in self._open],
            "actions": {str(i): np.concatenate(e.actions) for i, e in enumerate(self._open) if e.length},
        }

    def _open_new(self, obs: Obs) -> None:
        """Take in the first observation of the episodes that have no step yet."""
        for i, episode in enumerate(self._open):
            if not episode.length:
                episode.open([x[i : i + 1] for x in leaves_of(obs, sort_keys=True)])

    def restore(self, state: dict[str, Any], envs: VectorEnv, seeds: EpisodeSeeds) -> tuple[Obs, Any, Array]:
        """Rebuild the open episodes by replaying their actions.

        Where a replay differs from what was saved, the old episode is closed as truncated and the next one
        is opened.

        Args:
            state: as `state_dict` returned it.
            envs: freshly made; they are left in their open episodes.
            seeds: give the seeds of the open episodes; advanced where a replay differs.

        Returns:
            The observations [N, ...], the mask (bool [N, A], or None), and where the replay differed, bool [N].
        """
        self._env_steps, self._numbers = state["env_steps"], list(state["numbers"])
        actions = {int(i): a for i, a in state["actions"].items()}
        obs, mask, ended = self._replay(envs, seeds, actions)
        self._open_new(obs)
        digests = np.array([e.digest() for e in self._open])
        differs = ended | (digests != np.array(state["digests"]))
        for i in map(int, np.flatnonzero(differs)):
            taken = actions.get(i, np.zeros((0, *action_shape(envs.single_action_space)), self._dtype))
            self._open[i] = OpenEpisode([taken], state["returns"][i], len(taken))
            self._finish(i, self._env_steps, terminated=False, truncated=True)
        if np.count_nonzero(differs):
            obs, info = envs.reset(seed=seeds.advance(differs), options={"reset_mask": differs})
            mask = merge_masks(differs, mask_of(info), mask)
        return obs, mask, differs

    def _replay(
        self, envs: VectorEnv, seeds: EpisodeSeeds, actions: dict[int, Array]
    ) -> tuple[Obs, Array | None, Array]:
        """Replay the actions of all environments so that they end together.

        An environment with a shorter episode takes some legal actions until its replay begins.

        Returns:
            The observations, the mask, and where an episode that should be open came to an end, bool [N].
        """
        lengths = np.array([len(actions.get(i, ())) for i in range(envs.num_envs)])
        longest = int(lengths.max())
        obs, info = envs.reset(seed=seeds.current())
        mask = mask_of(info)
        space = envs.single_action_space
        done = ended = np.zeros(envs.num_envs, dtype=np.bool_)
        for t in range(longest):
            begins = (lengths == longest - t) & (t > 0)
            if np.count_nonzero(reset := begins | done):
                obs, info = envs.reset(seed=seeds.current(), options={"reset_mask": reset})
                mask = merge_masks(reset, mask_of(info), mask)
            playing = lengths >= longest - t
            now = np.flatnonzero(playing).tolist()
            for i in now:
                self._open[i].open([x[i : i + 1] for x in leaves_of(obs, sort_keys=True)])
            action = legal_actions(space, envs.num_envs, mask)
            for i in now:
                action[i] = actions[i][t - (longest - lengths[i])]
            obs, reward, terminated, truncated, info = envs.step(action.astype(action_dtype(space)))
            mask, done = mask_of(info), terminated | truncated
            ended = ended | (done & playing)
            for i in now:
                self._open[i].extend(
                    action[i : i + 1].astype(self._dtype),
                    reward[i : i + 1],
                    [x[i : i + 1] for x in leaves_of(obs, sort_keys=True)],
                )
        if longest:
            obs, mask = self._reset_unplayed(envs, seeds, lengths == 0, obs, mask)
        return obs, mask, ended

    def _reset_unplayed(
        self, envs: VectorEnv, seeds: EpisodeSeeds, unplayed: Array, obs: Obs, mask: Array | None
    ) -> tuple[Obs, Array | None]:
        """Reset the environments whose open episode has no step yet."""
        if not np.count_nonzero(unplayed):
            return obs, mask
        obs, info = envs.reset(seed=seeds.current(), options={"reset_mask": unplayed})
        return obs, merge_masks(unplayed, mask_of(info), mask)
