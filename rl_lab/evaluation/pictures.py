"""Draws what is known exactly about a run on a finite MDP: values, policy, value errors, and a solver's convergence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rl_lab.agent import Policy
from rl_lab.evaluation.exact import Shortfall, action_probabilities, find_shortfall
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.rows import NeverEnds, NotConverged
from rl_lab.mdp.solve import policy_evaluation
from rl_lab.runs.rows import read_rows
from rl_lab.types import Array

MOST_STATES = 10_000  # beyond which nobody could read the picture


def draw_run(
    run_dir: Path, policy: Policy, model: TabularModel, cells: Array | None, *, gamma: float, width: int
) -> list[Path]:
    """Draw a policy's values, its errors and its solver's bounds into RUN_DIR/pictures; return the files.

    There are no maps for a policy with a carry, nor for a model that is too large or never ends.

    Args:
        cells: (row, column) of each state, int64 [S, 2]; None if the states don't form a grid.
        gamma: discount of the values.
        width: how many states the policy is asked about at a time.
    """
    folder = run_dir / "pictures"
    folder.mkdir(exist_ok=True)
    figures = _maps(policy, model, cells, gamma, width)
    bounds = [(row["sweep"], row["bound"]) for row in read_rows(run_dir) if row.get("bound")]
    if len(bounds) > 1:
        figures["residuals"] = draw_residuals(np.array(bounds))
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=110)
    return [folder / f"{name}.png" for name in figures]


def _maps(
    policy: Policy, model: TabularModel, cells: Array | None, gamma: float, width: int
) -> dict[str, Figure]:
    """Return the maps of values and value errors by name; {} if they can't be drawn."""
    probabilities = action_probabilities(policy, model, width) if model.num_states <= MOST_STATES else None
    if probabilities is None:
        return {}
    try:
        values = policy_evaluation(model, probabilities, gamma)
        shortfall = find_shortfall(policy, model, gamma, width, probabilities)
    except (NeverEnds, NotConverged):
        return {}
    figures = {"values": draw_values(model, values, probabilities, shortfall, cells)}
    if shortfall.value_error is not None:
        figures["value_errors"] = draw_errors(shortfall, cells)
    return figures


def draw_values(
    model: TabularModel, values: Array, probabilities: Array, shortfall: Shortfall, cells: Array | None
) -> Figure:
    """Draw a policy's exact values [S], with arrows in the direction of its moves; losing states are framed in red.

    Args:
        probabilities: the policy, [S, A].
        cells: (row, column) of each state, int64 [S, 2]; None draws lines over the states' numbers.
    """
    shown = np.where(shortfall.live, values, np.nan)
    if cells is None:
        return _lines(shown, shortfall, "value of the policy", probabilities)
    figure, axes = _map(shown, cells, "exact value of the policy", "viridis")
    _arrows(axes, model, probabilities, shortfall.live, cells)
    _frames(axes, shortfall, cells)
    return figure


def draw_errors(shortfall: Shortfall, cells: Array | None) -> Figure:
    """Draw the largest |Q - Q*| of each state; losing states are framed in red.

    Args:
        cells: (row, column) of each state, int64 [S, 2]; None draws lines over the states' numbers.
    """
    assert shortfall.value_error is not None
    shown = np.where(shortfall.live, shortfall.value_error, np.nan)
    if cells is None:
        return _lines(shown, shortfall, "largest |Q - Q*|", None)
    figure, axes = _map(shown, cells, "largest |Q - Q*| over the actions", "magma")
    _frames(axes, shortfall, cells)
    return figure


def draw_residuals(bounds: Array) -> Figure:
    """Draw error bounds over sweeps, given as pairs (sweep, bound) [K, 2]."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(bounds[:, 0], bounds[:, 1])
    axes.set(xlabel="sweep", ylabel="bound on the error of V")
    axes.grid(alpha=0.3)
    return figure


def _map(values: Array, cells: Array, title: str, colours: str) -> tuple[Figure, Axes]:
    """Draw values [S] on their cells int64 [S, 2], with numbers if there is room for them."""
    height, width = cells.max(axis=0) + 1
    grid = np.full((height, width), np.nan)
    grid[cells[:, 0], cells[:, 1]] = values
    size = max(0.35, min(0.8, 8 / width))
    figure = Figure(figsize=(width * size + 1.6, height * size + 0.8), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("#d8d8d8")
    image = axes.imshow(grid, cmap=colours)
    figure.colorbar(image, ax=axes, shrink=0.8)
    axes.set(title=title, xticks=[], yticks=[])
    if width <= 12:
        for (row, column), value in zip(cells, values, strict=True):
            if np.isfinite(value):
                light = float(image.norm(value)) > 0.6  # type: ignore[arg-type]
                axes.text(column, row + 0.33, f"{value:.2g}", ha="center", va="center", fontsize=6.5,
                          color="black" if light else "white")  # fmt: skip
    return figure, axes


def _arrows(axes: Axes, model: TabularModel, probabilities: Array, live: Array, cells: Array) -> None:
    """Draw an arrow in the average direction in which each state's most likely action leads."""
    action = probabilities.argmax(axis=1)
    row = np.repeat(np.arange(len(model.indptr) - 1), np.diff(model.indptr))  # state * A + action
    step = np.zeros((model.num_states * model.num_actions, 2))
    moved = cells[model.successor] - cells[row // model.num_actions]
    np.add.at(step, row, model.probability[:, None] * moved)
    chosen = step[np.arange(model.num_states) * model.num_actions + action]
    length = np.linalg.norm(chosen, axis=1, keepdims=True)
    chosen = np.divide(chosen, length, out=np.zeros_like(chosen), where=length > 1e-9)
    axes.quiver(
        cells[live, 1], cells[live, 0], chosen[live, 1], -chosen[live, 0],
        scale=2.4, scale_units="xy", width=0.006, color="#ff7f50", pivot="mid",
    )  # fmt: skip


def _frames(axes: Axes, shortfall: Shortfall, cells: Array) -> None:
    rows, columns = cells[shortfall.losing].T
    axes.scatter(columns, rows, s=330, marker="s", facecolors="none", edgecolors="#e03030", linewidths=1.6)


def _lines(values: Array, shortfall: Shortfall, title: str, probabilities: Array | None) -> Figure:
    """Draw values [S], and the most likely actions if given, over the states' numbers."""
    figure = Figure(figsize=(6, 3.2 if probabilities is None else 5), layout="constrained")
    panels = figure.subplots(1 if probabilities is None else 2, 1, sharex=True, squeeze=False)[:, 0]
    states = np.arange(len(values))
    panels[0].plot(states, values, ".-", linewidth=0.8, markersize=3)
    panels[0].plot(states[shortfall.losing], values[shortfall.losing], "s", color="#e03030", markersize=4)
    panels[0].set(ylabel=title)
    if probabilities is not None:
        action = np.where(shortfall.live, probabilities.argmax(axis=1), np.nan)
        panels[1].step(states, action, where="mid", linewidth=0.8)
        panels[1].set(ylabel="action")
    panels[-1].set(xlabel="state")
    return figure
