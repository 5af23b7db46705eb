"""The exact distribution of n-step targets: what temporal-difference learning averages over, without sampling.

A target is the discounted sum of the rewards of n steps (fewer where the episode ends) and the bootstrap value of
the state reached. Rewards after the first step are those of the policy that acts, as they are in a replay.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

MOST_TARGETS = 300_000  # in all; more would take minutes
SAME = 1e-12  # sums of rewards that differ by less, relative to their size, are one


class TooManyTargets(ValueError):
    """The targets of a model are too many to be listed."""


class Targets(NamedTuple):
    """All possible targets `reward + discount * value[state]`, in columns of the same length K, sorted by row."""

    row: Array  # int64 [K]: state * num_actions + action of the pair that is learned
    probability: Array  # float64 [K]: sums to 1 in each row
    reward: Array  # float64 [K]: discounted sum of the steps' rewards
    discount: Array  # float64 [K]: of the bootstrap; 0 where the episode has ended
    state: Array  # int64 [K]: where to bootstrap; 0 where the episode has ended


def n_step_targets(
    model: TabularModel,
    behaviour: Array,
    gamma: float,
    n_steps: int,
    *,
    reward_clip: float | None = None,
    most: int | None = None,
) -> Targets:
    """List the n-step targets of every (state, action) that has outcomes, with their probabilities.

    Args:
        behaviour: the policy that acts after the first step, [S, A].
        gamma: discount per step.
        n_steps: steps before the bootstrap.
        reward_clip: largest size of each step's reward; None for no bound.
        most: targets that may be listed; by default MOST_TARGETS.

    Raises:
        TooManyTargets: there are more.
    """
    most = MOST_TARGETS if most is None else most
    reward = model.reward if reward_clip is None else np.clip(model.reward, -reward_clip, reward_clip)
    possible = model.probability > 0
    known = Targets(
        model.row[possible], model.probability[possible], reward[possible],
        np.where(model.terminated[possible], 0.0, gamma), model.successor[possible].astype(np.int64),
    )  # fmt: skip
    onward = _steps_of(model, behaviour, reward)
    known = _merged(known)
    for _ in range(n_steps - 1):
        known = _merged(_extended(known, onward, gamma, most))
    if len(known.row) > most:
        raise TooManyTargets(f"{len(known.row)} targets are more than {most}")
    return known


class _Steps(NamedTuple):
    """What one step of the behaviour policy may bring: columns [J], those of state s at `offsets[s:s + 2]`."""

    offsets: Array
    probability: Array
    reward: Array
    successor: Array
    terminated: Array


def _steps_of(model: TabularModel, behaviour: Array, reward: Array) -> _Steps:
    weight = model.probability * behaviour.ravel()[model.row]
    kept = weight > 0
    owner = model.row[kept] // model.num_actions  # rows are sorted by state
    offsets = np.searchsorted(owner, np.arange(model.num_states + 1))
    successor = model.successor[kept].astype(np.int64)
    return _Steps(offsets, weight[kept], reward[kept], successor, model.terminated[kept])


def _extended(known: Targets, onward: _Steps, gamma: float, most: int) -> Targets:
    """Return the targets that look one step further where the episode hasn't ended."""
    is_open = known.discount > 0
    ended, going = (Targets(*(column[which] for column in known)) for which in (~is_open, is_open))
    counts = np.diff(onward.offsets)[going.state]
    if (total := int(counts.sum()) + len(ended.row)) > most:
        raise TooManyTargets(f"{total} targets are more than {most}")
    origin = np.repeat(np.arange(len(counts)), counts)
    step = np.arange(len(origin)) - np.repeat(np.cumsum(counts) - counts, counts)
    step += onward.offsets[going.state][origin]
    discount = going.discount[origin]
    further = Targets(
        going.row[origin],
        going.probability[origin] * onward.probability[step],
        going.reward[origin] + discount * onward.reward[step],
        np.where(onward.terminated[step], 0.0, discount * gamma),
        onward.successor[step],
    )
    return Targets(*(np.concatenate(columns) for columns in zip(ended, further, strict=True)))


def _merged(targets: Targets) -> Targets:
    """Return the targets sorted by row, those that are equal as one with the sum of their probabilities."""
    state = np.where(targets.discount > 0, targets.state, 0)
    order = np.lexsort((targets.reward, targets.discount, state, targets.row))
    row, probability, reward, discount, _ = (column[order] for column in targets)
    state = state[order]
    apart = np.abs(np.diff(reward)) > SAME * (1.0 + np.abs(reward[1:]))
    apart |= (np.diff(row) != 0) | (np.diff(state) != 0) | (np.diff(discount) != 0)
    first = np.flatnonzero(np.concatenate(([True], apart)))
    return Targets(
        row[first], np.add.reduceat(probability, first), reward[first], discount[first], state[first]
    )
