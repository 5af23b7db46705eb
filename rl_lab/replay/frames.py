"""Stores each observation once: T + 1 for the T steps of an episode, and only the newest frame of a stack.

Each environment writes a stream of frames: all frames of the observation that opens an episode, then the
newest frame of every successor. The observation whose newest frame has number f therefore consists of the
frames f - stack + 1 to f, its successor's newest frame is f + 1, and nothing is ever padded.

Positions are absolute: frame f of environment i of N is at position f * N + i. The next frame of the same
environment is N further on, and a ring [rows, N, ...] holds it at the slot `position % size`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.checks import show_space
from rl_lab.storage.state_trees import LoadedRing, Ring
from rl_lab.types import Array, EnvSpec, Obs, Step

SMALL_BYTES = 1024  # observations up to this size never expire, however short the episodes are
ROOMY_BYTES = 2**26  # larger ones don't either, as long as all frames together take no more than this
SLACK = 40  # beyond that, one extra frame per so many steps is reserved for the openings of episodes

AHEAD = 128  # how many positions are computed at once: roughly the length of an episode

FLOAT32 = np.dtype("<f4")
LARGEST = float(np.finfo(np.float32).max)  # rewards are stored, and networks are fed, in float32

Leaf = tuple[str, tuple[int, ...], np.dtype]  # path, shape of one frame, dtype


class ObservationStore:
    """The observations of the last `rows` steps of N environments, their successors included.

    With large observations and short episodes it holds fewer: `lost` says which are gone.

    Raises:
        ValueError: the spec declares a stack that its observation space doesn't have.
    """

    def __init__(self, spec: EnvSpec, rows: int):
        self.num_envs, self.stack = spec.num_envs, spec.frame_stack
        self.rows = frame_rows(spec, rows)
        self.never_expires = self.rows >= rows * (self.stack + 1)
        self._leaves = frame_leaves(spec)
        self.arrays = [np.zeros((self.rows, self.num_envs, *shape), d) for _, shape, d in self._leaves]
        self._flat = [array.reshape(-1, *array.shape[2:]) for array in self.arrays]
        self._rings = [(k, *_ring(array)) for k, array in enumerate(self.arrays)]
        self._size = self.rows * self.num_envs
        self._ahead = np.arange(1, 1 + max(1, AHEAD // self.num_envs))[:, None] * self.num_envs  # [K, 1]
        self._split, self._join = _splitter(spec.observation_space), _joiner(spec.observation_space)
        self._back = np.arange(1 - self.stack, 1) * self.num_envs  # [stack]
        # [2, 1]: added to a position, gives it and its successor's
        self.next = np.array([[0], [self.num_envs]])
        self._floats = [(k, path) for k, (path, _, dtype) in enumerate(self._leaves) if dtype.kind == "f"]
        self._wide = [(k, path) for k, path in self._floats if self._leaves[k][2].itemsize > 4]
        self._last: Obs = None  # the successor written last, compared by identity
        # Where the last step's `obs` opened an episode, or followed a cut, bool [N]; None if nowhere.
        self.opened: Array | None = None
        self._set_newest(np.arange(-self.num_envs, 0))

    def _set_newest(self, position: Array) -> None:
        """Set the position of each environment's newest frame, int64 [N]."""
        # For a single environment it is a plain int: the same arithmetic at a tenth of an array's cost.
        self._newest: Any = int(position[0]) if self.num_envs == 1 else position
        self._successors = self._count_on(position)

    def _count_on(self, position: Array) -> Iterator[tuple[Any, Any]]:
        """Yield the positions that follow and their slots. Computing many steps at once halves the cost."""
        while True:
            ahead = position + self._ahead  # [K, N]
            pair: list[Any] = [ahead, ahead % self._size]
            if self.num_envs == 1:
                pair = [each.ravel().tolist() for each in pair]
            yield from zip(*pair, strict=True)
            position = ahead[-1]

    # Writing -----------------------------------------------------------------------------------------

    def add(self, step: Step) -> Any:
        """Write the frames that are new in a step.

        Returns:
            The position of `obs`, int64 [N] (an int for N = 1). It is the previous successor's position,
            except where `obs` opened an episode or follows a cut at a resume.

        Raises:
            FloatingPointError: an observation isn't finite; nothing is written.
            ValueError: a successor doesn't continue the stack before it; nothing is written.
        """
        opens = step.is_first if step.obs is self._last else self._opening(step)
        parts, any_opens = self._split(step.next_obs), 1 in opens.tobytes()  # a tenth of any()'s cost
        floats = self._wide if step.checked else self._floats
        if any_opens:  # the others were checked already, as successors in the step before
            before = self._split(step.obs)
            for k, path in floats:
                require_finite("observation", before[k], path)
        for k, path in floats:
            require_finite("next observation", parts[k], path)
        if self.stack > 1:
            self._require_stack(step)
        if any_opens:
            self._open(opens, before)
        self.opened = opens if any_opens else None
        position = self._newest
        self._write(parts, -1)
        self._last = step.next_obs
        return position

    def _opening(self, step: Step) -> Array:
        """Return where `obs` isn't the successor written last, bool [N]."""
        opens = step.is_first
        begins = opens.tobytes()
        if 0 not in begins:
            return opens
        newest = self._newest if self.num_envs > 1 else np.array([self._newest])  # [N]
        if newest[0] < 0:  # nothing has been written yet
            return np.ones_like(opens)
        both = zip(self._split(step.obs), self._gather(newest % self._size), strict=True)
        cut = [i for seen, kept in both for i in differing(seen, kept) if not begins[i]]
        if cut:
            opens = opens.copy()
            opens[cut] = True
        return opens

    def _require_stack(self, step: Step) -> None:
        if not np.array_equal(step.next_obs[:, :-1], step.obs[:, 1:]):
            raise ValueError(
                f"observations aren't stacks of {self.stack} frames: a successor's first {self.stack - 1}"
                " differ from the last ones before the step (allowed: frame_stack 1)"
            )

    def _open(self, opens: Array, parts: list[Array]) -> None:
        """Write all frames of the observations that open an episode; rewrite those of the others unchanged."""
        newest = self._newest
        self._set_newest(np.where(opens, newest, newest - self.stack * self.num_envs))
        for k in range(self.stack):
            self._write(parts, k)

    def _write(self, parts: list[Array], k: int) -> None:
        """Write the next frame of each environment, which is the k-th of a stack."""
        self._newest, slot = next(self._successors)
        for leaf, ring, dtype, item in self._rings:
            frame = parts[leaf] if self.stack == 1 else parts[leaf][:, k]
            ring[slot] = frame if item is None else np.frombuffer(np.ascontiguousarray(frame, dtype), item)

    # Reading -----------------------------------------------------------------------------------------

    @property
    def lost(self) -> Any:
        """The position in each environment before which observations are no longer complete, int64 [N] or int."""
        return self._newest - (self.rows - self.stack) * self.num_envs

    def get(self, position: Array) -> Obs:
        """Return the observations at positions int64 [...]; each leaf is [..., *shape]."""
        return self._join(iter(self._gather(position % self._size)))

    def pair(self, position: Array) -> tuple[Obs, Obs]:
        """Return the observations at positions[0] and at positions[1], int64 [2, B]; each leaf is [B, *shape]."""
        parts = self._gather(position % self._size)  # one pass for both
        return self._join(iter([part[0] for part in parts])), self._join(iter([part[1] for part in parts]))

    def _gather(self, slots: Array) -> list[Array]:
        if self.stack > 1:
            slots = slots[..., None] + self._back  # [..., stack]
        return [flat.take(slots, axis=0, mode="wrap") for flat in self._flat]

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> list[list[Ring]]:
        """Return one ring per leaf and environment, so that a checkpoint adds only the frames that are new."""
        written = np.atleast_1d(self._newest) // self.num_envs + 1  # [N]
        return [[Ring(array[:, i], int(written[i])) for i in range(self.num_envs)] for array in self.arrays]

    def load_state_dict(self, state: list[list[LoadedRing]]) -> None:
        """Fill the arrays in place."""
        for array, rings in zip(self.arrays, state, strict=True):
            for i, ring in enumerate(rings):
                ring.copy_into(array[:, i])
        written = np.array([ring.written for ring in state[0]])
        self._set_newest((written - 1) * self.num_envs + np.arange(self.num_envs))
        self._last = None


def differing(seen: Array, kept: Array) -> list[int]:
    """Return the indices of the rows [N, ...] that differ.

    Bytes are compared, since numpy takes several times as long for a few values.
    """
    a, b = np.ascontiguousarray(seen, kept.dtype).tobytes(), kept.tobytes()
    if a == b:
        return []
    size = len(a) // len(kept)
    return [i for i in range(len(kept)) if a[i * size : (i + 1) * size] != b[i * size : (i + 1) * size]]


def require_finite(name: str, values: Array, path: str = "") -> None:
    """Raise FloatingPointError for nan, inf or values too large for float32, in an array of any shape.

    Otherwise the replay would return them for as long as it holds them.
    """
    if values.dtype == FLOAT32 and values.size < 1024:
        top = values.tobytes()[3::4]  # sign and exponent: below 1.7e38 it is neither 127 nor 255
        if 127 not in top and 255 not in top:
            return
    # A sum is faster than checking each value, but it may overflow; for a few values a list is fastest.
    total = sum(values.ravel().tolist()) if values.size < 24 else np.vdot(values, values)
    if not -LARGEST < total < LARGEST and not (np.abs(values) < LARGEST).all():
        raise FloatingPointError(f"a {name}{path} that is not finite in float32: {values.tolist()}")


def _ring(array: Array) -> tuple[Array, np.dtype, np.dtype | None]:
    """Return the array to write frames to, their dtype, and the dtype of a whole frame as one item (or None).

    Viewing a frame as one item makes writing three times as fast; a single environment doesn't need it.
    """
    rows, num_envs, *shape = array.shape
    itemsize = prod(shape) * array.itemsize
    if num_envs == 1 or itemsize == 0:
        return array, array.dtype, None
    item = np.dtype(f"V{itemsize}")
    return array.reshape(rows * num_envs, -1).view(item)[:, 0], array.dtype, item


# Sizes -----------------------------------------------------------------------------------------------


def frame_leaves(spec: EnvSpec) -> list[Leaf]:
    """Return path, shape and dtype of each leaf of a frame, which is an observation or one layer of a stack.

    Raises:
        ValueError: the space doesn't have the declared stack, or a leaf has no fixed shape.
    """
    if spec.frame_stack == 1:
        return list(_leaves(spec.observation_space, ""))
    space = spec.observation_space
    if not isinstance(space, spaces.Box) or space.shape[:1] != (spec.frame_stack,):
        raise ValueError(f"frame_stack {spec.frame_stack} isn't the leading axis of {show_space(space)}")
    return [("", space.shape[1:], np.dtype(space.dtype))]


def _leaves(space: spaces.Space, path: str) -> Iterator[Leaf]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in parts:
            yield from _leaves(part, f"{path}[{key!r}]")
    elif space.shape is None or space.dtype is None:
        raise ValueError(
            f"observation{path} {show_space(space)} has no fixed shape (allowed: Box, Discrete, Dict, Tuple, ...)"
        )
    else:
        yield path, space.shape, np.dtype(space.dtype)


def frame_rows(spec: EnvSpec, rows: int) -> int:
    """Return how many frames each environment stores for `rows` steps."""
    always = rows * (spec.frame_stack + 1)  # enough even if each step opened an episode
    frame = frame_bytes(spec)
    if frame * spec.frame_stack <= SMALL_BYTES:
        return always
    compact = rows + rows // SLACK + 4 * (spec.frame_stack + 1)
    return min(always, max(compact, ROOMY_BYTES // (frame * spec.num_envs)))


def frame_bytes(spec: EnvSpec) -> int:
    """Return the size in bytes of one frame, all leaves together."""
    return sum(prod(shape) * dtype.itemsize for _, shape, dtype in frame_leaves(spec))


# Trees -----------------------------------------------------------------------------------------------


def _splitter(space: spaces.Space) -> Callable[[Obs], list[Array]]:
    """Return a function that lists an observation's leaves in the space's order."""
    if isinstance(space, spaces.Dict):
        by_key = [(key, _splitter(part)) for key, part in space.spaces.items()]
        return lambda obs: [leaf for key, split in by_key for leaf in split(obs[key])]
    if isinstance(space, spaces.Tuple):
        parts = [_splitter(part) for part in space.spaces]
        return lambda obs: [leaf for split, x in zip(parts, obs, strict=True) for leaf in split(x)]
    return lambda obs: [obs]


def _joiner(space: spaces.Space) -> Callable[[Iterator[Array]], Obs]:
    """Return a function that rebuilds an observation from its leaves: the inverse of the splitter."""
    if isinstance(space, spaces.Dict):
        by_key = [(key, _joiner(part)) for key, part in space.spaces.items()]
        return lambda leaves: {key: join(leaves) for key, join in by_key}
    if isinstance(space, spaces.Tuple):
        parts = [_joiner(part) for part in space.spaces]
        return lambda leaves: tuple(join(leaves) for join in parts)
    return next
