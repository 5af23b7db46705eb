"""Compares a model with the environment that it is said to describe, on transitions that are played.

A subclass may override `step` and inherit its parent's model. Playing a few hundred random steps shows most
such models to be wrong in milliseconds, by an outcome that they don't allow or by outcomes that come far too often;
it can't show that one is right.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

STEPS = 300
MAX_STARTS = 100_000  # a model that may start in more states isn't compared, since that would take seconds
TOLERANCE = 1e-6  # of rewards, relative and absolute: environments may compute them in float32
SHOWN = 3  # outcomes that a message lists
MOST_SDS = (
    8.0  # how far chi-squared may lie above its mean, in standard deviations: no true model is called wrong
)


class Outcomes(NamedTuple):
    """What may follow an action, in a few columns of the same length K."""

    probability: Array  # float64 [K]
    kind: Array  # int [K]: equal for outcomes that can't be told apart
    successor: Array  # int [K]
    reward: Array  # float64 [K]
    terminated: Array  # bool [K]
    shown: Array  # [K, ...]: what the environment would show


def find_disagreement(
    env: gymnasium.Env, model: TabularModel, *, steps: int = STEPS, seed: int = 0
) -> str | None:
    """Play random actions and return the first transition that the model doesn't allow, in words; None without one.

    An observation that several states share stands for all of them that may have led there, so that no model
    is found wrong for showing less than its state.

    Args:
        env: is reset and stepped, and left in the middle of an episode.
        seed: of the episodes and of the actions, which draw from no other generator.
    """
    if not isinstance(env.action_space, spaces.Discrete) or np.count_nonzero(model.initial) > MAX_STARTS:
        return None
    if model.num_actions != env.action_space.n:
        return f"the model has {model.num_actions} actions, the environment {env.action_space.n}"
    rng, follower = np.random.default_rng(seed), _Follower(model)
    over = True
    for step in range(steps):
        if over:
            obs, info = env.reset(seed=seed + step)
            if not follower.start(obs):
                return f"reset shows {_brief(obs)}, in which the model starts with probability 0"
        action = int(rng.choice(follower.actions(info.get("action_mask"))))
        obs, reward, terminated, truncated, info = env.step(action + int(env.action_space.start))
        if (wrong := follower.follow(action, obs, float(reward), bool(terminated))) is not None:
            return wrong
        over = terminated or truncated
    return follower.improbable()


class _Follower:
    """Keeps the states that an episode may be in, given everything that was shown."""

    def __init__(self, model: TabularModel):
        self._model = model
        self._starts = np.flatnonzero(model.initial > 0)
        self._shown_at_start = model.observe(self._starts)
        self._rows: dict[int, Outcomes] = {}
        self._counts: dict[int, Array] = {}  # by row: how often each kind of outcome came
        self.states: list[int] = []

    def start(self, obs: Any) -> bool:
        """Begin an episode; return whether the model may start with this observation."""
        self.states = self._starts[_equal(self._shown_at_start, obs)].tolist()
        return bool(self.states)

    def actions(self, mask: Any) -> Array:
        """Return the actions to choose from: those that are legal by the model and by the mask [A], if any are."""
        legal = self._model.available[self.states].any(axis=0)
        both = legal if mask is None else legal & np.asarray(mask, dtype=bool)
        return np.flatnonzero(both if both.any() else legal)

    def follow(self, action: int, obs: Any, reward: float, terminated: bool) -> str | None:
        """Take in a step; return in words what the model has against it, or None."""
        reached: set[int] = set()
        for state in self.states:
            known = self._outcomes(state, action)
            near = np.abs(known.reward - reward) <= TOLERANCE * (1 + abs(reward))
            fits = near & (known.terminated == terminated)
            if fits.any():
                fits = fits & _equal(known.shown, obs)
                reached.update(known.successor[fits].tolist())
                if len(self.states) == 1:
                    self._count(state * self._model.num_actions + action, known.kind[fits])
        if reached:
            self.states = sorted(reached)
            return None
        allowed = self._outcomes(self.states[0], action)
        return (
            f"state {self.states[0]}, action {action}: step gives {_told(_brief(obs), reward, terminated)};"
            f" the model allows {_listed(allowed)}"
        )

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
        state, action = divmod(worst, self._model.num_actions)
        known, counts = self._rows[worst], self._counts[worst]
        p = np.bincount(known.kind, known.probability, len(counts))
        pairs = zip(counts, p, strict=True)
        came = ", ".join(f"{int(c)} of {int(counts.sum())} times with probability {q:.3g}" for c, q in pairs)
        return f"outcomes don't come as often as the model says: state {state}, action {action}: {came}"

    def _outcomes(self, state: int, action: int) -> Outcomes:
        """Return what may follow an action with a probability above 0."""
        model, row = self._model, state * self._model.num_actions + action
        if row not in self._rows:
            places = np.arange(model.indptr[row], model.indptr[row + 1])
            places = places[model.probability[places] > 0]
            successor = model.successor[places]
            shown = model.observe(successor)
            reward, ends = model.reward[places], model.terminated[places]
            kind = np.unique(np.stack([successor, reward, ends], 1), axis=0, return_inverse=True)[1].ravel()
            self._rows[row] = Outcomes(model.probability[places], kind, successor, reward, ends, shown)
        return self._rows[row]


def _equal(shown: Array, obs: Any) -> Array:
    """Return which of K observations [K, ...] equal one [...], bool [K]."""
    seen = np.asarray(obs)
    if shown.shape[1:] != seen.shape:
        return np.zeros(len(shown), dtype=bool)
    return (shown == seen).reshape(len(shown), -1).all(axis=1)


def _told(shown: str, reward: float, terminated: bool) -> str:
    return f"{shown}, reward {reward:g}{', the end' if terminated else ''}"


def _listed(outcomes: Outcomes) -> str:
    rows = zip(outcomes.shown, outcomes.reward, outcomes.terminated, strict=True)
    told = list(dict.fromkeys(_told(_brief(shown), reward, end) for shown, reward, end in rows))
    return (
        " or ".join(told[:SHOWN]) + (f" or {len(told) - SHOWN} more" if len(told) > SHOWN else "")
        or "nothing"
    )


def _brief(obs: Any) -> str:
    """Return an observation in words: the number of a state, or the start of an array."""
    seen = np.asarray(obs)
    return f"state {seen}" if seen.shape == () else f"observation {seen.ravel()[:8].tolist()}"
