"""The steps that an evaluation may take in all, spent on its episodes in the order of their number."""

from __future__ import annotations

from array import array

import numpy as np

from rl_lab.types import Array


class StepBudget:
    """Finds the step at which E episodes, played at the same time, would have met a limit one after another.

    Rewards are kept for that: those of the episodes in which the steps may still run out, no more than 16 bytes for
    each of the `total` steps and of the environments' next ones.

    Args:
        total: steps of all episodes together, at least 1.
        episodes: E.

    Raises:
        ValueError: `total` is below 1.
    """

    def __init__(self, total: int, episodes: int):
        if total < 1:
            raise ValueError(f"total_steps must be at least 1, got {total}")
        self.total = total
        self.episode = 0  # the lowest that isn't known to end within the limit; E if all do
        self.left = total  # steps that the episodes below it leave over
        self._episodes = episodes
        self._rewards: dict[int, array[float]] = {}
        self._kept = 0  # rewards

    def record(self, numbers: Array, rewards: Array) -> None:
        """Keep the rewards [N] of a step of the episodes `numbers` [N], each of which is below E."""
        for number, reward in zip(numbers.tolist(), rewards.tolist(), strict=True):
            kept = self._rewards.setdefault(number, array("d"))
            if len(kept) < self.left:
                kept.append(reward)
                self._kept += 1
        if self._kept > 2 * self.total:
            self._drop_what_is_out_of_reach()

    def has_run_out(self, lengths: Array, over: Array) -> bool:
        """Return whether the steps run out in `episode`, after `left` steps of it.

        Args:
            lengths: steps that each episode has taken, int64 [E].
            over: which of them have ended, bool [E].
        """
        while self.episode < self._episodes and over[self.episode] and lengths[self.episode] <= self.left:
            self.left -= int(lengths[self.episode])
            self._kept -= len(self._rewards.pop(self.episode, ()))
            self.episode += 1
        return self.episode < self._episodes and int(lengths[self.episode]) >= self.left

    def rewards(self, number: int) -> Array:
        """Return the rewards of an episode up to where the steps run out, float64 [left]."""
        return np.array(self._rewards[number][: self.left])

    def _drop_what_is_out_of_reach(self) -> None:
        """Drop the rewards after which the steps have run out for certain, which leaves at most `total`.

        Whatever is recorded of such an episode later is never read, and dropped the next time.
        """
        reach = self.left
        for number in sorted(self._rewards):
            kept = self._rewards[number]
            del kept[reach:]
            reach -= len(kept)
        self._kept = sum(map(len, self._rewards.values()))
