"""Where an agent's steps come from: environments that it acts in, or episodes that were recorded.

Recorded episodes are handed out through the same vector interface and the same loop, so that budgets,
schedules, checkpoints and resuming know no difference: an environment step is then a recorded
transition consumed. Fujimoto et al. (2019), "Off-Policy Deep Reinforcement Learning without Exploration"
(https://arxiv.org/abs/1812.02900), say what no loop can mend: actions that the data doesn't show are
valued by guessing, the maximum picks the luckiest guess, and nobody tries it out. So a value learned
purely from recorded data may be far too high; compare the evaluation's `eval_predicted_value_mean` with
its return, and record with some random actions.
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
NO_SEED = -1  # stands in episodes.csv where a dataset doesn't say how an episode began


class Experience(Protocol):
    """What the loop is given to learn from."""

    envs: VectorEnv

    def acting(self, policy: Policy) -> Policy:
        """Return the policy that acts, given the agent's own exploring one."""

    def seeds(self, episodes: tuple[int, ...] | None = None) -> EpisodeSeeds:
        """Return what opens the episodes, from the start or from these numbers on."""

    def sink(self, sink: Sink) -> Sink:
        """Return what takes finished episodes on their way to `sink`."""


def experience(problem: Problem) -> Experience:
    """Return the source of a problem's steps; whoever asks closes its `envs`."""
    return Played(problem) if problem.dataset is None else Recorded(problem, problem.dataset)


class Played:
    """Environments in which the agent acts."""

    def __init__(self, problem: Problem):
        self._problem = problem
        self.envs = problem.make(problem.num_envs)

    def acting(self, policy: Policy) -> Policy:
        """Return the agent's own policy."""
        return policy

    def seeds(self, episodes: tuple[int, ...] | None = None) -> EpisodeSeeds:
        """Return the seeds of the run's episodes."""
        return EpisodeSeeds(self._problem.seed, self._problem.num_envs, episodes)

    def sink(self, sink: Sink) -> Sink:
        """Return the sink: an episode has the seed that it was played with."""
        return sink


class Recorded:
    """Columns that hand out a dataset's episodes, with the actions that were taken."""

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
        """Put the seed in place that the episode was recorded with."""
        order = self.seeds()

        def take(episode: Episode) -> None:
            seed = self._dataset.seed_of(order.number(episode.env_index, episode.episode))
            sink(replace(episode, seed=NO_SEED if seed is None else seed))

        return take


class RecordedOrder(EpisodeSeeds):
    """Says which recorded episode each column opens: its number stands where an environment gets a seed.

    The columns take turns in a sequence of epochs, each a permutation of all episodes: column i of N opens the
    sequence's elements i, i + N, i + 2 N, ... That is a function of the run's seed alone.
    """

    def __init__(self, seed: int, num_envs: int, total: int, episodes: tuple[int, ...] | None = None):
        super().__init__(seed, num_envs, episodes)
        self._num_envs, self._total = num_envs, total
        self._epoch = lru_cache(maxsize=8)(self._draw)  # columns of long episodes fall behind

    def _draw(self, epoch: int) -> Array:
        rng = np.random.Generator(np.random.PCG64(seed_of(self.seed, "recorded epoch", epoch)))
        return rng.permutation(self._total)

    def number(self, column: int, episode: int) -> int:
        """Return the recorded episode that a column opens as its `episode`-th."""
        epoch, place = divmod(episode * self._num_envs + column, self._total)
        return int(self._epoch(epoch)[place])

    def current(self) -> list[int]:
        """Return the number of each column's open episode."""
        return [self.number(i, k) for i, k in enumerate(self.episodes)]

    def advance(self, done: np.ndarray) -> list[int | None]:
        """Open the next episode where `done`; return its number there and None elsewhere."""
        super().advance(done)
        return [self.number(i, self.episodes[i]) if d else None for i, d in enumerate(done)]


class RecordedVector:
    """N columns, each of which stands somewhere in a recorded episode.

    A reset opens the episodes whose numbers are its "seeds"; a step goes on to the recorded successor,
    whatever the action. An episode ends at its first flag; an unfinished one is truncated at its end.
    """

    def __init__(self, dataset: Dataset, num_envs: int, has_mask: bool):
        self.num_envs, self._dataset, self._has_mask = num_envs, dataset, has_mask
        self.single_observation_space = dataset.observation_space
        self.single_action_space = dataset.action_space
        self._episodes: list[RecordedEpisode] = []
        self._at = [0] * num_envs  # the step that each column stands before

    def reset(
        self, *, seed: Sequence[int | None], options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Array]]:
        """Open recorded episodes by their numbers, everywhere or where options["reset_mask"]."""
        if options is None:
            self._episodes = [self._open(number) for number in seed]
            self._at = [0] * self.num_envs
        else:
            for i in map(int, np.flatnonzero(options["reset_mask"])):
                self._episodes[i], self._at[i] = self._open(seed[i]), 0
        return self._seen()

    def _open(self, number: int | None) -> RecordedEpisode:
        assert number is not None
        episode = self._dataset.episode(number)
        if self._has_mask and episode.masks is None:
            raise DatasetCorrupt(f"{self._dataset.folder}: episode {number} has no action masks, others have")
        return episode

    def step(self, action: Array) -> StepResult:
        """Hand out what followed the recorded actions."""
        here = list(zip(self._episodes, self._at, strict=True))
        reward = np.array([e.rewards[t] for e, t in here])
        terminated = np.array([e.terminations[t] for e, t in here])
        last = np.array([t == len(e) - 1 for e, t in here])
        truncated = np.array([e.truncations[t] for e, t in here]) | (last & ~terminated)
        self._at = [t + 1 for t in self._at]
        obs, info = self._seen()
        return obs, reward, terminated, truncated, info

    def actions(self) -> Array:
        """Return the actions [N, ...] that were taken here."""
        return _row([e.actions for e in self._episodes], self._at)

    def _seen(self) -> tuple[Obs, dict[str, Array]]:
        obs = _row([e.observations for e in self._episodes], self._at)
        return obs, {
            "action_mask": _row([e.masks for e in self._episodes], self._at)
        } if self._has_mask else {}

    def render(self) -> Sequence[Any]:
        """Return nothing: only numbers were recorded."""
        return ()

    def close(self) -> None:
        """Close the dataset's file."""
        self._dataset.close()


def _row(trees: Sequence[Obs], at: Sequence[int]) -> Obs:
    """Return a copy of row `at` of each column's arrays [T, ...], as [N, ...]."""
    return join_leaves(lambda arrays: np.stack([a[t] for a, t in zip(arrays, at, strict=True)]), trees)


class RecordedPolicy:
    """Takes the recorded actions, and carries along what the agent's own policy remembers on the way."""

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
        """Return nothing: why an action was taken was not recorded."""
        return {}
