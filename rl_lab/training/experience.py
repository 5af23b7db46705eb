"""Where an agent's steps come from: environments that it acts in, or episodes that were recorded.

Recorded episodes come through the same vector interface and the same loop, so that budgets, schedules,
checkpoints and resuming are the same: an environment step is then one recorded transition. Values learned
from recorded data alone may be far too high: those of actions that the data doesn't show are guesses, the
maximum picks the highest guess, and no experience corrects it (Fujimoto et al., 2019, "Off-Policy Deep
Reinforcement Learning without Exploration", https://arxiv.org/abs/1812.02900). So compare the
evaluation's `eval_predicted_value_mean` with its return, and record with some random actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from rl_lab.agent import Policy
from rl_lab.datasets.dataset import Dataset, DatasetCorrupt, RecordedEpisode
from rl_lab.environments.episodes import Episode
from rl_lab.environments.vectors import StepResult, VectorEnv
from rl_lab.problem import Problem
from rl_lab.seeding import EpisodeSeeds, seed_of
from rl_lab.trees import join_leaves
from rl_lab.types import Array, Decision, Obs, State

Sink = Callable[[Episode], None]
NO_SEED = -1  # in episodes.csv, where a dataset doesn't tell the seed of an episode


class Experience(Protocol):
    """A source of steps for the loop."""

    envs: VectorEnv

    def acting(self, policy: Policy) -> Policy:
        """Return the policy that acts; `policy` is the agent's own exploring one."""

    def seeds(self, episodes: tuple[int, ...] | None = None) -> EpisodeSeeds:
        """Return the seeds of the episodes, from the start or from these episode numbers [N] on."""

    def sink(self, sink: Sink) -> Sink:
        """Return a sink for finished episodes that passes them on to `sink`, with their true seeds."""


def experience(problem: Problem) -> Experience:
    """Return the source of a problem's steps; the caller closes its `envs`."""
    return Played(problem) if problem.dataset is None else Recorded(problem, problem.dataset)


class Played:
    """Environments in which the agent acts."""

    def __init__(self, problem: Problem):
        self._problem = problem
        self.envs = (problem.make_own or problem.make)(problem.num_envs)

    def acting(self, policy: Policy) -> Policy:
        """Return the agent's own policy."""
        return policy

    def seeds(self, episodes: tuple[int, ...] | None = None) -> EpisodeSeeds:
        """Return the seeds of the run's episodes."""
        return EpisodeSeeds(self._problem.seed, self._problem.num_envs, episodes)

    def sink(self, sink: Sink) -> Sink:
        """Return the sink itself: an episode knows the seed that it was played with."""
        return sink


class Recorded:
    """The episodes of a dataset, with the actions that were taken in them."""

    def __init__(self, problem: Problem, dataset: Dataset):
        self._problem, self._dataset = problem, dataset
        self._columns = RecordedVector(dataset, problem.num_envs, problem.spec.has_mask)
        self.envs: VectorEnv = self._columns

    def acting(self, policy: Policy) -> Policy:
        """Return the policy that takes the recorded actions."""
        return RecordedPolicy(self._columns, policy)

    def seeds(self, episodes: tuple[int, ...] | None = None) -> RecordedOrder:
        """Return the order in which the recorded episodes are opened."""
        problem = self._problem
        return RecordedOrder(problem.seed, problem.num_envs, self._dataset.num_episodes, episodes)

    def sink(self, sink: Sink) -> Sink:
        """Return a sink that gives each episode the seed that it was recorded with."""
        order = self.seeds()

        def take(episode: Episode) -> None:
            seed = self._dataset.seed_of(order.number(episode.env_index, episode.episode))
            sink(replace(episode, seed=NO_SEED if seed is None else seed))

        return take


class RecordedOrder(EpisodeSeeds):
    """Decides which recorded episode each column opens: the episode's number takes the place of a seed.

    The episodes are strung together in epochs, each a permutation of all of them. Column i of N opens the
    elements i, i + N, i + 2 N, ... of that sequence, which depends on the run's seed alone.
    """

    def __init__(self, seed: int, num_envs: int, total: int, episodes: tuple[int, ...] | None = None):
        super().__init__(seed, num_envs, episodes)
        self._num_envs, self._total = num_envs, total
        self._epoch = lru_cache(maxsize=8)(self._draw)  # columns with long episodes fall behind

    def _draw(self, epoch: int) -> Array:
        rng = np.random.Generator(np.random.PCG64(seed_of(self.seed, "recorded epoch", epoch)))
        return rng.permutation(self._total)

    def number(self, column: int, episode: int) -> int:
        """Return the number of the recorded episode that a column opens as its `episode`-th."""
        epoch, place = divmod(episode * self._num_envs + column, self._total)
        return int(self._epoch(epoch)[place])

    def current(self) -> list[int]:
        """Return the number of each column's open episode."""
        return [self.number(i, k) for i, k in enumerate(self.episodes)]

    def advance(self, done: np.ndarray) -> list[int | None]:
        """Open the next episode where `done`, bool [N]; return its number there and None elsewhere, [N]."""
        super().advance(done)
        return [self.number(i, self.episodes[i]) if d else None for i, d in enumerate(done)]


class RecordedVector:
    """N columns, each of which is at some step of a recorded episode.

    A reset opens the episodes whose numbers are given as seeds; a step goes on to the recorded successor,
    whatever the action. An episode ends where it terminated or was truncated; an unfinished one is truncated
    at its end.
    """

    def __init__(self, dataset: Dataset, num_envs: int, has_mask: bool):
        self.num_envs, self._dataset, self._has_mask = num_envs, dataset, has_mask
        self.single_observation_space = dataset.observation_space
        self.single_action_space = dataset.action_space
        self._episodes: list[RecordedEpisode] = []
        self._at = [0] * num_envs  # the next step of each column

    def reset(
        self, *, seed: Sequence[int | None], options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Array]]:
        """Open recorded episodes by their numbers, in all columns or in those of options["reset_mask"].

        Raises:
            DatasetCorrupt: an episode can't be read, or lacks the action masks that others have.
        """
        chosen = (options or {}).get("reset_mask")
        if chosen is None:
            self._episodes = [self._open(number) for number in seed]
            self._at = [0] * self.num_envs
        else:
            for i in map(int, np.flatnonzero(chosen)):
                self._episodes[i], self._at[i] = self._open(seed[i]), 0
        return self._seen()

    def _open(self, number: int | None) -> RecordedEpisode:
        """Return a recorded episode.

        Raises:
            DatasetCorrupt: it can't be read, or lacks the action masks that others have.
        """
        assert number is not None
        episode = self._dataset.episode(number)
        if self._has_mask and episode.masks is None:
            raise DatasetCorrupt(f"{self._dataset.folder}: episode {number} has no action masks, others have")
        return episode

    def step(self, action: Array) -> StepResult:
        """Return what followed the recorded actions, [N, ...] each; `action` is ignored."""
        here = list(zip(self._episodes, self._at, strict=True))
        reward = np.array([e.rewards[t] for e, t in here])
        terminated = np.array([e.terminations[t] for e, t in here])
        last = np.array([t == len(e) - 1 for e, t in here])
        truncated = np.array([e.truncations[t] for e, t in here]) | (last & ~terminated)
        self._at = [t + 1 for t in self._at]
        obs, info = self._seen()
        return obs, reward, terminated, truncated, info

    def actions(self) -> Array:
        """Return the recorded actions [N, ...] of the next step."""
        return _row([e.actions for e in self._episodes], self._at)

    def _seen(self) -> tuple[Obs, dict[str, Array]]:
        obs = _row([e.observations for e in self._episodes], self._at)
        return obs, {
            "action_mask": _row([e.masks for e in self._episodes], self._at)
        } if self._has_mask else {}

    def render(self) -> Sequence[Any]:
        """Return nothing: no pictures were recorded."""
        return ()

    def close(self) -> None:
        """Close the dataset's file."""
        self._dataset.close()


def _row(trees: Sequence[Obs], at: Sequence[int]) -> Obs:
    """Return a copy of row `at` of each column's arrays [T, ...], as [N, ...]."""
    return join_leaves(lambda arrays: np.stack([a[t] for a, t in zip(arrays, at, strict=True)]), trees)


class RecordedPolicy:
    """Takes the recorded actions; the memory of the agent's own policy is carried along."""

    def __init__(self, envs: RecordedVector, policy: Policy):
        self._envs, self._policy = envs, policy
        self._remembers = policy.initial_state(1) != ()

    def initial_state(self, num_envs: int) -> State:
        """Return the carry of the agent's own policy."""
        return self._policy.initial_state(num_envs)

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return the recorded actions [N, ...]."""
        carry = self._policy.act(obs, state, is_first, mask).state if self._remembers else ()
        return Decision(self._envs.actions(), carry)

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return nothing: what led to an action was not recorded."""
        return {}
