"""Follows what an environment shows through a model, and says where the model doesn't allow it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

TOLERANCE = 1e-6  # of rewards, relative and absolute: environments may compute them in float32
SHOWN = 3  # outcomes that a message lists
# How far chi-squared may lie above its mean, in standard deviations: no true model is called wrong.
MOST_SDS = 8.0


class Outcomes(NamedTuple):
    """What may follow an action, in a few columns of the same length K."""

    probability: Array  # float64 [K]
    kind: Array  # int [K]: equal for outcomes that can't be told apart
    successor: Array  # int [K]
    reward: Array  # float64 [K]
    terminated: Array  # bool [K]
    shown: Array  # [K, ...]: what the environment would show


def outcomes_of(model: TabularModel, row: int) -> Outcomes:
    """Return what may follow the action of a row, `state * num_actions + action`, with a probability above 0."""
    places = np.arange(model.indptr[row], model.indptr[row + 1])
    places = places[model.probability[places] > 0]
    successor, reward, ends = model.successor[places], model.reward[places], model.terminated[places]
    numbers: dict[tuple[Any, ...], int] = {}
    kinds = [
        numbers.setdefault(k, len(numbers))
        for k in zip(successor.tolist(), reward.tolist(), ends.tolist(), strict=True)
    ]
    shown = model.observe(successor)
    return Outcomes(model.probability[places], np.array(kinds, np.int64), successor, reward, ends, shown)


class Follower:
    """Keeps the states that an episode may be in, given everything that was shown.

    An observation that several states share stands for all of them that may have led there, so that no model
    is found wrong for showing less than its state.
    """

    def __init__(self, model: TabularModel):
        self.model = model
        self._starts = np.flatnonzero(model.initial > 0)
        self._shown_at_start = model.observe(self._starts)
        self._rows: dict[int, Outcomes] = {}
        self._counts: dict[int, Array] = {}  # by row: how often each kind of outcome came
        self.states: list[int] = []

    def start(self, obs: Any) -> bool:
        """Begin an episode; return whether the model may start with this observation."""
        self.states = self._starts[equal(self._shown_at_start, obs)].tolist()
        return bool(self.states)

    def actions(self, mask: Any) -> Array:
        """Return the actions to choose from: those that are legal by the model and by the mask [A], if any are."""
        legal = self.model.available[self.states].any(axis=0)
        both = legal if mask is None else legal & np.asarray(mask, dtype=bool)
        return np.flatnonzero(both if both.any() else legal)

    def follow(self, action: int, obs: Any, reward: float, terminated: bool) -> str | None:
        """Take in a step; return in words what the model has against it, or None."""
        reached: set[int] = set()
        for state in self.states:
            known = self._outcomes(state, action)
            fits = near(known.reward, reward) & (known.terminated == terminated)
            if fits.any():
                fits = fits & equal(known.shown, obs)
                reached.update(known.successor[fits].tolist())
                if len(self.states) == 1:
                    self._count(state * self.model.num_actions + action, known.kind[fits])
        if reached:
            self.states = sorted(reached)
            return None
        allowed = self._outcomes(self.states[0], action)
        return objection(self.states[0], action, obs, reward, terminated, allowed)

    def _count(self, row: int, kinds: Array) -> None:
        """Count an outcome whose kind (int [...], all of one) is known; leave out what several kinds may be."""
        if len(np.unique(kinds)) == 1:
            counts = self._counts.setdefault(row, np.zeros(self._rows[row].kind.max() + 1))
            counts[kinds[0]] += 1

    def improbable(self) -> str | None:
        """Return in words that outcomes came too often or too rarely for the model's probabilities, or None.

        Pearson's chi-squared is added up over all pairs (state, action) and compared with its mean and variance.
        """
        excess = variance = 0.0
        worst, most = 0, -np.inf
        for row, counts in self._counts.items():
            known = self._rows[row]
            p = np.bincount(known.kind, known.probability, len(counts))
            p = p / p.sum()
            k, n = len(p), counts.sum()
            found = float(((counts - n * p) ** 2 / (n * p)).sum()) - (k - 1)
            excess += found
            variance += 2 * (k - 1) + max(0.0, ((1 / p).sum() - k * k - 2 * k + 2) / n)
            worst, most = (row, found) if found > most else (worst, most)
        if excess <= MOST_SDS * np.sqrt(variance):
            return None
        known, counts = self._rows[worst], self._counts[worst]
        p = np.bincount(known.kind, known.probability, len(counts))
        return unlikely(*divmod(worst, self.model.num_actions), counts, p)

    def _outcomes(self, state: int, action: int) -> Outcomes:
        row = state * self.model.num_actions + action
        if row not in self._rows:
            self._rows[row] = outcomes_of(self.model, row)
        return self._rows[row]


# Words -----------------------------------------------------------------------------------------------


def near(known: Array, reward: Array | float) -> Array:
    """Return which rewards of the model equal one that came, but for rounding: bool [K]."""
    return np.abs(known - reward) <= TOLERANCE * (1 + np.abs(reward))


def equal(shown: Array, obs: Any) -> Array:
    """Return which of K observations [K, ...] equal one [...], bool [K]."""
    seen = np.asarray(obs)
    if shown.shape[1:] != seen.shape:
        return np.zeros(len(shown), dtype=bool)
    return (shown == seen).reshape(len(shown), -1).all(axis=1)


def objection(state: int, action: int, obs: Any, reward: float, terminated: bool, allowed: Outcomes) -> str:
    """Return in words that the model doesn't allow a step, and what it allows."""
    came = _told(brief(obs), reward, terminated)
    return f"state {state}, action {action}: step gives {came}; the model allows {_listed(allowed)}"


def unlikely(state: int, action: int, counts: Array, probabilities: Array) -> str:
    """Return in words that outcomes came too often or too rarely, given how often and their probabilities [K]."""
    pairs = zip(counts, probabilities, strict=True)
    came = ", ".join(f"{int(c)} of {int(counts.sum())} times with probability {q:.3g}" for c, q in pairs)
    return f"outcomes don't come as often as the model says: state {state}, action {action}: {came}"


def _told(shown: str, reward: float, terminated: bool) -> str:
    return f"{shown}, reward {reward:g}{', the end' if terminated else ''}"


def _listed(outcomes: Outcomes) -> str:
    rows = zip(outcomes.shown, outcomes.reward, outcomes.terminated, strict=True)
    told = list(dict.fromkeys(_told(brief(shown), reward, end) for shown, reward, end in rows))
    return (
        " or ".join(told[:SHOWN]) + (f" or {len(told) - SHOWN} more" if len(told) > SHOWN else "")
        or "nothing"
    )


def brief(obs: Any) -> str:
    """Return an observation in words: the number of a state, or the start of an array."""
    seen = np.asarray(obs)
    return f"state {seen}" if seen.shape == () else f"observation {seen.ravel()[:8].tolist()}"
