"""Replay of sequences, for networks with a carry: windows within one episode, with the carry before them.

Kapturowski et al. (2019), "Recurrent Experience Replay in Distributed Reinforcement Learning",
https://openreview.net/forum?id=r1lyTjAqYX: stored carries, overlapping windows that never cross an
episode's end, and a burn-in that only brings the carry up to date. Deviation: a window that opens an
episode starts from the exact carry and needs no burn-in, so that agents learn from the first steps too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rl_lab.replay.sampling import UniformQueue, UniformRows, WindowSampler
from rl_lab.replay.transitions import TransitionReplay
from rl_lab.types import Array, EnvSpec, Obs, Step


@dataclass(frozen=True, slots=True)
class Sequences:
    """B windows of up to T steps, each within one episode; time is the leading axis.

    obs[t + 1] is the true successor of step t wherever step t is valid. A lost life terminates a step but
    not the window, since the carry goes on.
    """

    obs: Obs  # [T + 1, B, ...]
    action: Array  # int64 [T, B]
    reward: Array  # float32 [T, B]
    terminated: Array  # bool [T, B]
    next_mask: Array | None  # bool [T, B, A]
    valid: Array  # bool [T, B]: False after the episode's end
    learned: Array  # bool [T, B]: valid, and after the burn-in
    opens: Array  # bool [B]: obs[0] opened an episode; then there is no burn-in
    state: tuple[Array, ...]  # the carry before obs[0], each part [B, ...]
    weight: Array | None  # float32 [B]: importance weights, at most 1; None: all equal
    index: Array  # int64 [B]: for update_priorities
    age: float  # mean age of the windows' first steps in environment steps


class SequenceReplay(TransitionReplay):
    """A replay that draws windows instead of transitions, from the same columns.

    A window can be drawn once all its rows are held, provided that it begins at a multiple of `period`
    within its episode and contains a step to learn from. If `period` is at most length - burn_in, every step
    is learned from.

    Args:
        carry: arrays [1, ...] that show the carry's shapes.
        length: steps of a window, the burn-in included.
        period: steps between the beginnings of an episode's windows.
        burn_in: steps at the beginning of a window that only bring the carry up to date, unless the window
            opens an episode.
        sampler: chooses among the windows by their first steps; by default uniformly.

    Raises:
        ValueError: `period` or `burn_in` is out of range.
        UsageError: the replay wouldn't fit into memory (see `TransitionReplay`).
    """

    def __init__(
        self,
        capacity: int,
        spec: EnvSpec,
        carry: tuple[Array, ...],
        length: int,
        reward_clip: float | None = None,
        *,
        period: int = 1,
        burn_in: int = 0,
        sampler: WindowSampler | None = None,
    ):
        if period < 1 or not 0 <= burn_in < length:
            raise ValueError(f"period {period} must be at least 1 and burn_in {burn_in} below {length}")
        self._starts = sampler or uniform_windows(spec.num_envs, period, burn_in)
        super().__init__(capacity, spec, carry, reward_clip=reward_clip, sampler=self._starts)
        self.length, self.period, self.burn_in = length, period, burn_in

    # Writing -----------------------------------------------------------------------------------------

    def _write_carry(self, row: int, step: Step) -> None:
        super()._write_carry(row, step)
        count = self.columns["episode_step"]
        count[row] = count[row - 1] + 1
        if self.observations.opened is not None:
            count[row, self.observations.opened] = 0

    def _offer(self, row: int) -> None:
        """Tell the sampler which windows were overwritten by the row, and which became complete with it."""
        if self.written > self.rows:
            self._starts.expired(row * self.num_envs, (row + 1) * self.num_envs)
        if self.written - self.length >= self.oldest:
            self._add_windows(self.written - self.length)

    def _add_windows(self, row: int) -> None:
        """Add the windows that begin in a row to the sampler."""
        first = row % self.rows * self.num_envs
        if self.period == 1 and self.burn_in == 0:  # a window begins at each step
            return self._starts.added(first, first + self.num_envs)
        for env in self._may_begin(row).nonzero()[0].tolist():
            self._starts.added(first + env, first + env + 1)

    def _may_begin(self, row: Any) -> Array:
        """Return at which steps a window may begin: of one row, bool [N], or of rows [B], bool [B, N]."""
        count, position = self.columns["episode_step"][row % self.rows], self.columns["position"]
        learned = position[(row + self.burn_in) % self.rows] - position[row % self.rows]
        return (count % self.period == 0) & ((count == 0) | (learned == self.burn_in * self.num_envs))

    def update_priorities(self, index: Array, td_errors: Array) -> None:
        """Report the TD errors [B] of windows by their `index` [B]; windows no longer held are ignored.

        Raises:
            FloatingPointError: an error isn't finite; nothing is changed.
        """
        row, env = np.divmod(index, self.num_envs)
        row = self.written - 1 - (self.written - 1 - row) % self.rows
        whole = (row >= self.oldest) & (row + self.length <= self.written)
        whole &= self._may_begin(row)[np.arange(len(row)), env]
        self._starts.update(index[whole], td_errors[whole])

    # Sampling ----------------------------------------------------------------------------------------

    @property
    def can_sample(self) -> bool:
        """Whether at least one complete window is held."""
        return self.written - self.oldest >= self.length and not self._starts.is_empty

    def sample(  # type: ignore[override]
        self, batch_size: int, rng: np.random.Generator, beta: float = 1.0
    ) -> Sequences:
        """Draw windows with replacement; none crosses the write head.

        Args:
            beta: exponent of the importance weights.
        """
        held = (self.written - self.oldest - self.length + 1) * self.num_envs
        oldest = self.oldest % self.rows * self.num_envs
        index, weight = self._starts.draw(batch_size, rng, oldest, held, beta)
        first, env = np.divmod(index, self.num_envs)  # [B]
        rows = (first + np.arange(self.length)[:, None]) % self.rows  # [T, B]
        take = {name: column[rows, env] for name, column in self.columns.items()}
        valid = np.ones_like(take["terminated"])
        valid[1:] = ~np.logical_or.accumulate(self._breaks(take["position"]), axis=0)
        opens = take["episode_step"][0] == 0
        return Sequences(
            obs=self._observations_of(take["position"], valid),
            action=take["action"],
            reward=self._clipped(take["reward"]),
            terminated=take["terminated"],
            next_mask=take.get("next_mask"),
            valid=valid,
            learned=valid & (opens | (np.arange(self.length)[:, None] >= self.burn_in)),
            opens=opens,
            state=tuple(take[f"state_{k}"][0] for k in range(len(self._carry))),
            weight=weight,
            index=index,
            age=float(((self.written - 1 - first) % self.rows).mean()) * self.num_envs,
        )

    def _observations_of(self, position: Array, valid: Array) -> Obs:
        """Return observations [T + 1, B, ...]: those at [T, B], and the true successor of the last valid step."""
        last, window = valid.sum(axis=0) - 1, np.arange(valid.shape[1])  # [B]
        whole = np.concatenate((position, position[-1:]))  # [T + 1, B]
        whole[last + 1, window] = position[last, window] + self.num_envs
        return self.observations.get(whole)

    # State -------------------------------------------------------------------------------------------

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Fill a fresh replay in place."""
        super().load_state_dict(state)
        if self._starts.is_empty:
            for row in range(self.oldest, self.written - self.length + 1):
                self._add_windows(row)


def uniform_windows(num_envs: int, period: int = 1, burn_in: int = 0) -> WindowSampler:
    """Return a uniform sampler of windows; if a window begins at each step, it needs no list of them."""
    return UniformRows(num_envs) if period == 1 and burn_in == 0 else UniformQueue()
