"""Replay of sequences, for networks with a carry: windows of one episode with the carry they began with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rl_lab.replay.transitions import TransitionReplay
from rl_lab.types import Array, EnvSpec, Obs


@dataclass(frozen=True, slots=True)
class Sequences:
    """B windows of up to T steps, each of one episode; time leads.

    obs[t + 1] is the true successor of step t wherever step t is valid.
    """

    obs: Obs  # [T + 1, B, ...]
    action: Array  # int64 [T, B]
    reward: Array  # float32 [T, B]
    terminated: Array  # bool [T, B]
    next_mask: Array | None  # bool [T, B, A]
    valid: Array  # bool [T, B]: false behind the episode's end
    state: tuple[Array, ...]  # the carry before obs[0], each [B, ...]
    age: float  # mean age of the windows' first steps in environment steps


class SequenceReplay(TransitionReplay):
    """Draws windows from the same columns; `carry` holds arrays [1, ...] that show the carry's shapes."""

    def __init__(
        self,
        capacity: int,
        spec: EnvSpec,
        carry: tuple[Array, ...],
        length: int,
        reward_clip: float | None = None,
    ):
        super().__init__(capacity, spec, carry, reward_clip=reward_clip)
        self.length = length

    @property
    def can_sample(self) -> bool:
        """Say whether one whole window is held."""
        return self.written - self.oldest >= self.length

    def sample_sequences(self, batch_size: int, rng: np.random.Generator) -> Sequences:
        """Draw windows uniformly over their first steps; none crosses the write head."""
        held = self.written - self.oldest
        first = self.oldest + rng.integers(held - self.length + 1, size=batch_size)  # [B]
        env = rng.integers(self.num_envs, size=batch_size)  # [B]
        rows = (first + np.arange(self.length)[:, None]) % self.rows  # [T, B]
        take = {name: column[rows, env] for name, column in self.columns.items()}
        valid = np.ones_like(take["terminated"])
        valid[1:] = ~np.logical_or.accumulate(self._over(take["position"], take["terminated"]), axis=0)
        return Sequences(
            obs=self._windows_of(take["position"], valid),
            action=take["action"],
            reward=self._clipped(take["reward"]),
            terminated=take["terminated"],
            next_mask=take.get("next_mask"),
            valid=valid,
            state=tuple(take[f"state_{k}"][0] for k in range(self._carry)),
            age=float((self.written - 1 - first).mean()) * self.num_envs,
        )

    def _windows_of(self, position: Array, valid: Array) -> Obs:
        """Return the observations at [T, B] and the true successor of each window's last valid step."""
        last, window = valid.sum(axis=0) - 1, np.arange(valid.shape[1])  # [B]
        whole = np.concatenate((position, position[-1:]))  # [T + 1, B]
        whole[last + 1, window] = position[last, window] + self.num_envs
        return self.observations.get(whole)
