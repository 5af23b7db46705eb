"""Episodes that are not learned from: which they are, what they showed, and how the clone does on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.policies import greedy
from rl_lab.problem import Problem
from rl_lab.seeding import seed_of
from rl_lab.storage.state_trees import Ring
from rl_lab.training.experience import RecordedOrder
from rl_lab.trees import leaves_of, map_leaves
from rl_lab.types import Array, EnvSpec, Obs, Step

from .labels import NO_LABEL

CHUNK = 256  # steps that are classified at once; with a memory: episodes
HASHES = 2**31


class Split:
    """Chooses the episodes that are held out, by a hash of the run's seed and the episode's number.

    Of a dataset it is the same recorded episodes in every epoch, `share` of all but at least one; of played
    episodes it is each with the probability `share`.
    """

    def __init__(self, share: float, problem: Problem):
        self._share, self._seed = share, problem.seed
        self._order: RecordedOrder | None = None
        if problem.dataset is not None and share:
            total = problem.dataset.num_episodes
            self._order = RecordedOrder(problem.seed, problem.num_envs, total)
            hashes = [seed_of(problem.seed, "held out", number) for number in range(total)]
            self._numbers = set(np.argsort(hashes, kind="stable")[: max(1, round(share * total))].tolist())

    def holds_out(self, column: int, episode: int) -> bool:
        """Say whether a column's `episode`-th is held out."""
        if self._order is not None:
            return self._order.number(column, episode) in self._numbers
        return seed_of(self._seed, "held out", column, episode) < self._share * HASHES


class HeldOut:
    """The first `capacity` steps of the episodes that are held out."""

    def __init__(self, capacity: int, spec: EnvSpec):
        self.written, self._capacity = 0, capacity
        self.obs = _empty(spec.observation_space, capacity)  # [capacity, ...]
        self.label = np.full(capacity, NO_LABEL)  # int64 [capacity]
        self.column = np.zeros(capacity, np.int64)
        self.is_first = np.zeros(capacity, np.bool_)
        actions = spec.action_space
        assert isinstance(actions, spaces.Discrete)
        self.num_actions = int(actions.n)
        self.mask = np.ones((capacity, self.num_actions), np.bool_) if spec.has_mask else None

    def add(self, step: Step, label: Array, columns: Array) -> None:
        """Keep the steps of these columns, as long as there is room."""
        for i in columns[: self._capacity - self.written]:
            row = self.written
            for kept, seen in zip(
                leaves_of(self.obs, sort_keys=True), leaves_of(step.obs, sort_keys=True), strict=True
            ):
                kept[row] = seen[i]
            self.label[row], self.column[row], self.is_first[row] = label[i], i, step.is_first[i]
            if self.mask is not None and step.mask is not None:
                self.mask[row] = step.mask[i]
            self.written += 1

    def steps(self) -> Iterator[tuple[Obs, Array]]:
        """Yield chunks of labelled steps: observations [B, ...] and rows [B]."""
        labelled = np.flatnonzero(self.label[: self.written] != NO_LABEL)
        for start in range(0, len(labelled), CHUNK):
            rows = labelled[start : start + CHUNK]
            yield self._observations(rows), rows

    def episodes(self) -> Iterator[tuple[Obs, Array]]:
        """Yield chunks of episodes: observations [T, B, ...] and rows [T, B], -1 behind an episode's end."""
        order = np.argsort(self.column[: self.written], kind="stable")
        cuts = np.flatnonzero(self.is_first[order])
        whole = np.split(order, cuts[1:]) if len(cuts) else []
        for start in range(0, len(whole), CHUNK):
            chunk = whole[start : start + CHUNK]
            rows = np.full((max(map(len, chunk)), len(chunk)), -1)
            for b, episode in enumerate(chunk):
                rows[: len(episode), b] = episode
            yield self._observations(rows), rows

    def _observations(self, rows: Array) -> Obs:
        return map_leaves(lambda x: x[rows], self.obs)

    def state_dict(self) -> dict[str, Any]:
        """Return the columns as rings: a checkpoint adds only what is new."""
        return {
            name: map_leaves(lambda x: Ring(x, self.written), tree) for name, tree in self._columns().items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state in."""
        for name, tree in self._columns().items():
            rings: list[Any] = leaves_of(state[name], sort_keys=True)
            for ring, array in zip(rings, leaves_of(tree, sort_keys=True), strict=True):
                ring.copy_into(array)
                self.written = ring.written

    def _columns(self) -> dict[str, Any]:
        names = ("obs", "label", "column", "is_first", *(() if self.mask is None else ("mask",)))
        return {name: getattr(self, name) for name in names}


def _empty(space: spaces.Space, rows: int) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _empty(part, rows) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_empty(part, rows) for part in space.spaces)
    return np.zeros((rows, *(space.shape or ())), space.dtype)


# Figures -----------------------------------------------------------------------------------------------


def predictions(
    held_out: HeldOut, logits_of: Callable[[Obs, bool], Array], remembers: bool
) -> tuple[Array, Array, float]:
    """Return labels and predictions int64 [K] of the labelled steps, and their mean cross-entropy.

    Args:
        logits_of: maps observations, [B, ...] or with True [T, B, ...] from an episode's start, to logits.
    """
    labels, predicted, losses = [], [], []
    for obs, rows in held_out.episodes() if remembers else held_out.steps():
        logits = logits_of(obs, remembers)
        counts = (rows >= 0) & (held_out.label[rows] != NO_LABEL)
        rows, logits = rows[counts], logits[counts].astype(np.float64)
        label = held_out.label[rows]
        mask = None if held_out.mask is None else held_out.mask[rows]
        labels.append(label)
        predicted.append(greedy(logits, mask))
        losses.append(np.logaddexp.reduce(logits, axis=-1) - logits[np.arange(len(rows)), label])
    joined = [np.concatenate(parts) for parts in (labels, predicted, losses)]
    return joined[0], joined[1], float(joined[2].mean())


def figures_of(label: Array, predicted: Array) -> dict[str, float]:
    """Return scikit-learn's figures; precision, recall and F1 are macro averages over the classes that occur."""
    from sklearn import metrics

    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        label, predicted, average="macro", zero_division=0.0
    )
    return {
        "accuracy": float(metrics.accuracy_score(label, predicted)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }


def confusion_of(label: Array, predicted: Array, num_actions: int) -> list[list[int]]:
    """Return scikit-learn's confusion matrix [A, A]: rows are labels, columns predictions."""
    from sklearn import metrics

    return metrics.confusion_matrix(label, predicted, labels=np.arange(num_actions)).tolist()
