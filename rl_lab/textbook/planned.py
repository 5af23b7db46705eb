"""Figures 4.2 and 4.3: policy iteration on Jack's car rental, value iteration on the gambler's problem."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from rl_lab.mdp.rows import back_up, evaluate_rows, list_rows, pick_first, take_best
from rl_lab.textbook.axes import BLUE, INK, legend, make_figure, name, shades, spacing, tidy
from rl_lab.textbook.lockstep import model_of
from rl_lab.types import Array

GAMMA = 0.9
NO_MOVE = 5  # the action of Jack's car rental that moves no car
SHOWN_SWEEPS = (1, 2, 3, 32)


@dataclass(frozen=True)
class Rental:
    """The policies [K, 21, 21] that policy iteration meets, as cars moved, and their values [K, 21, 21]."""

    policies: Array
    values: Array


def compute_rental() -> Rental:
    """Improve the policy that never moves a car until it is optimal."""
    rows = list_rows(model_of("lab/CarRental-v0"))
    action = rows.origin % 11
    chosen, policies, values = pick_first(rows, action == NO_MOVE), [], []
    while True:
        value = evaluate_rows(rows, chosen, GAMMA)
        policies.append(action[chosen] - NO_MOVE)
        values.append(value)
        q = back_up(rows, value, GAMMA)
        better = take_best(rows, q) > q[chosen] + 1e-9
        if not better.any():
            break
        chosen = np.where(better, pick_first(rows, q >= take_best(rows, q)[rows.owner]), chosen)
    shape = (len(policies), 21, 21)
    return Rental(np.array(policies).reshape(shape), np.array(values).reshape(shape))


def draw_rental(found: Rental) -> Figure:
    """Draw each policy as a map of the cars moved, and the values of the last one as a surface."""
    figure = Figure(figsize=(11.5, 7.4), layout=spacing())
    figure.suptitle(
        "Figure 4.2   Jack's car rental: policies of policy iteration",
        fontsize=13, fontweight="bold", color=INK, x=0.01, ha="left",
    )  # fmt: skip
    from matplotlib import colormaps

    moves = np.arange(-5, 6)
    colours = ListedColormap(colormaps["RdBu"](np.linspace(0.08, 0.92, len(moves))))
    norm = BoundaryNorm(np.append(moves, 6) - 0.5, len(moves))
    last, panels = min(5, len(found.policies)), []
    for k in range(last):
        axes = figure.add_subplot(2, 3, k + 1)
        shown = axes.imshow(found.policies[k], origin="lower", cmap=colours, norm=norm)
        final = k == len(found.policies) - 1
        name(
            axes,
            f"π$_{k}$" + (", optimal" if final else ""),
            "cars at second location",
            "cars at first location",
        )
        axes.set_xticks([0, 10, 20], labels=["0", "10", "20"])
        axes.set_yticks([0, 10, 20], labels=["0", "10", "20"])
        panels.append(axes)
    bar = figure.colorbar(shown, ax=panels, ticks=moves, shrink=0.7, location="left", pad=0.02)
    bar.set_label("cars moved overnight from the first location to the second", fontsize=9.5)
    surface = figure.add_subplot(2, 3, 6, projection="3d")
    first, second = np.meshgrid(np.arange(21), np.arange(21), indexing="ij")
    surface.plot_surface(second, first, found.values[-1], cmap="viridis", linewidth=0.2, edgecolor="white")
    surface.set_title(f"v of π$_{len(found.policies) - 1}$", fontsize=10.5, color=INK, loc="left")
    surface.set_xlabel("second", fontsize=9)
    surface.set_ylabel("first", fontsize=9)
    surface.tick_params(labelsize=8)
    surface.view_init(elev=28, azim=-125)
    return figure


@dataclass(frozen=True)
class Gambler:
    """Values [N, 101] after each sweep of value iteration, and the least stake of an optimal policy, [101]."""

    sweeps: Array
    stakes: Array


def compute_gambler(sweeps: int = 60) -> Gambler:
    """Sweep in order over the capitals from values of 0, each sweep from the values of the last one."""
    rows = list_rows(model_of("lab/Gambler-v0"))
    values, kept = np.zeros(101), []
    for _ in range(sweeps):
        values = take_best(rows, back_up(rows, values, 1.0))
        kept.append(values)
    q = back_up(rows, values, 1.0)
    first = pick_first(rows, q >= take_best(rows, q)[rows.owner] - 1e-9)
    stakes = rows.origin[first] % 51
    stakes[[0, 100]] = 0
    return Gambler(np.array(kept), stakes)


def draw_gambler(found: Gambler) -> Figure:
    """Draw the values after some sweeps, and the least optimal stake."""
    figure, (left, right) = make_figure("Figure 4.3   The gambler's problem, heads with probability 0.4", 2)
    capital = np.arange(1, 100)
    colours = shades(len(SHOWN_SWEEPS) + 1)
    for sweep, colour in zip(SHOWN_SWEEPS, colours, strict=False):
        left.plot(
            capital, found.sweeps[sweep - 1][1:100], color=colour, linewidth=1.6, label=f"sweep {sweep}"
        )
    left.plot(capital, found.sweeps[-1][1:100], color=INK, linewidth=1.0, linestyle=":", label="final")
    name(left, "Value iteration: the probability of winning", "capital", "value estimate")
    legend(left, "upper left")
    right.step(capital, found.stakes[1:100], where="mid", color=BLUE, linewidth=1.4)
    right.fill_between(capital, found.stakes[1:100], step="mid", color=BLUE, alpha=0.15, linewidth=0)
    name(right, "The least stake that is optimal", "capital", "stake")
    for axes in (left, right):
        axes.set_xlim(0, 100)
        axes.set_xticks([1, 25, 50, 75, 99])
        axes.set_ylim(0)
        tidy(axes)
    return figure
