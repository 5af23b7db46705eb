"""The numbers that make up an action, and whether two actions differ by more than what rounding explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rl_lab.types import Array

CLOSE = 1e-4  # by which scores may differ through rounding, relative to the largest


class Entry(Protocol):
    """One number of an action, and how the scores decide it."""

    @property
    def num_scores(self) -> int:
        """How many scores decide it."""

    @property
    def mask_size(self) -> int:
        """How many of its values a mask tells about."""

    def is_same(self, ours: float, theirs: float) -> bool:
        """Return whether two values are the same."""

    def is_tie(self, scores: Array, legal: Array | None, ours: float, theirs: float) -> bool:
        """Return whether rounding alone may have decided between two values.

        Args:
            scores: those of the entry, [num_scores].
            legal: bool [mask_size], or None for all.
        """


@dataclass(frozen=True)
class OneOf:
    """One of `num_scores` whole numbers from `first` on: the one with the largest score."""

    first: int
    num_scores: int

    @property
    def mask_size(self) -> int:
        """A mask tells about each value."""
        return self.num_scores

    def is_same(self, ours: float, theirs: float) -> bool:
        """Return whether the numbers are equal."""
        return ours == theirs

    def is_tie(self, scores: Array, legal: Array | None, ours: float, theirs: float) -> bool:
        """Return whether both values are legal and their scores are the largest within rounding."""
        allowed = np.ones(self.num_scores, np.bool_) if legal is None else legal
        chosen = [int(value) - self.first for value in (ours, theirs)]
        if not all(0 <= k < self.num_scores and allowed[k] for k in chosen):
            return False
        largest, scale = scores[allowed].max(), np.abs(scores[allowed]).max()
        return bool(largest - scores[chosen].min() <= CLOSE * scale)


@dataclass(frozen=True)
class Mean:
    """A real number, its score within the bounds; rounded where the space holds whole numbers."""

    rounds: bool
    num_scores: int = 1
    mask_size: int = 0

    def is_same(self, ours: float, theirs: float) -> bool:
        """Return whether the numbers are equal, or without rounding to whole ones are close."""
        return ours == theirs if self.rounds else bool(np.isclose(theirs, ours, rtol=CLOSE, atol=CLOSE))

    def is_tie(self, scores: Array, legal: Array | None, ours: float, theirs: float) -> bool:
        """Return whether the score lies within rounding of halfway between two whole numbers."""
        mean = float(scores[0])
        reach = 0.5 + CLOSE * max(1.0, abs(mean))
        return self.rounds and max(abs(ours - mean), abs(theirs - mean)) <= reach


def same(entries: Sequence[Entry], ours: Array, theirs: Array) -> bool:
    """Return whether two actions [...] are the same in every entry."""
    return all(e.is_same(*pair) for e, *pair in zip(entries, *_flat(ours, theirs), strict=True))


def apart_by_ties(
    entries: Sequence[Entry], scores: Array, mask: Array | None, ours: Array, theirs: Array
) -> bool:
    """Return whether two actions [...] of one observation differ only in entries that rounding may have decided.

    Args:
        scores: of all entries, side by side.
        mask: bool, the values of all discrete entries side by side; None for all.
    """
    at = told = 0
    for entry, one, other in zip(entries, *_flat(ours, theirs), strict=True):
        part = scores[at : at + entry.num_scores]
        legal = None if mask is None or not entry.mask_size else mask[told : told + entry.mask_size]
        if not (entry.is_same(one, other) or entry.is_tie(part, legal, one, other)):
            return False
        at, told = at + entry.num_scores, told + entry.mask_size
    return True


def _flat(*actions: Array) -> list[list[float]]:
    return [np.ravel(action).tolist() for action in actions]
