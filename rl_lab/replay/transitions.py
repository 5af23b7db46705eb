"""Replay of single transitions: columns of a ring, sampled without a Python loop."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from gymnasium import spaces

from rl_lab.checkpoint import Ring, StoredRing
from rl_lab.types import Array, EnvSpec, Step, UsageError

MEMORY_SHARE = 0.8  # of what is free
CGROUP = tuple(
    (Path("/sys/fs/cgroup") / limit, Path("/sys/fs/cgroup") / used)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    )
)


@dataclass(frozen=True, slots=True)
class Transitions:
    """A batch of B transitions; `next_obs` are true successors, truncated or not."""

    obs: Array  # [B, ...]
    action: Array  # int64 [B]
    reward: Array  # float32 [B]
    terminated: Array  # bool [B]
    next_obs: Array  # [B, ...]
    next_mask: Array | None  # bool [B, A]
    age: float  # mean age in environment steps


class TransitionReplay:
    """The last `capacity` transitions of N environments: each column is an array [rows, N, ...].

    Both ends of a transition are stored as they were seen, so nothing is ever read across an
    episode's end or the write head.

    Raises:
        UsageError: it would not fit into 80 % of the free memory; the line names what would.
    """

    def __init__(self, capacity: int, spec: EnvSpec, carry: tuple[Array, ...] = ()):
        if (reason := refuse_memory(capacity, spec, carry)) is not None:
            raise UsageError(reason)
        self.num_envs = spec.num_envs
        self.rows = max(1, capacity // self.num_envs)
        shapes = _column_shapes(spec, carry)
        self.columns = {n: np.zeros((self.rows, self.num_envs, *s), d) for n, (s, d) in shapes.items()}
        self._flat = {n: c.reshape(-1, *c.shape[2:]) for n, c in self.columns.items()}
        self.written = 0  # rows ever written
        self._carry = len(carry)
        self._has_floats = self.columns["obs"].dtype.kind == "f"

    def __len__(self) -> int:
        """Return the number of transitions held."""
        return min(self.written, self.rows) * self.num_envs

    def add(self, step: Step) -> None:
        """Store one vector step.

        Raises:
            FloatingPointError: a reward or observation isn't finite; nothing is stored.
        """
        _require_finite("reward", step.reward)
        if self._has_floats:
            if np.count_nonzero(step.is_first):  # any other was checked as the step before's successor
                _require_finite("observation", step.obs)
            _require_finite("next observation", step.next_obs)
        row, c = self.written % self.rows, self.columns
        c["obs"][row] = step.obs
        c["action"][row] = step.action
        c["reward"][row] = step.reward
        c["terminated"][row] = step.terminated
        c["truncated"][row] = step.truncated
        c["next_obs"][row] = step.next_obs
        c["is_first"][row] = step.is_first
        if step.next_mask is not None:
            c["next_mask"][row] = step.next_mask
        for k in range(self._carry):  # at is_first the carry is still the old episode's
            part = c[f"state_{k}"][row]
            part[...] = step.state[k]
            part[step.is_first] = 0
        self.written += 1

    def sample(self, batch_size: int, rng: np.random.Generator) -> Transitions:
        """Draw transitions uniformly with replacement."""
        index = rng.integers(len(self), size=batch_size)
        row, flat = index // self.num_envs, self._flat
        age = (self.written - 1 - row) % self.rows * self.num_envs
        return Transitions(
            obs=flat["obs"].take(index, axis=0),
            action=flat["action"].take(index),
            reward=flat["reward"].take(index),
            terminated=flat["terminated"].take(index),
            next_obs=flat["next_obs"].take(index, axis=0),
            next_mask=flat["next_mask"].take(index, axis=0) if "next_mask" in flat else None,
            age=float(age.mean()),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the columns as rings: a checkpoint adds only the rows that are new."""
        return {name: Ring(column, self.written) for name, column in self.columns.items()}

    def load_state_dict(self, state: dict[str, StoredRing]) -> None:
        """Fill the columns in place."""
        for name, ring in state.items():
            ring.copy_into(self.columns[name])
            self.written = ring.written


def _require_finite(name: str, values: Array) -> None:
    """Refuse nan and inf: the replay would hand them out for as long as it remembers them."""
    total = np.add.reduce(values, axis=None)  # quicker than asking each, but it may overflow
    if not isfinite(total) and not np.isfinite(values).all():
        raise FloatingPointError(f"the environment gave a {name} that is not finite: {values.tolist()}")


Shapes = dict[str, tuple[tuple[int, ...], Any]]


def _column_shapes(spec: EnvSpec, carry: tuple[Array, ...]) -> Shapes:
    space, actions = spec.observation_space, spec.action_space
    assert isinstance(actions, spaces.Discrete)
    assert space.shape is not None
    shapes: Shapes = {
        "obs": (space.shape, space.dtype),
        "action": ((), np.int64),
        "reward": ((), np.float32),
        "terminated": ((), np.bool_),
        "truncated": ((), np.bool_),
        "next_obs": (space.shape, space.dtype),
        "is_first": ((), np.bool_),
    }
    if spec.has_mask:
        shapes["next_mask"] = ((int(actions.n),), np.bool_)
    return shapes | {f"state_{k}": (part.shape[1:], part.dtype) for k, part in enumerate(carry)}


def free_memory() -> int:
    """Return the bytes that may still be taken: what the machine has free, or what the cgroup leaves."""
    free = psutil.virtual_memory().available
    for limit, used in CGROUP:
        try:
            free = min(free, int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):  # no such controller, or no limit ("max")
            continue
    return max(free, 0)


def refuse_memory(capacity: int, spec: EnvSpec, carry: tuple[Array, ...] = ()) -> str | None:
    """Say in one line that a replay would not fit into 80 % of the free memory, and what would; None if it fits."""
    rows = max(1, capacity // spec.num_envs)
    sizes = [
        np.prod(s, dtype=np.int64) * np.dtype(d).itemsize for s, d in _column_shapes(spec, carry).values()
    ]
    per_row = spec.num_envs * int(sum(sizes))
    allowed = MEMORY_SHARE * free_memory()
    if rows * per_row <= allowed:
        return None
    return (
        f"replay_capacity {rows * spec.num_envs} needs {rows * per_row / 1e9:.1f} GB,"
        f" {allowed / 1e9:.1f} GB may be used (allowed: up to {int(allowed // per_row) * spec.num_envs})"
    )
