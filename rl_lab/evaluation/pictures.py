"""Draws what is known exactly about a run on a finite MDP: values, policy, regrets, errors, a solver's convergence."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rl_lab.agent import Policy
from rl_lab.environments.layout import Layout
from rl_lab.evaluation.exact import Shortfall, action_probabilities, find_shortfall, optimum
from rl_lab.evaluation.grid_maps import DPI, GridMap, kinds_of, limits_of_errors
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.rows import NeverEnds, NotConverged
from rl_lab.mdp.solve import policy_evaluation
from rl_lab.runs.rows import read_rows
from rl_lab.storage.files import write_atomically
from rl_lab.types import Array

MOST_STATES = 10_000  # beyond which nobody could read the picture


def draw_run(
    run_dir: Path,
    policy: Policy,
    model: TabularModel,
    layout: Layout | None,
    *,
    gamma: float,
    width: int,
    first_action: int = 0,
) -> list[Path]:
    """Draw a policy's values, its regrets, its errors and its solver's bounds into RUN_DIR/pictures; return the files.

    There are no maps for a policy with a carry, nor for a model that is too large or never ends.

    Args:
        layout: how the states lie on a grid; None if they don't.
        gamma: discount of the values.
        width: how many states the policy is asked about at a time.
        first_action: the number of the environment's first action.

    Raises:
        NotWritten: the file system refused; a picture that was there is as it was.
    """
    folder = run_dir / "pictures"
    folder.mkdir(exist_ok=True)
    figures = _maps(policy, model, layout, gamma, width, first_action)
    bounds = [(row["sweep"], row["bound"]) for row in read_rows(run_dir) if row.get("bound")]
    if len(bounds) > 1:
        figures["residuals"] = draw_residuals(np.array(bounds))
    for name, figure in figures.items():
        write_picture(folder / f"{name}.png", figure)
    return [folder / f"{name}.png" for name in figures]


def write_picture(path: Path, figure: Figure) -> None:
    """Write a figure as a PNG, whole or not at all.

    Raises:
        NotWritten: the file system refused.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    write_atomically(path, buffer.getvalue())


def _maps(
    policy: Policy, model: TabularModel, layout: Layout | None, gamma: float, width: int, first_action: int
) -> dict[str, Figure]:
    """Return the maps of values, regrets and value errors by name; {} if they can't be drawn."""
    probabilities = action_probabilities(policy, model, width) if model.num_states <= MOST_STATES else None
    if probabilities is None:
        return {}
    try:
        values = policy_evaluation(model, probabilities, gamma)
        shortfall = find_shortfall(policy, model, gamma, width, probabilities)
    except (NeverEnds, NotConverged):
        return {}
    figures = {"values": draw_values(model, values, probabilities, shortfall, layout, first_action)}
    regrets = np.maximum(optimum(model, gamma).v - values, 0.0)  # below zero by rounding alone
    figures["regrets"] = draw_short(model, regrets, "regret: V* - V of the policy", shortfall, layout)
    if shortfall.value_error is not None:
        figures["value_errors"] = draw_errors(model, shortfall, layout)
    return figures


def draw_values(
    model: TabularModel,
    values: Array,
    probabilities: Array,
    shortfall: Shortfall,
    layout: Layout | None,
    first_action: int = 0,
) -> Figure:
    """Draw a policy's exact values [S] and the actions that it takes; losing states are framed in red.

    Args:
        probabilities: the policy, [S, A].
        layout: how the states lie on a grid; None draws lines over the states' numbers.
        first_action: the number of the environment's first action.
    """
    if layout is None:
        shown = np.where(shortfall.live, values, np.nan)
        return _lines(shown, shortfall, "value of the policy", probabilities, first_action)
    kinds = kinds_of(model, layout, shortfall.live)
    drawn = GridMap(values, layout, kinds, "exact value of the policy", "viridis")
    drawn.draw_actions(probabilities, first_action)
    drawn.frame_losing(shortfall.losing)
    return drawn.finish()


def draw_errors(model: TabularModel, shortfall: Shortfall, layout: Layout | None) -> Figure:
    """Draw the largest |Q - Q*| of each state; losing states are framed in red.

    Args:
        layout: how the states lie on a grid; None draws lines over the states' numbers.
    """
    assert shortfall.value_error is not None
    return draw_short(model, shortfall.value_error, "largest |Q - Q*| over the actions", shortfall, layout)


def draw_short(
    model: TabularModel, distances: Array, title: str, shortfall: Shortfall, layout: Layout | None
) -> Figure:
    """Draw how much each state falls short, [S], from 0 up, in blues, among which the red of losing states stands out.

    Args:
        layout: how the states lie on a grid; None draws lines over the states' numbers.
    """
    shown = np.where(shortfall.live, distances, np.nan)
    if layout is None:
        return _lines(shown, shortfall, title, None)
    kinds = kinds_of(model, layout, shortfall.live)
    limits = limits_of_errors(shown[kinds.acting])
    drawn = GridMap(shown, layout, kinds, title, "Blues", limits)
    drawn.frame_losing(shortfall.losing)
    return drawn.finish()


def draw_residuals(bounds: Array) -> Figure:
    """Draw error bounds over sweeps, given as pairs (sweep, bound) [K, 2]."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(bounds[:, 0], bounds[:, 1])
    axes.set(xlabel="sweep", ylabel="bound on the error of V")
    axes.grid(alpha=0.3)
    return figure


def _lines(
    values: Array, shortfall: Shortfall, title: str, probabilities: Array | None, first_action: int = 0
) -> Figure:
    """Draw values [S], and the most likely actions if given, over the states' numbers."""
    figure = Figure(figsize=(6, 3.2 if probabilities is None else 5), layout="constrained")
    panels = figure.subplots(1 if probabilities is None else 2, 1, sharex=True, squeeze=False)[:, 0]
    states = np.arange(len(values))
    panels[0].plot(states, values, ".-", linewidth=0.8, markersize=3)
    panels[0].plot(states[shortfall.losing], values[shortfall.losing], "s", color="#e03030", markersize=4)
    panels[0].set(ylabel=title)
    if probabilities is None:
        panels[0].set_ylim(0.0, limits_of_errors(values)[1] * 1.05)
    if probabilities is not None:
        action = np.where(shortfall.live, probabilities.argmax(axis=1) + first_action, np.nan)
        panels[1].step(states, action, where="mid", linewidth=0.8)
        panels[1].set(ylabel="action")
    panels[-1].set(xlabel="state")
    return figure
