"""The k-armed bandit of the testbed in section 2.3."""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from rl_lab.envs.tabular import TabularEnv, spread_evenly
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

if TYPE_CHECKING:
    from rl_lab.envs.canvas import Panel

LEVELS = 200  # rewards that an arm may pay


class Bandit(TabularEnv):
    """Pull one of `arms` levers, each of which pays its mean plus noise.

    The means are standard normal numbers drawn from `problem_seed`. So that the problem is finite
    and its model exact, the noise takes 200 equally likely values: the means of as many slices of the
    normal distribution, scaled to variance 1. An episode has `steps` pulls. With one pull there is
    one state; with several the state is the number of pulls made, since otherwise the end would
    be no function of the state.

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., section 2.3
    (figure 2.1), where the noise is normal.
    """

    def __init__(
        self, *, arms: int = 10, steps: int = 1, problem_seed: int = 0, render_mode: str | None = None
    ) -> None:
        if arms < 1 or steps < 1:
            raise ValueError(f"arms {arms} and steps {steps} must be at least 1")
        super().__init__(_make_model(arms, steps, problem_seed), render_mode=render_mode)
        self._means = draw_means(arms, problem_seed)

    def _make_picture(self) -> Panel:
        from rl_lab.envs.panels import bandit_panel

        return bandit_panel(self._means)


def draw_means(arms: int, problem_seed: int) -> Array:
    """Return what each arm pays on average, [arms]."""
    return np.random.default_rng(problem_seed).standard_normal(arms)


def slice_normal(levels: int) -> Array:
    """Return the means [levels] of equally likely slices of the normal distribution, at variance 1."""
    normal = NormalDist()
    density = [normal.pdf(normal.inv_cdf(n / levels)) for n in range(1, levels)]
    means = -np.diff(density, prepend=0.0, append=0.0)
    means -= means[::-1].copy()  # exactly symmetric, so that the mean is 0
    return means / np.sqrt(np.mean(means**2))


@lru_cache(maxsize=8)
def _make_model(arms: int, steps: int, problem_seed: int) -> TabularModel:
    pulls, arm, level = (index.ravel() for index in np.indices((steps, arms, LEVELS)))
    reward = draw_means(arms, problem_seed)[arm] + slice_normal(LEVELS)[level]
    share = np.full(len(pulls), 1.0 / LEVELS)
    follows = np.minimum(pulls + 1, steps - 1)
    rows = np.column_stack((pulls, arm, share, follows, reward, pulls == steps - 1))
    return TabularModel.from_outcomes(rows, steps, arms, spread_evenly(np.array([0]), steps))
