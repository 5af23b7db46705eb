"""Whether an exported file takes the lab's actions: both play the same steps, each with its own carry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rl_lab.environments.masks import mask_of
from rl_lab.exporting.acting import Trained
from rl_lab.exporting.files import ExportedPolicy
from rl_lab.seeding import seed_of
from rl_lab.types import Array

OBSERVATIONS = 1_000
EPSILON = 0.1  # share of random actions, so that the observations aren't those of a single path
CLOSE = 1e-4  # by which two scores may differ through rounding, relative to the largest


class Disagrees(RuntimeError):
    """An exported file takes other actions than the lab's policy; the files that were written aren't to be used."""


@dataclass(frozen=True)
class Agreement:
    """On how many observations the two took the same action."""

    observations: int
    equal: int
    ties: int  # of the others: two scores that differ by rounding alone
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
    envs = trained.problem.make(1)
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
            if _same(decision.action, action):
                equal += 1
            elif _is_tie(scores, mask):
                ties += 1
            taken = decision.action
            if mask is None and rng.random() < EPSILON:
                taken = _random(space, taken)
            obs, _, terminated, truncated, info = envs.step(taken)
            mask, is_first = mask_of(info), terminated | truncated
    finally:
        envs.close()
    return Agreement(observations, equal, ties, episodes, largest)


def _same(one: Array, other: Array) -> bool:
    if one.dtype.kind == "f":
        return bool(np.allclose(one, other, rtol=CLOSE, atol=CLOSE))
    return one.dtype == other.dtype and np.array_equal(one, other)


def _difference(one: Array, other: Array) -> float:
    return float(np.abs(one - other).max()) if one.dtype.kind == "f" and one.size else 0.0


def _is_tie(scores: Array, mask: Array | None) -> bool:
    """Return whether the two largest legal scores of one observation differ by rounding alone."""
    legal = scores[0] if mask is None or mask.shape != scores.shape else scores[0][mask[0]]
    if len(legal) < 2:
        return False
    largest, second = np.sort(legal)[::-1][:2]
    return bool(largest - second <= CLOSE * float(np.abs(legal).max()))


def _random(space: object, like: Array) -> Array:
    from rl_lab.environments.actions import joined_actions

    return joined_actions(space, [space.sample()]).astype(like.dtype)  # type: ignore[arg-type, attr-defined]
