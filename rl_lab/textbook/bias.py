"""Figure 6.5: maximisation bias of Q-learning, which double Q-learning doesn't have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rl_lab.textbook.axes import GREEN, GREY, RED, book_scale, legend, make_figure, name
from rl_lab.textbook.control import DOUBLE_Q, Q_LEARNING, Settings, learn
from rl_lab.textbook.lockstep import model_of
from rl_lab.types import Array

LEFT, COST, EPSILON = 0, 0.1, 0.1
EPISODES = 300


@dataclass(frozen=True)
class Bias:
    """The share of runs that go left in each episode, [E]; each time costs 0.1 on average."""

    q_learning: Array
    double_q: Array


def compute(runs: int = 10_000, seed: int = 0, episodes: int = EPISODES) -> Bias:
    """Let both rules learn for `runs` runs each, with step size 0.1."""
    model = model_of("lab/MaximisationBias-v0")
    rule = np.repeat([Q_LEARNING, DOUBLE_Q], runs)
    settings = Settings(rule, np.full(len(rule), 0.1), EPSILON)
    left = learn(model, settings, episodes, np.random.default_rng(seed)).first_actions == LEFT
    return Bias(left[:runs].mean(axis=0), left[runs:].mean(axis=0))


def draw(found: Bias) -> Figure:
    """Draw how often both go left, with the regret that it costs as the scale on the left."""
    figure, (axes,) = make_figure("Figure 6.5   Maximisation bias", width=7.6, height=4.4)
    episodes = np.arange(1, len(found.q_learning) + 1)
    axes.plot(episodes, COST * found.q_learning, color=RED, linewidth=1.7, label="Q-learning")
    axes.plot(episodes, COST * found.double_q, color=GREEN, linewidth=1.7, label="double Q-learning")
    axes.axhline(
        COST * EPSILON / 2, color=GREY, linestyle="--", linewidth=1.2, label="least with ε = 0.1: 5 %"
    )
    name(axes, "Going left looks good to the largest of noisy estimates", "episode", "regret per episode")
    axes.set_xlim(1, len(episodes))
    axes.set_ylim(0, COST)
    scale = book_scale(axes, "left actions from A", lambda regret: regret / COST, lambda share: share * COST)
    scale.yaxis.set_major_formatter(PercentFormatter(1.0))
    legend(axes, "upper right")
    return figure
