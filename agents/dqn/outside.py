"""Tells a person when returns lie outside what a categorical distribution can express."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from rl_lab.types import Array, OneLineWarning

NEGLIGIBLE = 0.01  # a discount from which on later rewards count as the next return's
ROUNDING = 1e-6  # of the range


class OutsideRange(OneLineWarning):
    """Returns lie outside [v_min, v_max]."""


class RangeWatch:
    """Adds up discounted rewards, and warns once of a sum that lies outside [v_min, v_max].

    A sum begins anew at each end of an episode, and once its discount is below 0.01; the first one begins wherever
    the run does. So each is a return of some state met in training, as far as it was seen.

    Args:
        config: has `gamma`, `v_min` and `v_max`.
        num_envs: N.
    """

    def __init__(self, config: Any, num_envs: int):
        self._gamma, self._lowest, self._highest = config.gamma, config.v_min, config.v_max
        self._sum, self._discount = np.zeros(num_envs), np.ones(num_envs)
        self._told = False

    def __call__(self, reward: Array, done: Array) -> None:
        """Take in rewards [N], in the agent's units, and whether an episode ended with each, bool [N]."""
        if self._told:
            return
        self._sum += self._discount * reward
        self._discount *= self._gamma
        complete = done | (self._discount < NEGLIGIBLE)
        if not complete.any():
            return
        self._judge(self._sum[complete])
        self._sum[complete], self._discount[complete] = 0.0, 1.0

    def _judge(self, returns: Array) -> None:
        """Warn if one of the returns [n] lies outside the range."""
        margin = ROUNDING * (self._highest - self._lowest)
        for found, name, bound, beyond in (
            (returns.max(), "v_max", self._highest, returns.max() > self._highest + margin),
            (returns.min(), "v_min", self._lowest, returns.min() < self._lowest - margin),
        ):
            if beyond:
                self._told = True
                warnings.warn(
                    f"rewards of an episode, discounted by gamma {self._gamma:g}, add up to {found:.4g}, beyond"
                    f" {name} {bound:g}: a categorical distribution takes such returns for {bound:g}",
                    OutsideRange,
                    stacklevel=4,
                )
                return
