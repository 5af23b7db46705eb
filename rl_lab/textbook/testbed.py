"""Figure 2.2: epsilon-greedy methods on the 10-armed testbed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rl_lab.textbook.axes import BLUE, GREEN, ORANGE, book_scale, legend, make_figure, name
from rl_lab.types import Array

EPSILONS = (0.0, 0.01, 0.1)
ARMS, STEPS = 10, 1_000


@dataclass(frozen=True)
class Testbed:
    """Means over all problems at each step, [E, T] for E values of epsilon."""

    reward: Array
    optimal: Array
    """Share of the problems in which the best arm is pulled."""
    regret: Array
    """By how much the mean of the pulled arm falls short of the best one."""


def compute(runs: int = 2_000, seed: int = 0, steps: int = STEPS) -> Testbed:
    """Play `runs` bandit problems of normal arms with sample averages, once for each epsilon."""
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((runs, ARMS))
    played = [_play(means, epsilon, steps, rng) for epsilon in EPSILONS]
    return Testbed(*(np.array(part) for part in zip(*played, strict=True)))


def _play(means: Array, epsilon: float, steps: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    runs, index = len(means), np.arange(len(means))
    best = means.max(axis=1)
    estimates, pulls = np.zeros_like(means), np.zeros_like(means)
    reward, optimal, regret = np.zeros(steps), np.zeros(steps), np.zeros(steps)
    for t in range(steps):
        ties = np.where(estimates == estimates.max(axis=1, keepdims=True), rng.random(means.shape), -1.0)
        arm = np.where(rng.random(runs) < epsilon, rng.integers(ARMS, size=runs), ties.argmax(axis=1))
        paid = means[index, arm] + rng.standard_normal(runs)
        pulls[index, arm] += 1
        estimates[index, arm] += (paid - estimates[index, arm]) / pulls[index, arm]
        shortfall = best - means[index, arm]
        reward[t], optimal[t], regret[t] = paid.mean(), (shortfall == 0).mean(), shortfall.mean()
    return reward, optimal, regret


def draw(found: Testbed) -> Figure:
    """Draw the mean regret per step, with the mean reward as the scale on the right, and the share of best arms."""
    figure, (left, right) = make_figure("Figure 2.2   The 10-armed testbed", 2)
    best = float((found.reward + found.regret).mean())
    for epsilon, colour, regret, optimal in zip(
        EPSILONS, (GREEN, ORANGE, BLUE), found.regret, found.optimal, strict=True
    ):
        label = f"ε = {epsilon:g}" + (" (greedy)" if epsilon == 0 else "")
        left.plot(np.arange(1, len(regret) + 1), regret, color=colour, linewidth=1.3, label=label)
        right.plot(np.arange(1, len(optimal) + 1), optimal, color=colour, linewidth=1.3, label=label)
    name(left, "How much less an arm pays than the best one", "step", "mean regret per step")
    name(right, "How often the best arm is pulled", "step", "optimal action")
    left.set_ylim(0, best * 1.02)
    book_scale(left, "mean reward", lambda regret: best - regret, lambda reward: best - reward)
    right.set_ylim(0, 1)
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (left, right):
        axes.set_xlim(0, len(found.regret[0]))
        legend(axes, "upper right" if axes is left else "upper left")
    return figure
