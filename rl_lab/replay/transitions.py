"""Replay of single transitions and n-step windows: a ring of columns, sampled without a Python loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rl_lab.replay.footprint import column_types, refuse_capacity
from rl_lab.replay.frames import LARGEST, ObservationStore, require_finite
from rl_lab.replay.totals import total_of
from rl_lab.storage.state_trees import LoadedRing, Ring
from rl_lab.types import Array, EnvSpec, Obs, Step, UsageError

ALWAYS = ("position", "action", "reward", "terminated")  # columns, whatever the environment


@dataclass(frozen=True, slots=True)
class Transitions:
    """A batch of B transitions of m steps each, m up to n; `next_obs` is the true successor, truncated or not.

    The target is reward + discount * (1 - terminated) * value(next_obs).
    """

    obs: Obs  # [B, ...]
    action: Array  # int64 [B]
    reward: Array  # float32 [B]: discounted sum over the m steps
    discount: Array  # float32 [B]: gamma ** m
    terminated: Array  # bool [B]: of the last step
    next_obs: Obs  # [B, ...]: after the last step
    next_mask: Array | None  # bool [B, A]: legal actions at next_obs
    weight: Array | None  # float32 [B]: importance weights, at most 1; None: all equal
    index: Array  # int64 [B]: for update_priorities
    age: float  # mean age in environment steps


class Sampler(Protocol):
    """Draws among the transitions of a replay, which are identified by their indices in the ring."""

    def bytes_for(self, capacity: int) -> int:
        """Return how many bytes `allocate` will take."""

    def allocate(self, capacity: int) -> None:
        """Make room for indices below `capacity`."""

    def added(self, first: int, stop: int) -> None:
        """Take note of new transitions at the indices `first:stop`."""

    def expired(self, first: int, stop: int) -> None:
        """Never draw the transitions at `first:stop` again."""

    def draw(
        self, batch_size: int, rng: np.random.Generator, first: int, held: int, beta: float
    ) -> tuple[Array, Array | None]:
        """Draw indices among the `held` transitions that begin at index `first` of the ring.

        Args:
            beta: exponent of the importance weights.

        Returns:
            Indices int64 [B], and weights float32 [B] or None.
        """

    def update(self, index: Array, td_errors: Array) -> None:
        """Take note of the TD errors [B] of the transitions at indices [B]."""

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be saved."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state, after `allocate`."""


class Uniform:
    """Draws uniformly with replacement, without weights. It needn't be told what is added or expires."""

    def bytes_for(self, capacity: int) -> int:
        """Return 0."""
        return 0

    def allocate(self, capacity: int) -> None:
        """Remember the size of the ring."""
        self._capacity = capacity

    def added(self, first: int, stop: int) -> None:
        """Do nothing."""

    def expired(self, first: int, stop: int) -> None:
        """Do nothing: `draw` is told where the held transitions begin."""

    def draw(
        self, batch_size: int, rng: np.random.Generator, first: int, held: int, beta: float
    ) -> tuple[Array, None]:
        """Draw indices int64 [B] among the `held` transitions from `first` on."""
        index = rng.integers(held, size=batch_size)
        return ((index + first) % self._capacity if first else index), None

    def update(self, index: Array, td_errors: Array) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


class TransitionReplay:
    """The last `capacity` transitions of N environments; columns are arrays [rows, N, ...].

    Each observation is stored once (see `frames`), and rewards are stored as they are. No sample crosses an
    episode's end, a cut at a resume or the write head.

    Args:
        carry: arrays [1, ...] that show the shapes of `Step.state`.
        n_steps: the most steps that a sampled transition covers.
        gamma: discount per environment step.
        reward_clip: sampled rewards are clipped to [-reward_clip, reward_clip]; None leaves them as they are.
        sampler: chooses among the transitions; by default uniformly.

    Raises:
        UsageError: the replay would take more than 80 % of the free memory; the message names what would fit.
        ValueError: `n_steps` is below 1, or the spec's observations can't be stored.
    """

    def __init__(
        self,
        capacity: int,
        spec: EnvSpec,
        carry: tuple[Array, ...] = (),
        *,
        n_steps: int = 1,
        gamma: float = 0.99,
        reward_clip: float | None = None,
        sampler: Sampler | None = None,
    ):
        self._sampler: Sampler = sampler or Uniform()
        if (reason := refuse_capacity(capacity, spec, carry, self._sampler)) is not None:
            raise UsageError(reason)
        if n_steps < 1:
            raise ValueError(f"n_steps must be at least 1, got {n_steps}")
        self.num_envs = spec.num_envs
        self.rows = max(1, capacity // self.num_envs)
        self._size = self.rows * self.num_envs
        self.columns: dict[str, Array] = {
            name: np.zeros((self.rows, self.num_envs, *shape), dtype)
            for name, (shape, dtype) in column_types(spec, carry).items()
        }
        self._flat: dict[str, Array] = {n: c.reshape(-1, *c.shape[2:]) for n, c in self.columns.items()}
        self._always = [self.columns[name] for name in ALWAYS]
        if self.num_envs == 1:
            self._always[0] = self._flat["position"]  # writing a number takes a third of the time of an array
        self.observations = ObservationStore(spec, self.rows)
        self._sampler.allocate(self._size)
        self._notifies_sampler = not isinstance(self._sampler, Uniform)
        self.written = 0  # rows ever written
        self.oldest = 0  # row from which on everything is whole
        self._carry = [self.columns[f"state_{k}"] for k in range(len(carry))]
        self._reward_clip = reward_clip
        self._total = total_of(spec.num_envs)
        self._ahead = np.arange(n_steps)[:, None]  # [n, 1]
        self._powers = gamma ** np.arange(n_steps + 1.0)

    @property
    def nbytes(self) -> int:
        """The size of all arrays in bytes."""
        arrays = [*self.columns.values(), *self.observations.arrays]
        return sum(array.nbytes for array in arrays) + self._sampler.bytes_for(self._size)

    def __len__(self) -> int:
        """Return the number of transitions held."""
        return (self.written - self.oldest) * self.num_envs

    # Writing -----------------------------------------------------------------------------------------

    def add(self, step: Step) -> None:
        """Store one vector step.

        Raises:
            FloatingPointError: a reward or observation isn't finite; nothing is stored.
            ValueError: observations aren't the stacks that the spec declares; nothing is stored.
        """
        if not -LARGEST < self._total(step.reward) < LARGEST:
            require_finite("reward", step.reward)
        row = self.written % self.rows
        position, action, reward, terminated = self._always
        position[row] = self.observations.add(step)
        action[row] = step.action
        reward[row] = step.reward
        terminated[row] = step.terminated
        if step.next_mask is not None:
            self.columns["next_mask"][row] = step.next_mask
        if self._carry:
            self._write_carry(row, step)
        self._advance(row)

    def _write_carry(self, row: int, step: Step) -> None:
        for column, part in zip(self._carry, step.state, strict=True):
            column[row] = part
        if 1 in step.is_first.tobytes():
            for column in self._carry:
                column[row, step.is_first] = 0  # where the carry is still the old episode's

    def _advance(self, row: int) -> None:
        """Count the row that was written, and drop rows that are no longer complete."""
        self.written += 1
        if self._notifies_sampler:
            self._offer(row)
        if self.written - self.oldest > self.rows:  # the new row replaced the oldest one
            self.oldest += 1
        if not self.observations.never_expires:
            self._expire()

    def _offer(self, row: int) -> None:
        """Add what the new row completes to the sampler: its own transitions."""
        self._sampler.added(row * self.num_envs, (row + 1) * self.num_envs)

    def _expire(self) -> None:
        """Drop rows whose frames were overwritten, as many short episodes need more frames than there is room for."""
        lost, position = self.observations.lost, self.columns["position"]
        while self.oldest < self.written and (position[self.oldest % self.rows] < lost).any():
            first = self.oldest % self.rows * self.num_envs
            self._sampler.expired(first, first + self.num_envs)
            self.oldest += 1

    def update_priorities(self, index: Array, td_errors: Array) -> None:
        """Report the TD errors [B] of transitions by their `index` [B]; a uniform sampler ignores them.

        Raises:
            FloatingPointError: an error isn't finite; nothing is changed.
        """
        held = (index // self.num_envs - self.oldest) % self.rows < self.written - self.oldest
        self._sampler.update(index[held], td_errors[held])

    # Sampling ----------------------------------------------------------------------------------------

    @property
    def can_sample(self) -> bool:
        """Whether there is anything to draw."""
        return len(self) > 0

    def sample(self, batch_size: int, rng: np.random.Generator, beta: float = 1.0) -> Transitions:
        """Draw transitions with replacement.

        Args:
            beta: exponent of the importance weights.
        """
        index, weight = self._sampler.draw(batch_size, rng, self._first(), len(self), beta)
        flat = self._flat
        last, ahead, reward, discount = self._windows(index)
        obs, next_obs = self.observations.pair(flat["position"].take(index) + ahead)
        return Transitions(
            obs=obs,
            action=flat["action"].take(index),
            reward=reward,
            discount=discount,
            terminated=flat["terminated"].take(last),
            next_obs=next_obs,
            next_mask=flat["next_mask"].take(last, axis=0) if "next_mask" in flat else None,
            weight=weight,
            index=index,
            age=self._mean_age(index),
        )

    def _first(self) -> int:
        """Return the index at which the held transitions begin; 0 if nothing that was written is missing."""
        none_expired = self.oldest == max(0, self.written - self.rows)
        return 0 if none_expired else self.oldest % self.rows * self.num_envs

    def _mean_age(self, index: Array) -> float:
        """Return the mean age of the transitions at `index` [B] in environment steps."""
        head = self.written % self.rows  # rows from here on are one lap older
        older = np.count_nonzero(index >= head * self.num_envs) if self.written >= self.rows else 0
        rows = int(np.add.reduce(index if self.num_envs == 1 else index // self.num_envs))
        return ((head - 1) * len(index) + older * self.rows - rows) * self.num_envs / len(index)

    def _windows(self, index: Array) -> tuple[Array, Array, Array, Array]:
        """Return the last index, the offsets of both observations, the reward and the discount of each window.

        Args:
            index: of the first steps, int64 [B].

        Returns:
            int64 [B]; offsets to the positions of first and last observation, int64 [2, B] or [2, 1];
            float32 [B]; float32 [B].
        """
        if len(self._ahead) == 1:
            discount = np.empty(len(index), np.float32)
            discount.fill(self._powers[1])
            return index, self.observations.next, self._clipped(self._flat["reward"].take(index)), discount
        return self._long_windows(index)

    def _long_windows(self, index: Array) -> tuple[Array, Array, Array, Array]:
        """Do the same for n > 1: each window ends after n steps, or at the end of its episode or of the ring."""
        flat, column = self._flat, np.arange(len(index))
        around = (index + self._ahead * self.num_envs) % self._size  # [n, B]
        over = flat["terminated"].take(around[:-1]) | self._breaks(flat["position"].take(around))
        after = (self.written - 1 - index // self.num_envs) % self.rows  # [B] rows behind the first
        used = np.logical_and.accumulate((self._ahead[1:] <= after) & ~over)  # [n - 1, B]
        steps = 1 + used.sum(axis=0)
        rewards = self._clipped(flat["reward"].take(around)) * self._powers[:-1, None]
        rewards[1:] *= used
        last, reward = around[steps - 1, column], rewards.sum(axis=0).astype(np.float32)
        return last, steps * self.observations.next, reward, self._powers[steps].astype(np.float32)

    def _breaks(self, position: Array) -> Array:
        """Return after which of T steps the next one isn't its successor, bool [T - 1, B], from positions [T, B].

        Positions aren't contiguous after an episode's end or a cut at a resume; after a lost life they are.
        """
        return np.diff(position, axis=0) != self.num_envs

    def _clipped(self, reward: Array) -> Array:
        return reward if self._reward_clip is None else reward.clip(-self._reward_clip, self._reward_clip)

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return columns and frames as rings, so that a checkpoint adds only the rows that are new."""
        return {
            "columns": {name: Ring(column, self.written) for name, column in self.columns.items()},
            "frames": self.observations.state_dict(),
            "sampler": self._sampler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Fill a fresh replay in place.

        Raises:
            CheckpointError: stored rows don't fit this replay's columns or frames.
        """
        rings: dict[str, LoadedRing] = state["columns"]
        for name, column in self.columns.items():
            rings[name].copy_into(column)
        self.written = rings["action"].written
        self.observations.load_state_dict(state["frames"])
        self._sampler.load_state_dict(state["sampler"])
        self.oldest = max(0, self.written - self.rows)
        if not self.observations.never_expires:
            self._expire()


class LazyReplay:
    """A replay that is allocated with the first step, so that agents that only act don't need its memory."""

    def __init__(self, make: Callable[[], TransitionReplay]):
        self._make = make
        self.replay: TransitionReplay | None = None

    def __len__(self) -> int:
        """Return the number of transitions held."""
        return 0 if self.replay is None else len(self.replay)

    @property
    def can_sample(self) -> bool:
        """Whether there is anything to draw yet."""
        return self.replay is not None and self.replay.can_sample

    def add(self, step: Step) -> None:
        """Store one vector step; see the replay's own `add`, and for the first one what it raises when it is made."""
        if self.replay is None:
            self.replay = self._make()
        self.replay.add(step)

    def sample(self, batch_size: int, rng: np.random.Generator, beta: float = 1.0) -> Any:
        """Draw what the replay holds, `Transitions` or `Sequences`, once it `can_sample`."""
        assert self.replay is not None
        return self.replay.sample(batch_size, rng, beta)

    def update_priorities(self, index: Array, td_errors: Array) -> None:
        """Report the TD errors [B] of what was drawn by its `index` [B]; without a replay there is nothing to do."""
        if self.replay is not None:
            self.replay.update_priorities(index, td_errors)

    def state_dict(self) -> dict[str, Any]:
        """Return the replay's state; {} before the first step."""
        return {} if self.replay is None else self.replay.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state, with what the replay's own raises; {} leaves it unallocated."""
        if state:
            self.replay = self._make()
            self.replay.load_state_dict(state)
