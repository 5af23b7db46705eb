"""Draws what is known exactly about a run on a finite MDP: values, policy, regrets, errors, a solver's convergence."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rl_lab.agent import Policy
from rl_lab.environments.layout import Layout
from rl_lab.evaluation.exact import action_probabilities, find_shortfall, optimum
from rl_lab.evaluation.grid_maps import DPI, kinds_of
from rl_lab.evaluation.run_maps import REGRETS, VALUE_ERRORS, VALUES, RunMaps
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

    What the maps are drawn from is kept beside them.

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
    maps = find_maps(policy, model, layout, gamma=gamma, width=width, first_action=first_action)
    figures = {} if maps is None else {name: maps.draw(name) for name in maps.shown}
    if maps is not None:
        maps.write(folder)
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
    write_atomically(path, png_of(figure))


def png_of(figure: Figure) -> bytes:
    """Return a figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def find_maps(
    policy: Policy,
    model: TabularModel,
    layout: Layout | None = None,
    *,
    gamma: float,
    width: int,
    first_action: int = 0,
) -> RunMaps | None:
    """Return what is to be drawn of a policy; None if it can't be known. The arguments are those of `draw_run`."""
    probabilities = action_probabilities(policy, model, width) if model.num_states <= MOST_STATES else None
    if probabilities is None:
        return None
    try:
        values = policy_evaluation(model, probabilities, gamma)
        shortfall = find_shortfall(policy, model, gamma, width, probabilities)
    except (NeverEnds, NotConverged):
        return None
    regrets = np.maximum(optimum(model, gamma).v - values, 0.0)  # below zero by rounding alone
    shown = {VALUES: values, REGRETS: regrets}
    if shortfall.value_error is not None:
        shown[VALUE_ERRORS] = shortfall.value_error
    kinds = kinds_of(model, layout, shortfall.live)
    return RunMaps(shown, probabilities, shortfall.losing, kinds, layout, first_action)


def draw_residuals(bounds: Array) -> Figure:
    """Draw error bounds over sweeps, given as pairs (sweep, bound) [K, 2]."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(bounds[:, 0], bounds[:, 1])
    axes.set(xlabel="sweep", ylabel="certified bound on the error")
    axes.grid(alpha=0.3)
    return figure
