"""Which states a run met while it learned: its recorded episodes, played again through the model's observations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rl_lab.datasets.dataset import Dataset
from rl_lab.environments.actions import action_dtype
from rl_lab.environments.vectors import VectorEnv
from rl_lab.mdp.model import TabularModel
from rl_lab.problem import Problem
from rl_lab.runs.config import RunConfig
from rl_lab.runs.directory import CHECKPOINTS
from rl_lab.runs.rows import read_episodes, split_actions
from rl_lab.seeding import episode_seed
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import CheckpointError
from rl_lab.types import Array, UsageError


class NotKnown(Exception):
    """What was asked for can't be found out; the message says why in one line."""


@dataclass(frozen=True, eq=False)
class Visits:
    """What a run met."""

    shown: Array
    """How often each state was shown, int64 [S]: where an episode began, or a step led."""
    taken: Array
    """How often each action was taken in each state, int64 [S, A]."""
    steps: int
    """Steps that were counted."""
    from_model: bool = False
    """The run learned from the model itself, so that every state counts as visited."""
    notes: tuple[str, ...] = field(default=())
    """What isn't in these numbers, a line each."""

    @property
    def visited(self) -> Array:
        """Which states were met, bool [S]."""
        return self.shown > 0


def live_states(model: TabularModel) -> Array:
    """Return which states aren't the end of an episode, bool [S]."""
    return ~((model.termination == 1.0) & (model.expected_reward == 0.0)).all(axis=1)


class States:
    """Finds the state that an observation shows; of ends of episodes that show the same, any.

    Raises:
        NotKnown: several states show the same.
    """

    def __init__(self, model: TabularModel):
        shown = np.asarray(model.observe(np.arange(model.num_states)))
        self._dtype, self._shape = shown.dtype, shown.shape[1:]
        self._known: dict[bytes, int] = {}
        live = live_states(model)
        for state, row in enumerate(shown):
            first = self._known.setdefault(self._key(row), state)
            if first != state and (live[first] or live[state]):
                raise NotKnown(
                    f"states {first} and {state} show the same observation, so that it isn't known which were visited"
                )

    def _key(self, shown: Any) -> bytes:
        return (np.asarray(shown, self._dtype) + self._dtype.type(0)).tobytes()  # -0.0 is 0.0

    def of(self, observations: Any) -> Array:
        """Return the states int64 [K] that observations [K, ...] show.

        Raises:
            NotKnown: one is that of no state.
        """
        if isinstance(observations, dict | tuple) or np.shape(observations)[1:] != self._shape:
            raise NotKnown("observations aren't those of the model's states")
        try:
            return np.array([self._known[self._key(row)] for row in observations], dtype=np.int64)
        except KeyError:
            raise NotKnown("the run was shown something that no state of the model shows") from None


def count_visits(
    folder: Path, config: RunConfig, problem: Problem, model: TabularModel, knows_model: bool
) -> Visits:
    """Count what a run met until its last checkpoint.

    Args:
        folder: the run directory.
        knows_model: it learned from the model; every state counts as visited.

    Raises:
        NotKnown: its states can't be told from what it was shown, or its data isn't there any more.
    """
    if knows_model:
        all_states = np.ones(model.num_states, np.int64)
        return Visits(all_states, model.available.astype(np.int64), 0, from_model=True)
    counter = _Counter(model, problem.spec.first_action)
    if config.dataset is not None:
        _count_dataset(counter, config.dataset)
        return counter.visits(["all steps of the dataset count, those held out included"])
    notes = [] if config.init_from is None else [f"what {config.init_from} met isn't counted"]
    with closing(problem.make(1)) as envs:
        notes += _count_episodes(counter, folder, config, envs)
    return counter.visits(notes)


class _Counter:
    """Adds up episodes."""

    def __init__(self, model: TabularModel, first_action: int):
        self._states, self._first = States(model), first_action
        self._shown = np.zeros(model.num_states, np.int64)
        self._taken = np.zeros(model.available.shape, np.int64)

    def add(self, observations: Any, actions: Array) -> None:
        """Add the observations [T + 1, ...] and actions [T] of an episode."""
        states = self._states.of(observations)
        np.add.at(self._shown, states, 1)
        np.add.at(self._taken, (states[: len(actions)], actions.astype(np.int64) - self._first), 1)

    def visits(self, notes: list[str]) -> Visits:
        return Visits(self._shown, self._taken, int(self._taken.sum()), notes=tuple(notes))


def _count_dataset(counter: _Counter, path: str) -> None:
    try:
        dataset = Dataset(path)
        with closing(dataset):
            for number in range(dataset.num_episodes):
                episode = dataset.episode(number)
                counter.add(episode.observations, episode.actions)
    except UsageError as error:
        raise NotKnown(f"the states of its dataset can't be read: {error}") from error


def _count_episodes(counter: _Counter, folder: Path, config: RunConfig, envs: VectorEnv) -> list[str]:
    """Count the episodes of a run, those open at its end included; return what differed or is missing."""
    env_steps, recorder = _checkpoint(folder)
    differ = 0
    rows = [row for row in read_episodes(folder) if row["env_steps"] <= env_steps]
    for row, actions in zip(rows, split_actions(folder, rows, envs.single_action_space), strict=True):
        observations, total = _replayed(envs, int(row["seed"]), actions)
        counter.add(observations, actions[: len(observations) - 1])
        differ += len(observations) - 1 != len(actions) or abs(total - row["return"]) > 1e-6 * (
            1 + abs(row["return"])
        )
    for seed, actions in _open_episodes(recorder, config.seed):
        counter.add(_replayed(envs, seed, actions)[0], actions)
    notes = (
        [f"{differ} of {len(rows)} episodes went another way when they were played again"] if differ else []
    )
    if not recorder and (missing := env_steps - int(sum(row["length"] for row in rows))) > 0:
        notes.append(f"the last {missing} steps, of episodes still open at the end, weren't recorded")
    return notes


def _checkpoint(folder: Path) -> tuple[int, dict[str, Any]]:
    """Return the steps at the last checkpoint, and its record of the open episodes; {} without one.

    Raises:
        NotKnown: no checkpoint can be read.
    """
    try:
        env_steps, members = Checkpoints(folder / CHECKPOINTS).load(only=("recorder",))
    except CheckpointError as error:
        raise NotKnown(f"its checkpoint can't be read: {error}") from error
    return env_steps, members.get("recorder", {})


def _open_episodes(recorder: dict[str, Any], seed: int) -> Iterator[tuple[int, Array]]:
    """Yield the seed and the actions of each episode that was open at a checkpoint."""
    numbers = recorder.get("numbers", [])
    for i, actions in recorder.get("actions", {}).items():
        yield episode_seed(seed, int(i), int(numbers[int(i)])), np.asarray(actions)


def _replayed(envs: VectorEnv, seed: int, actions: Array) -> tuple[Array, float]:
    """Play an episode again; return its observations [T + 1, ...] and its return. It ends early if it ends earlier."""
    obs, _ = envs.reset(seed=[seed])
    dtype = action_dtype(envs.single_action_space)
    seen, total = [obs[0]], 0.0
    for t in range(len(actions)):
        obs, reward, terminated, truncated, _ = envs.step(actions[t : t + 1].astype(dtype))
        seen.append(obs[0])
        total += float(reward[0])
        if terminated[0] or truncated[0]:
            break
    return np.asarray(seen), total
