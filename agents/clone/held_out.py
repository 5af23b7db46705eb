"""Held-out episodes, which are never learned from: their choice, their steps, and the clone's figures on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.problem import Problem
from rl_lab.seeding import seed_of
from rl_lab.storage.state_trees import Ring
from rl_lab.training.experience import RecordedOrder
from rl_lab.trees import leaves_of, map_leaves
from rl_lab.types import Array, EnvSpec, Obs, Step

from .action_classes import ActionClasses
from .config import Config
from .labelled_steps import NO_LABEL

CHUNK = 256  # steps (with a memory: episodes) that are classified at once
HASHES = 2**31  # `seed_of` returns numbers below this
LogitsOf = Callable[
    [Obs, bool], Array
]  # maps observations [B, ...], or with True [T, B, ...], to logits [..., A]


class Split:
    """Chooses the episodes to hold out, by a hash of the run's seed and the episode's number.

    In a dataset these are the same recorded episodes in every epoch: `share` of all, but at least one. Each played
    episode is held out with probability `share`.
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
        """Return whether the episode with number `episode` in a column (one of the N environments) is held out."""
        if self._order is not None:
            return self._order.number(column, episode) in self._numbers
        return seed_of(self._seed, "held out", column, episode) < self._share * HASHES


class HeldOutSteps:
    """The first `capacity` steps of held-out episodes."""

    def __init__(self, capacity: int, spec: EnvSpec):
        self.written, self._capacity = 0, capacity
        self.obs = _empty(spec.observation_space, capacity)  # [capacity, ...]
        self.label = np.full(capacity, NO_LABEL)  # int64 [capacity]
        self.column = np.zeros(capacity, np.int64)  # [capacity]: index of the environment
        self.is_first = np.zeros(capacity, np.bool_)  # [capacity]
        self.classes = ActionClasses(spec.action_space)
        self.mask = np.ones((capacity, self.classes.num_outputs), np.bool_) if spec.has_mask else None

    def add(self, step: Step, label: Array, columns: Array) -> None:
        """Keep the steps of these columns, as long as there is room; labels are int64 [N], columns indices int64."""
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

    def step_chunks(self) -> Iterator[tuple[Obs, Array]]:
        """Yield chunks of labelled steps: observations [B, ...] and rows [B]."""
        labelled = np.flatnonzero(self.label[: self.written] != NO_LABEL)
        for start in range(0, len(labelled), CHUNK):
            rows = labelled[start : start + CHUNK]
            yield self._observations(rows), rows

    def episode_chunks(self) -> Iterator[tuple[Obs, Array]]:
        """Yield chunks of whole episodes: observations [T, B, ...] and rows [T, B], -1 after an episode's end."""
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
        """Return the columns as rings, so that a checkpoint adds only the steps that are new."""
        return {
            name: map_leaves(lambda x: Ring(x, self.written), tree) for name, tree in self._columns().items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state in place."""
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


class HeldOutEvaluator:
    """Follows the open episodes, keeps the steps of held-out ones, and evaluates the clone on them."""

    def __init__(self, config: Config, problem: Problem, remembers: bool):
        self._config, self._problem, self._remembers = config, problem, remembers
        self._split = Split(config.held_out, problem)
        self.episodes = np.full(problem.num_envs, -1)  # int64 [N]: the number of each column's open episode
        self.is_held_out = np.zeros(problem.num_envs, np.bool_)  # [N]
        self.steps: HeldOutSteps | None = None  # allocated with the first step

    def begin_episodes(self, is_first: Array) -> None:
        """Count the episodes that begin where `is_first`, bool [N]."""
        if is_first.any():
            self.episodes = self.episodes + is_first
            self._find_held_out()

    def add(self, step: Step, label: Array) -> None:
        """Keep the steps of held-out columns, unless an earlier epoch contained them; labels are int64 [N]."""
        if self.steps is None:
            self.steps = HeldOutSteps(self._config.held_out_steps, self._problem.spec)
        new = self.is_held_out & self._in_first_epoch()
        if not self._remembers:
            new = new & (label != NO_LABEL)
        self.steps.add(step, label, np.flatnonzero(new))

    def _find_held_out(self) -> None:
        opened = enumerate(self.episodes.tolist())
        self.is_held_out = np.array([k >= 0 and self._split.holds_out(i, k) for i, k in opened])

    def _in_first_epoch(self) -> Array:
        """Return the columns whose open episode no earlier epoch contained, bool [N]."""
        width, dataset = len(self.episodes), self._problem.dataset
        numbers = self.episodes * width + np.arange(width)
        return np.ones(width, np.bool_) if dataset is None else numbers < dataset.num_episodes

    @property
    def epochs(self) -> float | None:
        """How often each of the dataset's episodes was begun, on average; None without a dataset."""
        dataset = self._problem.dataset
        return None if dataset is None else float((self.episodes + 1).sum()) / dataset.num_episodes

    # Evaluating --------------------------------------------------------------------------------------

    def classify(self, logits_of: LogitsOf) -> tuple[Array, Array, float] | None:
        """Return labels and predictions [K] of the held-out steps and their mean cross-entropy; None without any."""
        steps = self.steps
        if steps is None or not (steps.label[: steps.written] != NO_LABEL).any():
            return None
        return classify_steps(steps, logits_of, self._remembers)

    def figures(self, logits_of: LogitsOf) -> dict[str, float]:
        """Return the classifier's figures on the held-out steps; {} without any."""
        if (classified := self.classify(logits_of)) is None:
            return {}
        label, predicted, loss = classified
        figures = {"loss": loss} | figures_of(label, predicted) | {"labels": len(label)}
        return {f"held_out_{name}": value for name, value in figures.items()}

    def results(self, logits_of: LogitsOf) -> dict[str, Any]:
        """Return figures, the share of the commonest label, and the confusion matrix; {} without held-out steps.

        There is no confusion matrix for actions of several entries.
        """
        if (classified := self.classify(logits_of)) is None:
            return {}
        label, predicted, _ = classified
        commonest = np.unique(label, return_counts=True)[1].max()
        found = self.figures(logits_of) | {"held_out_commonest": float(commonest / len(label))}
        classes = ActionClasses(self._problem.spec.action_space)
        if classes.num_entries > 1:
            return found
        return found | {"held_out_confusion": confusion_of(label, predicted, classes.num_classes)}

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the held-out steps and the numbers of the open episodes."""
        steps = {} if self.steps is None else self.steps.state_dict()
        return {"held_out": steps, "episodes": self.episodes.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state in place."""
        self.episodes = np.array(state["episodes"])
        self._find_held_out()
        if state["held_out"]:
            self.steps = HeldOutSteps(self._config.held_out_steps, self._problem.spec)
            self.steps.load_state_dict(state["held_out"])


# Figures -----------------------------------------------------------------------------------------------


def classify_steps(steps: HeldOutSteps, logits_of: LogitsOf, remembers: bool) -> tuple[Array, Array, float]:
    """Return labels and predictions int64 [K] of the labelled steps, and their mean cross-entropy.

    Args:
        logits_of: maps observations [B, ...], or with True those of whole episodes [T, B, ...], to logits [..., A].
        remembers: whether the network has a memory, and so needs whole episodes.
    """
    labels, predicted, losses = [], [], []
    for obs, rows in steps.episode_chunks() if remembers else steps.step_chunks():
        logits = logits_of(obs, remembers)
        counts = (rows >= 0) & (steps.label[rows] != NO_LABEL)
        rows, logits = rows[counts], logits[counts].astype(np.float64)
        label = steps.label[rows]
        mask = None if steps.mask is None else steps.mask[rows]
        labels.append(label)
        predicted.append(steps.classes.predict(logits, mask))
        losses.append(steps.classes.losses(logits, label))
    joined = [np.concatenate(parts) for parts in (labels, predicted, losses)]
    return joined[0], joined[1], float(joined[2].mean())


def figures_of(label: Array, predicted: Array) -> dict[str, float]:
    """Return scikit-learn's figures of labels and predictions int64 [K].

    Precision, recall and F1 are macro averages over the classes that occur.
    """
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
    """Return scikit-learn's confusion matrix [A, A] of labels (rows) and predictions (columns), both int64 [K]."""
    from sklearn import metrics

    return metrics.confusion_matrix(label, predicted, labels=np.arange(num_actions)).tolist()
