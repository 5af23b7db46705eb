"""Past training episodes: which are meant, replaying them, and checking that they happen again as they did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import gymnasium
import numpy as np

from rl_lab.environments.actions import action_dtype
from rl_lab.evaluation.frames import Moment, moments
from rl_lab.runs.config import RunConfig
from rl_lab.runs.description import RunDescription
from rl_lab.runs.rows import EPISODES, read_actions, read_episodes
from rl_lab.storage.versions import versions
from rl_lab.training.setup import other_episodes_of
from rl_lab.types import Array, Decision, Obs, State, UsageError
from rl_lab.watching.sources import Watched

WAYS = "best, worst, last, every:N, or a row of episodes.csv counted from 0"
DECIDE_PLAY = ("gymnasium", "numpy")  # of the versions that a run stores


@dataclass(frozen=True)
class PastEpisode:
    """A training episode as it is recorded."""

    row: int  # in episodes.csv, from 0
    env_index: int
    number: int  # among the episodes of its environment
    seed: int
    return_: float
    length: int
    terminated: bool
    truncated: bool
    env_steps: int  # of the run, when it ended

    @property
    def label(self) -> str:
        """The episode in a few words."""
        return f"training episode {self.row}"


def past_episodes(folder: Path) -> list[PastEpisode]:
    """Return the finished training episodes of a run, in the order in which they ended."""
    return [
        PastEpisode(
            row=row,
            env_index=int(e["env_index"]),
            number=int(e["episode"]),
            seed=int(e["seed"]),
            return_=float(e["return"]),
            length=int(e["length"]),
            terminated=bool(e["terminated"]),
            truncated=bool(e["truncated"]),
            env_steps=int(e["env_steps"]),
        )
        for row, e in enumerate(read_episodes(folder))
    ]


def picked(episodes: list[PastEpisode], choice: str, folder: Path) -> list[PastEpisode]:
    """Return the episodes that a choice means, in the order in which they ended.

    Args:
        choice: "best" or "worst" (by the return; of equal ones the first), "last", "every:N" (rows 0, N, 2 N, ...), or
            a row.
        folder: the run directory, for messages.

    Raises:
        UsageError: another choice, there is no such episode, or its seed isn't known.
    """
    found = _chosen(episodes, choice, folder)
    if seedless := [episode for episode in found if episode.seed < 0]:
        raise UsageError(
            f"{seedless[0].label} of {folder} can't be played again: it was simulated, or recorded without its seed"
            " (allowed: episodes that the run has played itself)"
        )
    return found


def _chosen(episodes: list[PastEpisode], choice: str, folder: Path) -> list[PastEpisode]:
    """Return the episodes that a choice means; arguments and errors are those of `picked`."""
    name = f"training episode {choice!r}"
    if not episodes:
        raise UsageError(f"{name} is not in {folder}: no training episode has ended there")
    if choice == "last":
        return episodes[-1:]
    if choice in ("best", "worst"):
        find = max if choice == "best" else min
        return [find(episodes, key=lambda episode: episode.return_)]
    word, colon, number = choice.partition(":")
    if word == "every" and colon:
        if not number.isdecimal() or int(number) < 1:
            raise UsageError(f"{name} needs a whole number of at least 1 after every: (allowed: {WAYS})")
        return episodes[:: int(number)]
    try:
        row = int(choice)
    except ValueError:
        raise UsageError(f"{name} is unknown (allowed: {WAYS})") from None
    if not 0 <= row < len(episodes):
        raise UsageError(f"training episode {row} is not in {folder} (allowed: 0 to {len(episodes) - 1})")
    return [episodes[row]]


@dataclass
class Replay:
    """Training episodes, played again.

    Args:
        watched: the run's policy and environment; the policy isn't asked.
        episodes: to play, one after the other.
        make: makes the environment; None: that of the run, which renders pictures.
    """

    watched: Watched
    episodes: list[PastEpisode]
    make: Callable[[], gymnasium.Env] | None = None
    found: list[Found] = field(default_factory=list)  # of each episode that was played to its end so far

    def moments(self) -> Iterator[Moment]:
        """Yield the moments of all episodes, whole; each is compared with the record once it is over.

        Raises:
            EnvironmentFault: the environment fails.
        """
        for episode in self.episodes:
            actions = self._actions(episode)
            last = None
            for last in moments(
                NobodyActs(),
                self.make or self.watched.make,
                seeds=[episode.seed],
                actions=[actions],
                max_steps=len(actions),
            ):
                yield last
            assert last is not None  # there is a first observation at least
            self.found.append(Found(episode, last.return_, last.step, last.terminated))

    def _actions(self, episode: PastEpisode) -> Array:
        assert self.watched.folder is not None
        return read_actions(self.watched.folder, episode.row, self.watched.problem.spec.action_space)


@dataclass(frozen=True)
class Found:
    """What became of an episode that was played again."""

    episode: PastEpisode
    return_: float
    length: int
    terminated: bool

    @property
    def agrees(self) -> bool:
        """Whether return, length and termination are those on record, to the last bit."""
        e = self.episode
        return (self.return_, self.length, self.terminated) == (e.return_, e.length, e.terminated)

    def line(self, env_id: str, changed: str = "") -> str:
        """Return in a line that the episode is the recorded one, or how it differs.

        Args:
            env_id: of the environment, which is to blame for a difference.
            changed: packages whose versions have changed since, in words.
        """
        e = self.episode
        if self.agrees:
            return f"{e.label}: return {e.return_:.6g} and length {e.length} are those in {EPISODES}"
        differences = [
            f"{what} {now} instead of {then}"
            for what, now, then in (
                ("return", self.return_, e.return_),
                ("length", self.length, e.length),
                ("terminated", self.terminated, e.terminated),
            )
            if now != then
        ]
        why = (
            f"{changed} since the run began"
            if changed
            else f"{env_id} is not deterministic, since the same seed and actions gave another episode"
        )
        return f"{e.label} did not happen again: {', '.join(differences)}; {why}"


class NobodyActs:
    """Stands for the policy where recorded actions are replayed; it is never asked to act."""

    def initial_state(self, num_envs: int) -> State:
        """Return ()."""
        return ()

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Raise AssertionError."""
        raise AssertionError("recorded actions are replayed")

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return {}."""
        return {}


def replay_unseen(watched: Watched, episode: PastEpisode) -> Found:
    """Play a training episode again without rendering it, and return what became of it.

    Raises:
        EnvironmentFault: the environment fails.
    """
    assert watched.folder is not None
    actions = read_actions(watched.folder, episode.row, watched.problem.spec.action_space)
    envs = watched.problem.make(1)
    dtype = action_dtype(envs.single_action_space)
    try:
        envs.reset(seed=[episode.seed])
        total, length, terminated = 0.0, 0, np.zeros(1, np.bool_)
        for action in actions:
            _, reward, terminated, truncated, _ = envs.step(action[None].astype(dtype))
            total, length = total + float(reward[0]), length + 1
            if terminated[0] or truncated[0]:
                break
        return Found(episode, total, length, bool(terminated[0]))
    finally:
        envs.close()


def changed_since(description: RunDescription) -> str:
    """Return which packages that decide how an environment plays have other versions than when a run began; "" if none.

    The environment's own package isn't among them, unless it is Gymnasium or ALE.
    """
    now = versions()
    found = [
        f"{name} was {then} and is {now.get(name, 'missing')}"
        for name, then in description.versions.items()
        if name in DECIDE_PLAY and now.get(name) != then
    ]
    return ", ".join(found)


def verdict(found: Sequence[Found], env_id: str, changed: str = "") -> tuple[bool, str]:
    """Return whether all episodes happened again as they are on record, and in a line what was found."""
    wrong = [one for one in found if not one.agrees]
    if wrong:
        others = f" (and {len(wrong) - 1} more of {len(found)})" if len(wrong) > 1 else ""
        return False, wrong[0].line(env_id, changed) + others
    if len(found) == 1:
        return True, found[0].line(env_id)
    return True, f"{len(found)} training episodes: their returns and lengths are those in {EPISODES}"


def require_episodes(config: RunConfig, choice: str) -> None:
    """Check that a run has played training episodes.

    Raises:
        UsageError: it learned from a dataset, or its vector played other episodes than single environments do.
    """
    if other := other_episodes_of(config):
        raise UsageError(f"--training-episode {choice}: {other} (allowed: without it)")
    if config.dataset:
        raise UsageError(
            f"--training-episode {choice}: this run played no training episodes, it learned from"
            f" dataset {config.dataset!r} (allowed: without it)"
        )
