"""The k-armed bandit of section 2.3, with a finite number of rewards."""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np

from rl_lab.envs.checks import require_whole
from rl_lab.envs.drawing.picture import Picture
from rl_lab.envs.tabular import TabularEnv, spread_evenly
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

LEVELS = 200  # number of rewards that an arm can pay


class Bandit(TabularEnv):
    """Pull one of `arms` levers, each of which pays its mean plus noise.

    The means are standard normal numbers drawn from `problem_seed`. The noise takes one of 200 equally likely
    values, the means of 200 equally likely slices of the normal distribution scaled to variance 1, so that the
    problem is finite and its model exact. An episode has `steps` pulls. With one pull there is one state. With
    several the state is the number of pulls made, because the end of an episode must be a function of the state.

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., section 2.3 (figure 2.1), where
    the noise is normal.
    """

    def __init__(
        self, *, arms: int = 10, steps: int = 1, problem_seed: int = 0, render_mode: str | None = None
    ) -> None:
        """Make the bandit. Raises ValueError unless `arms` and `steps` are whole numbers of at least 1."""
        arms, steps = require_whole("arms", arms, 1), require_whole("steps", steps, 1)
        problem_seed = require_whole("problem_seed", problem_seed, 0)
        super().__init__(_make_model(arms, steps, problem_seed), render_mode=render_mode)
        self._means = draw_means(arms, problem_seed)

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions, in their order."""
        return [f"lever {k}" for k in range(len(self._means))]

    def _make_picture(self) -> Picture:
        from rl_lab.envs.drawing.sutton_barto_panels import bandit_panel

        return bandit_panel(self._means)


def draw_means(arms: int, problem_seed: int) -> Array:
    """Return the mean reward of each arm, float64 [arms]."""
    return np.random.default_rng(problem_seed).standard_normal(arms)


def slice_normal(levels: int) -> Array:
    """Return the means of `levels` equally likely slices of the normal distribution, scaled to variance 1.

    Returns:
        float64 [levels], in ascending order, symmetric around 0.
    """
    normal = NormalDist()
    density = [normal.pdf(normal.inv_cdf(n / levels)) for n in range(1, levels)]
    means = -np.diff(density, prepend=0.0, append=0.0)
    means -= means[::-1].copy()  # makes them exactly symmetric, and their mean 0
    return means / np.sqrt(np.mean(means**2))


@lru_cache(maxsize=8)
def _make_model(arms: int, steps: int, problem_seed: int) -> TabularModel:
    pull, arm, level = (index.ravel() for index in np.indices((steps, arms, LEVELS)))
    reward = draw_means(arms, problem_seed)[arm] + slice_normal(LEVELS)[level]
    share = np.full(len(pull), 1.0 / LEVELS)
    successor = np.minimum(pull + 1, steps - 1)
    rows = np.column_stack((pull, arm, share, successor, reward, pull == steps - 1))
    return TabularModel.from_outcomes(rows, steps, arms, spread_evenly(np.array([0]), steps))
