"""Writes labelled examples as recorded episodes, so that an agent that imitates recorded actions is a classifier.

    write_examples("data/digits", images, digits)                    # uint8 [n, 8, 8], int [n]
    write_examples("data/copy", series, answers, sequences=True)     # [n, T, ...], int [n] or [n, T]

Each example becomes one episode, whose observations are its inputs and whose actions are its labels. A labelled
step has reward 1, and the last step terminates. At a step without a label the action mask allows only action 0,
and the reward is 0. The observation after the last step is never used and is all zeros. Example e has the seed
e, with which `lab/Examples-v0` shows it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.datasets.dataset import RecordedEpisode
from rl_lab.datasets.writer import new_dataset
from rl_lab.storage.versions import versions
from rl_lab.types import Array, UsageError

NO_LABEL = -1

Arrays = Array | Sequence[Any]


def write_examples(
    path: str | Path,
    inputs: Arrays,
    labels: Arrays,
    *,
    sequences: bool = False,
    num_classes: int | None = None,
) -> None:
    """Write examples as a dataset folder, for `--dataset` and for `lab/Examples-v0`.

    Args:
        inputs: [n, ...]: uint8 (such as images), floats (stored as float32), or indices as whole numbers [n].
        labels: int [n], from 0.
        sequences: inputs are [n, T, ...] (or n arrays of different lengths), and labels belong to the last
            steps, [n], or to all steps, [n, T], with -1 where there is none.
        num_classes: by default the largest label plus 1.

    Raises:
        UsageError: the arrays don't fit together, or the path is occupied.
        NotWritten: the file system refused.
    """
    observed, answers = _series(inputs, labels, sequences)
    observation_space, action_space = _spaces(observed, answers, num_classes)
    with new_dataset(path, observation_space, action_space) as writer:
        for number, episode in enumerate(_episodes(observed, answers, observation_space, action_space)):
            writer.add(episode, number)
        writer.provenance |= {"examples": len(observed), "versions": versions()}


def examples(
    inputs: Arrays, labels: Arrays, *, sequences: bool = False, num_classes: int | None = None
) -> tuple[spaces.Space, spaces.Discrete, list[RecordedEpisode]]:
    """Return the observation space, the action space and the episodes that `write_examples` would write.

    Raises:
        UsageError: the arrays don't fit together.
    """
    observed, answers = _series(inputs, labels, sequences)
    observation_space, action_space = _spaces(observed, answers, num_classes)
    episodes = _episodes(observed, answers, observation_space, action_space)
    return observation_space, action_space, list(episodes)


def _series(inputs: Arrays, labels: Arrays, sequences: bool) -> tuple[list[Array], list[Array]]:
    """Return each example's inputs [T, ...] and labels int64 [T].

    Raises:
        UsageError: the arrays don't fit together.
    """
    if len(inputs) != len(labels) or not len(inputs):
        raise UsageError(f"inputs {len(inputs)} and labels {len(labels)} differ in number, or there are none")
    if not sequences:
        observed = [np.asarray(x)[None] for x in inputs]
        answers = [np.reshape(y, (-1,)) for y in labels]
    else:
        observed = [np.asarray(x) for x in inputs]
        answers = [_spread(np.asarray(y), len(x)) for x, y in zip(observed, labels, strict=True)]
    for number, (x, y) in enumerate(zip(observed, answers, strict=True)):
        if not len(x) or x.shape[1:] != observed[0].shape[1:] or x.dtype != observed[0].dtype:
            raise UsageError(
                f"example {number} is {x.dtype}{x.shape[1:]} over {len(x)} steps, the first is"
                f" {observed[0].dtype}{observed[0].shape[1:]} (allowed: the same, over 1 step or more)"
            )
        whole = y.dtype.kind in "iu" and len(x) == len(y)
        if not whole or (y < (NO_LABEL if sequences else 0)).any() or (y == NO_LABEL).all():
            least = "-1 for none, and one or more of them from 0" if sequences else "one from 0"
            raise UsageError(
                f"labels {' '.join(str(y).split())} of example {number} don't fit its {len(x)} steps"
                f" (allowed: whole numbers, {least})"
            )
    return observed, [y.astype(np.int64) for y in answers]


def _spread(label: Array, steps: int) -> Array:
    """Return labels [T]; a single label belongs to the last step."""
    if label.ndim:
        return label
    return np.concatenate((np.full(steps - 1, NO_LABEL), label.reshape(1)))


def _spaces(
    observed: list[Array], answers: list[Array], num_classes: int | None
) -> tuple[spaces.Space, spaces.Discrete]:
    classes = 1 + max(int(y.max()) for y in answers)
    if num_classes is not None and num_classes < classes:
        raise UsageError(f"num_classes {num_classes} is less than the labels need (allowed: from {classes})")
    return _space_of(observed), spaces.Discrete(num_classes or classes)


def _space_of(observed: list[Array]) -> spaces.Space:
    shape, dtype = observed[0].shape[1:], observed[0].dtype
    if dtype == np.uint8 and shape:
        return spaces.Box(0, 255, shape, np.uint8)
    if dtype.kind == "f" and all(np.isfinite(x).all() for x in observed):
        return spaces.Box(-np.inf, np.inf, shape or (1,), np.float32)
    if dtype.kind in "iu" and not shape and min(x.min() for x in observed) >= 0:
        return spaces.Discrete(1 + int(max(x.max() for x in observed)))
    raise UsageError(
        f"inputs {dtype}{shape} can't be recorded (allowed: uint8 arrays, finite floats, or numbers from 0)"
    )


def _episodes(
    observed: list[Array],
    answers: list[Array],
    observation_space: spaces.Space,
    action_space: spaces.Discrete,
) -> Iterator[RecordedEpisode]:
    masked = any((y == NO_LABEL).any() for y in answers)
    assert observation_space.shape is not None
    for x, y in zip(observed, answers, strict=True):
        steps, labelled = len(y), y != NO_LABEL
        observations = np.zeros((steps + 1, *observation_space.shape), observation_space.dtype)
        observations[:-1] = x.reshape(steps, *observation_space.shape)
        masks = np.ones((steps + 1, int(action_space.n)), np.bool_)
        masks[:-1][~labelled, 1:] = False
        yield RecordedEpisode(
            observations=observations,
            actions=np.where(labelled, y, 0),
            rewards=labelled.astype(np.float64),
            terminations=np.arange(steps) == steps - 1,
            truncations=np.zeros(steps, np.bool_),
            masks=masks if masked else None,
        )
