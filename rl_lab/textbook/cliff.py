"""Figure 6.3 and the curves of example 6.6: SARSA, Q-learning and expected SARSA on the cliff."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rl_lab.mdp.solve import solve
from rl_lab.textbook.axes import BLUE, GREY, ORANGE, RED, book_scale, legend, make_figure, name
from rl_lab.textbook.control import EXPECTED_SARSA, Q_LEARNING, SARSA, Settings, learn
from rl_lab.textbook.lockstep import model_of
from rl_lab.types import Array

RULES = {"SARSA": SARSA, "expected SARSA": EXPECTED_SARSA, "Q-learning": Q_LEARNING}
LOOKS = {"SARSA": (BLUE, "v"), "expected SARSA": (RED, "x"), "Q-learning": (ORANGE, "s")}
STEP_SIZES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
CURVE_STEP_SIZE = 0.5  # of example 6.6
EARLY = 100  # episodes of the interim performance


@dataclass(frozen=True)
class Cliff:
    """Regret per episode: the optimal return, -13, minus what was collected while exploring."""

    step_sizes: Array
    curves: dict[str, Array]
    """Mean over the runs at CURVE_STEP_SIZE, [E] for each rule."""
    interim: dict[str, Array]
    """Mean over the first episodes, [M] for each rule."""
    asymptotic: dict[str, Array]
    """Mean over as many last episodes, [M] for each rule."""
    optimum: float


def compute(
    runs: int = 50, seed: int = 0, episodes: int = 500, step_sizes: tuple[float, ...] = STEP_SIZES
) -> Cliff:
    """Let `runs` runs of each rule learn with each step size."""
    model, sizes = model_of("lab/Cliff-v0"), np.array(step_sizes)
    optimum = float(model.initial @ solve(model, 1.0).v)
    rule, size, _ = np.meshgrid(list(RULES.values()), sizes, np.arange(runs), indexing="ij")
    played = learn(model, Settings(rule.ravel(), size.ravel()), episodes, np.random.default_rng(seed))
    regret = (optimum - played.returns).reshape(*rule.shape, episodes)
    early, at = min(EARLY, episodes // 2), int(np.argmin(np.abs(sizes - CURVE_STEP_SIZE)))
    means = regret.mean(axis=2)  # [rules, sizes, episodes]
    return Cliff(
        sizes,
        {rule: means[k, at] for k, rule in enumerate(RULES)},
        {rule: means[k, :, :early].mean(axis=1) for k, rule in enumerate(RULES)},
        {rule: means[k, :, -early:].mean(axis=1) for k, rule in enumerate(RULES)},
        optimum,
    )


def draw(found: Cliff) -> Figure:
    """Draw the learning curves of SARSA and Q-learning, and the performance of all rules over step sizes."""
    figure, (left, right) = make_figure("Figure 6.3 and example 6.6   Walking along the cliff", 2)
    for rule in ("SARSA", "Q-learning"):
        smooth = _smooth(found.curves[rule], 10)
        left.plot(np.arange(1, len(smooth) + 1), smooth, color=LOOKS[rule][0], linewidth=1.6, label=rule)
    name(left, f"While learning with step size {CURVE_STEP_SIZE:g}, ε = 0.1", "episode", "regret per episode")
    left.set_xlim(0, len(found.curves["SARSA"]))
    left.set_ylim(0, 90)
    for rule, (colour, marker) in LOOKS.items():
        line: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.3}
        right.plot(found.step_sizes, found.interim[rule], linestyle="--", **line)
        right.plot(found.step_sizes, found.asymptotic[rule], label=rule, **line)
    right.plot([], [], color=GREY, linestyle="--", label="interim: first episodes")
    right.plot([], [], color=GREY, label="asymptotic: last episodes")
    name(right, "Interim and asymptotic performance", "step size α", "regret per episode")
    right.set_ylim(0, 150)
    for axes in (left, right):
        book_scale(
            axes, "sum of rewards", partial(np.subtract, found.optimum), partial(np.subtract, found.optimum)
        )
        legend(axes, "upper right" if axes is left else "upper center", columns=1 if axes is left else 2)
    return figure


def _smooth(curve: Array, width: int) -> Array:
    """Return the mean over the episodes up to each one, `width` at most."""
    sums = np.cumsum(np.insert(curve, 0, 0.0))
    start = np.maximum(np.arange(1, len(curve) + 1) - width, 0)
    stop = np.arange(1, len(curve) + 1)
    return (sums[stop] - sums[start]) / (stop - start)
