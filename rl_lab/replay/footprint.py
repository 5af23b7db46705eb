"""How much memory a replay will take, computed before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil

from rl_lab.environments.actions import mask_size
from rl_lab.replay.frames import frame_bytes, frame_rows
from rl_lab.types import Array, EnvSpec

MEMORY_SHARE = 0.8  # of the free memory
# Files that hold a cgroup's limit and usage, for both versions of cgroups.
CGROUP = tuple(
    (Path("/sys/fs/cgroup") / limit, Path("/sys/fs/cgroup") / used)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    )
)

Columns = dict[str, tuple[tuple[int, ...], Any]]  # shape and dtype of one transition's entry, by name


class Allocates(Protocol):
    """What takes memory of its own beside the replay's columns: a sampler."""

    def bytes_for(self, capacity: int) -> int:
        """Return the bytes taken for so many transitions."""


def column_types(spec: EnvSpec, carry: tuple[Array, ...] = ()) -> Columns:
    """Return shape and dtype of what is kept of one transition besides its observations, by name.

    Args:
        carry: arrays [1, ...] that show the shapes of a step's carry.
    """
    columns: Columns = {
        "position": ((), np.int64),
        "action": ((), np.int64),
        "reward": ((), np.float32),
        "terminated": ((), np.bool_),
    }
    if spec.has_mask:
        columns["next_mask"] = ((mask_size(spec.action_space),), np.bool_)
    if carry:
        columns["episode_step"] = ((), np.int32)
    return columns | {f"state_{k}": (part.shape[1:], part.dtype) for k, part in enumerate(carry)}


def replay_bytes(
    capacity: int, spec: EnvSpec, carry: tuple[Array, ...] = (), sampler: Allocates | None = None
) -> int:
    """Return the size in bytes of all of a replay's arrays: columns, frames and the sampler's own.

    Args:
        carry: arrays [1, ...] that show the shapes of a step's carry.
    """
    rows = max(1, capacity // spec.num_envs)
    columns = sum(prod(s) * np.dtype(d).itemsize for s, d in column_types(spec, carry).values())
    frames = frame_rows(spec, rows) * frame_bytes(spec)
    sampling = 0 if sampler is None else sampler.bytes_for(rows * spec.num_envs)
    return spec.num_envs * (rows * columns + frames) + sampling


def refuse_batch(batch_size: int, capacity: int) -> str | None:
    """Return why a batch can't be drawn from a replay (one line): it would hold everything several times; or None."""
    if batch_size <= capacity:
        return None
    return f"batch_size {batch_size} is more than replay_capacity {capacity} (allowed: up to {capacity})"


def refuse_capacity(
    capacity: int, spec: EnvSpec, carry: tuple[Array, ...] = (), sampler: Allocates | None = None
) -> str | None:
    """Return why a replay of this capacity is too large, and which would fit (one line); None if it fits.

    A replay may take up to 80 % of the free memory.

    Args:
        carry: arrays [1, ...] that show the shapes of a step's carry.
    """
    return refuse_oversize(capacity, spec.num_envs, lambda n: replay_bytes(n, spec, carry, sampler))


def refuse_oversize(capacity: int, num_envs: int, nbytes: Callable[[int], int]) -> str | None:
    """Return why a buffer is too large, like `refuse_capacity`, given its size `nbytes(capacity)` in bytes.

    The size must not fall as the capacity grows.
    """
    capacity = max(1, capacity // num_envs) * num_envs
    allowed = MEMORY_SHARE * free_memory()
    if nbytes(capacity) <= allowed:
        return None
    fits, too_many = 0, capacity // num_envs  # vector steps
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if nbytes(middle * num_envs) <= allowed else (fits, middle)
    return (
        f"replay_capacity {capacity} needs {nbytes(capacity) / 1e9:.1f} GB,"
        f" {allowed / 1e9:.1f} GB may be used (allowed: up to {fits * num_envs})"
    )


def refuse_sequence_length(length: int, capacity: int, spec: EnvSpec) -> str | None:
    """Return why a replay of `capacity` steps can't hold windows of `length` steps (one line), or None if it can."""
    rows = capacity // spec.num_envs
    if length <= rows:
        return None
    return (
        f"sequence_length {length} is longer than the replay, which holds {rows} steps"
        f" of each of the {spec.num_envs} environments (allowed: up to {rows})"
    )


def free_memory() -> int:
    """Return the free memory in bytes: the machine's, or what its cgroup leaves if that is less."""
    free = psutil.virtual_memory().available
    for limit, used in CGROUP:
        try:
            free = min(free, int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):  # no such controller, or no limit ("max")
            continue
    return max(free, 0)
