"""Whether an exported file takes the lab's actions: both play the same steps, each with its own carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rl_lab.environments.masks import mask_of
from rl_lab.exporting.acting import Trained
from rl_lab.exporting.entries import Entry, apart_by_ties, same
from rl_lab.exporting.files import ExportedPolicy
from rl_lab.seeding import seed_of
from rl_lab.types import Array, Fault

OBSERVATIONS = 1_000
EPSILON = 0.1  # share of random actions, so that the observations aren't those of a single path


class Disagrees(Fault):
    """An exported file takes other actions than the lab's policy, and isn't to be used."""


@dataclass(frozen=True)
class Agreement:
    """On how many observations the two took the same action."""

    observations: int
    equal: int
    ties: int  # of the others: those that differ in entries alone whose best scores are within rounding
    episodes: int
    largest_difference: float  # between continuous actions

    @property
    def holds(self) -> bool:
        """Whether all actions are the lab's, apart from ties."""
        return self.equal + self.ties == self.observations

    def __str__(self) -> str:
        apart = f", the other {self.ties} are ties within rounding" if self.ties else ""
        return f"{self.equal:,} of {self.observations:,} actions equal the lab's{apart} ({self.episodes} episodes)"


def agreement(
    trained: Trained, exported: ExportedPolicy, *, observations: int = OBSERVATIONS, seed: int | None = None
) -> Agreement:
    """Play steps of a single environment and compare the actions of the lab's policy and of an exported one.

    The environment takes the lab's action, or now and then a random one.

    Args:
        seed: of the episodes and the random actions; by default the run's.
    """
    config = trained.description.config
    seed = config.seed if seed is None else seed
    rng = np.random.default_rng(seed_of(seed, "export"))
    envs, entries = trained.problem.make(1), trained.module.choice.entries()
    space = trained.problem.spec.action_space
    space.seed(int(rng.integers(2**31)))
    equal = ties = episodes = 0
    largest, is_first, mask = 0.0, np.ones(1, np.bool_), None
    ours, theirs = trained.policy.initial_state(1), exported.initial_state(1)
    obs = None
    try:
        for _ in range(observations):
            if is_first[0]:
                obs, info = envs.reset(seed=[seed_of(seed, "export episode", episodes)])
                mask, episodes = mask_of(info), episodes + 1
            decision = trained.policy.act(obs, ours, is_first, mask)
            action, scores, *carry = exported.outputs(obs, theirs, is_first, mask)
            ours, theirs = decision.state, tuple(carry)
            difference = _difference(decision.action, action)
            largest = max(largest, difference)
            told = mask[0] if trained.signature.has_mask and mask is not None else None
            is_equal, is_tie = _compared(entries, scores[0], told, decision.action, action)
            equal, ties = equal + is_equal, ties + is_tie
            taken = decision.action
            if mask is None and rng.random() < EPSILON:
                taken = _random(space, taken)
            obs, _, terminated, truncated, info = envs.step(taken)
            mask, is_first = mask_of(info), terminated | truncated
    finally:
        envs.close()
    return Agreement(observations, equal, ties, episodes, largest)


def _compared(
    entries: Sequence[Entry], scores: Array, mask: Array | None, ours: Array, theirs: Array
) -> tuple[bool, bool]:
    """Return whether two actions [1, ...] are equal, and whether they aren't but differ by ties alone."""
    if ours.shape != theirs.shape or (ours.dtype.kind != "f" and ours.dtype != theirs.dtype):
        return False, False
    is_equal = same(entries, ours, theirs)
    return is_equal, not is_equal and apart_by_ties(entries, scores, mask, ours, theirs)


def _difference(one: Array, other: Array) -> float:
    return float(np.abs(one - other).max()) if one.dtype.kind == "f" and one.size else 0.0


def _random(space: object, like: Array) -> Array:
    from rl_lab.environments.actions import joined_actions

    return joined_actions(space, [space.sample()]).astype(like.dtype)  # type: ignore[arg-type, attr-defined]
