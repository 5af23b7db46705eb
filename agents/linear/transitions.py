"""One-step transitions of linear learners, and the wait of on-policy ones for the action that follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from rl_lab.types import Array, Step

Probabilities = Callable[[Array, Array], Array]  # points [N, D], legal [N, A] -> [N, A]


@dataclass(frozen=True, eq=False)
class Transitions:
    """Steps of N environments as linear learners read them; every array leads with [N]."""

    points: Array  # float64 [N, D]: what `Features.read` makes of the observation
    action: Array  # int64 [N], counted from 0
    reward: Array  # float64 [N]
    terminated: Array  # bool [N]: zeroes the bootstrap
    done: Array  # bool [N]: terminated or truncated
    is_first: Array  # bool [N]
    legal: Array  # bool [N, A]: actions at `points`
    next_points: Array  # float64 [N, D]
    next_legal: Array  # bool [N, A]
    env: Array  # int64 [N]: the environment that each comes from

    def where(self, rows: Array) -> Transitions:
        """Return the transitions of some rows, bool [N] or int [K]."""
        return Transitions(*(getattr(self, field.name)[rows] for field in fields(self)))


def transitions_of(step: Step, read: Callable[[Any], Array], num_actions: int) -> Transitions:
    """Return a step, whose actions are counted from 0, as transitions.

    Raises:
        FloatingPointError: a reward or an observation isn't finite.
    """
    reward = np.asarray(step.reward, np.float64)
    if not np.isfinite(reward).all():
        raise FloatingPointError(f"reward {reward[~np.isfinite(reward)][0]} isn't finite")
    every = np.ones((len(reward), num_actions), np.bool_)
    return Transitions(
        read(step.obs), np.asarray(step.action, np.int64), reward, step.terminated, step.terminated | step.truncated,
        step.is_first, every if step.mask is None else np.asarray(step.mask, np.bool_),
        read(step.next_obs), every if step.next_mask is None else np.asarray(step.next_mask, np.bool_),
        np.arange(len(reward)),
    )  # fmt: skip


def no_transitions(num_envs: int, dimensions: int, num_actions: int) -> Transitions:
    """Return transitions of zeros."""
    no, legal = np.zeros(num_envs, np.bool_), np.ones((num_envs, num_actions), np.bool_)
    points = np.zeros((num_envs, dimensions))
    return Transitions(
        points, np.zeros(num_envs, np.int64), np.zeros(num_envs), no, no, no, legal, points, legal,
        np.arange(num_envs),
    )  # fmt: skip


def epsilon_greedy(q: Array, legal: Array, epsilon: float) -> Array:
    """Return the probabilities [N, A] with which legal actions are taken: the first of the best but for epsilon.

    Args:
        q: values [N, A].
        legal: bool [N, A]; a row without any gets zeros.
    """
    best = np.where(legal, q, -np.inf).argmax(axis=1)
    count = np.maximum(legal.sum(axis=1, keepdims=True), 1)
    probabilities = epsilon * legal / count
    probabilities[np.arange(len(q)), best] += 1.0 - epsilon
    return probabilities * legal


class NextActions:
    """Holds each environment's last transition until the action that follows it is known.

    A transition that ends its episode doesn't wait: where it was truncated, the action that would have followed is not
    known, and `policy` gives its probabilities. So it does where a new episode begins although none had ended.

    Args:
        empty: transitions of the right shapes.
        policy: maps points and legal actions to the probabilities of the policy that acts.
    """

    def __init__(self, empty: Transitions, policy: Probabilities):
        self._held, self._waits = empty, np.zeros(len(empty.reward), np.bool_)
        self._policy = policy

    def add(self, new: Transitions) -> list[tuple[Transitions, Array]]:
        """Return what the new transitions complete, in order: transitions, and probabilities [K, A] of next actions."""
        complete = []
        if self._waits.any():
            held = self._held.where(self._waits)
            taken = np.eye(new.legal.shape[1])[new.action[self._waits]]
            cut = new.is_first[self._waits]
            if cut.any():
                taken[cut] = self._policy(held.next_points[cut], held.next_legal[cut])
            complete.append((held, taken))
        self._held, self._waits = new, ~new.done
        return complete

    def ended(self) -> tuple[Transitions, Array] | None:
        """Return the new transitions that end an episode, with probabilities of next actions; None if there are none.

        To be called after what `add` returned was learned from, as the policy depends on it.
        """
        if self._waits.all():
            return None
        over = self._held.where(~self._waits)
        return over, self._policy(over.next_points, over.next_legal)

    def state_dict(self) -> dict[str, Any]:
        """Return the transitions held and which of them wait."""
        held = {field.name: getattr(self._held, field.name) for field in fields(self._held)}
        return {"held": held, "waits": self._waits}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self._held = replace(self._held, **{name: np.array(leaf) for name, leaf in state["held"].items()})
        self._waits = np.array(state["waits"])
