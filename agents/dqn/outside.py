"""Tells a person when returns lie outside what a categorical distribution can express."""

from __future__ import annotations

import math
import warnings
from itertools import accumulate
from typing import Any

from rl_lab.types import Array, OneLineWarning

NEGLIGIBLE = 0.01  # a discount from which on later rewards count for little
LONGEST = 10_000  # steps of an episode that are held
ROUNDING = 1e-6  # of the range


class OutsideRange(OneLineWarning):
    """Returns lie outside [v_min, v_max]."""


class RangeWatch:
    """Adds up discounted rewards, and warns once of a return that lies outside [v_min, v_max].

    At the end of an episode the returns of all its states are judged, from where the watch began. An episode that goes
    on until later rewards count for little is judged at its first state, and the watch begins anew.

    Args:
        config: has `gamma`, `v_min` and `v_max`.
        num_envs: N.
    """

    def __init__(self, config: Any, num_envs: int):
        self._gamma, self._lowest, self._highest = config.gamma, config.v_min, config.v_max
        self._rewards: list[list[float]] = [[] for _ in range(num_envs)]
        self._most = _steps_until(NEGLIGIBLE, config.gamma)
        self._told = False

    def __call__(self, reward: Array, done: Array) -> None:
        """Take in rewards [N], in the agent's units, and whether an episode ended with each, bool [N]."""
        if self._told:
            return
        for rewards, latest, ended in zip(self._rewards, reward.tolist(), done.tolist(), strict=True):
            rewards.append(latest)
            if ended or len(rewards) == self._most:
                returns = list(accumulate(reversed(rewards), lambda after, r: r + self._gamma * after))
                self._judge(returns if ended else returns[-1:])
                rewards.clear()

    def _judge(self, returns: list[float]) -> None:
        """Warn if one of the returns lies outside the range."""
        margin = ROUNDING * (self._highest - self._lowest)
        low, high = min(returns), max(returns)
        if high > self._highest + margin:
            self._tell(high, "v_max", self._highest)
        elif low < self._lowest - margin:
            self._tell(low, "v_min", self._lowest)

    def _tell(self, found: float, name: str, bound: float) -> None:
        if self._told:
            return
        self._told = True
        warnings.warn(
            f"the rewards from one state on, discounted by gamma {self._gamma:g}, add up to {found:.4g}, beyond {name}"
            f" {bound:g}: a categorical distribution takes such returns for {bound:g}",
            OutsideRange,
            stacklevel=5,
        )


def _steps_until(share: float, gamma: float) -> int:
    """Return the number of steps after which a discount is no more than `share`, and at most LONGEST."""
    if gamma <= 0.0:
        return 1
    return LONGEST if gamma >= 1.0 else min(LONGEST, math.ceil(math.log(share) / math.log(gamma)))
