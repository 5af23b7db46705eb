"""Replay of single transitions and n-step windows: columns of a ring, sampled without a Python loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rl_lab.replay.footprint import column_shapes, refuse_memory
from rl_lab.replay.frames import LARGEST, Observations, require_finite
from rl_lab.replay.sampling import Sampler, Uniform
from rl_lab.storage.state_trees import LoadedRing, Ring
from rl_lab.types import Array, EnvSpec, Obs, Step, UsageError

__all__ = ["TransitionReplay", "Transitions", "refuse_memory"]

ALWAYS = ("position", "action", "reward", "terminated")  # columns, whatever the environment


@dataclass(frozen=True, slots=True)
class Transitions:
    """A batch of B transitions of m steps each, m up to n; `next_obs` are true successors, truncated or not.

    A target is reward + discount * (1 - terminated) * value(next_obs).
    """

    obs: Obs  # [B, ...]
    action: Array  # int64 [B]
    reward: Array  # float32 [B]: of the m steps, discounted
    discount: Array  # float32 [B]: gamma ** m
    terminated: Array  # bool [B]: the last step did
    next_obs: Obs  # [B, ...]: after the last step
    next_mask: Array | None  # bool [B, A]
    weight: Array | None  # float32 [B] of importance, at most 1; None: all alike
    index: Array  # int64 [B]: for update_priorities
    age: float  # mean age in environment steps


class TransitionReplay:
    """The last `capacity` transitions of N environments; columns are arrays [rows, N, ...].

    Each observation is kept once (see `frames`); rewards are kept raw. Nothing is read across an
    episode's end, a cut at a resume or the write head.

    Args:
        carry: arrays [1, ...] that show what `Step.state` holds.
        n_steps: the most steps of one transition that `sample` returns.
        gamma: discount per environment step.
        reward_clip: rewards are cut to [-reward_clip, reward_clip] when sampled; None leaves them.
        sampler: chooses among the transitions; by default uniformly.

    Raises:
        UsageError: it would not fit into 80 % of the free memory; the line names what would.
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
        if (reason := refuse_memory(capacity, spec, carry, self._sampler)) is not None:
            raise UsageError(reason)
        if n_steps < 1:
            raise ValueError(f"n_steps must be at least 1, got {n_steps}")
        self.num_envs = spec.num_envs
        self.rows = max(1, capacity // self.num_envs)
        self._size = self.rows * self.num_envs
        shapes = column_shapes(spec, carry)
        self.columns: dict[str, Array] = {
            n: np.zeros((self.rows, self.num_envs, *s), d) for n, (s, d) in shapes.items()
        }
        self._flat: dict[str, Array] = {n: c.reshape(-1, *c.shape[2:]) for n, c in self.columns.items()}
        self._always = [self.columns[name] for name in ALWAYS]
        if self.num_envs == 1:
            self._always[0] = self._flat["position"]  # a number goes into it, at a third of an array's cost
        self.observations = Observations(spec, self.rows)
        self._sampler.allocate(self._size)
        self._tells = not isinstance(self._sampler, Uniform)  # it need not hear what comes and goes
        self.written = 0  # rows ever written
        self.oldest = 0  # row from which on everything is whole
        self._carry = [self.columns[f"state_{k}"] for k in range(len(carry))]
        self._reward_clip = reward_clip
        self._ahead = np.arange(n_steps)[:, None]  # [n, 1]
        self._powers = gamma ** np.arange(n_steps + 1.0)

    @property
    def nbytes(self) -> int:
        """The bytes of all arrays."""
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
            ValueError: observations aren't the stacks that the spec promised; nothing is stored.
        """
        if not -LARGEST < sum(step.reward.tolist()) < LARGEST:
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
                column[row, step.is_first] = 0  # there the carry is still the old episode's

    def _advance(self, row: int) -> None:
        """Count the row that was written, and let go of those that are no longer whole."""
        self.written += 1
        if self._tells:
            self._offer(row)
        if self.written - self.oldest > self.rows:  # the row just written took the oldest one's place
            self.oldest += 1
        if not self.observations.never_expires:
            self._expire()

    def _offer(self, row: int) -> None:
        """Let the sampler draw what the row just written makes whole: its transitions."""
        self._sampler.added(row * self.num_envs, (row + 1) * self.num_envs)

    def _expire(self) -> None:
        """Let go of rows whose frames were overwritten: many short episodes take more than there are."""
        lost, position = self.observations.lost, self.columns["position"]
        while self.oldest < self.written and (position[self.oldest % self.rows] < lost).any():
            first = self.oldest % self.rows * self.num_envs
            self._sampler.expired(first, first + self.num_envs)
            self.oldest += 1

    def update_priorities(self, index: Array, td_errors: Array) -> None:
        """Tell how far off the transitions of a batch were, by their `index`; without effect if drawn uniformly.

        Raises:
            FloatingPointError: an error isn't finite; nothing is changed.
        """
        held = (index // self.num_envs - self.oldest) % self.rows < self.written - self.oldest
        self._sampler.update(index[held], td_errors[held])

    # Sampling ----------------------------------------------------------------------------------------

    @property
    def can_sample(self) -> bool:
        """Say whether anything is held that may be drawn."""
        return len(self) > 0

    def sample(self, batch_size: int, rng: np.random.Generator, beta: float = 1.0) -> Transitions:
        """Draw transitions with replacement; `beta` is the exponent of the importance weights."""
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
        """Return the index at which those held begin; 0 where they are all of the ring that was written."""
        none_expired = self.oldest == max(0, self.written - self.rows)
        return 0 if none_expired else self.oldest % self.rows * self.num_envs

    def _mean_age(self, index: Array) -> float:
        """Return the mean number of environment steps since."""
        head = self.written % self.rows  # rows from here on are a lap older
        older = np.count_nonzero(index >= head * self.num_envs) if self.written >= self.rows else 0
        rows = int(np.add.reduce(index if self.num_envs == 1 else index // self.num_envs))
        return ((head - 1) * len(index) + older * self.rows - rows) * self.num_envs / len(index)

    def _windows(self, index: Array) -> tuple[Array, Array, Array, Array]:
        """Return of each window its last index, the ways to its ends [2, B or 1], its reward and its discount."""
        if len(self._ahead) == 1:
            discount = np.empty(len(index), np.float32)
            discount.fill(self._powers[1])
            return index, self.observations.next, self._clipped(self._flat["reward"].take(index)), discount
        return self._long_windows(index)

    def _long_windows(self, index: Array) -> tuple[Array, Array, Array, Array]:
        """Follow each window until its n steps, its episode or what is written ends."""
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
        """Say of steps [T, B] in a row after which of them, but the last, the next is no successor: bool [T - 1, B].

        The frames after an episode's end, or a cut at a resume, don't follow on; those after a lost life do.
        """
        return np.diff(position, axis=0) != self.num_envs

    def _clipped(self, reward: Array) -> Array:
        return reward if self._reward_clip is None else reward.clip(-self._reward_clip, self._reward_clip)

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return columns and frames as rings: a checkpoint adds only the rows that are new."""
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
