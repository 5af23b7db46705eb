"""Draws a diagnosis: the parts of the regret, the states visited, the loss's fixed points, and the calibration."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rl_lab.diagnosis.calibration import Calibration
from rl_lab.diagnosis.loss_bias import LossBias
from rl_lab.diagnosis.report import Diagnosis, number
from rl_lab.diagnosis.split import RegretSplit
from rl_lab.diagnosis.visited import Visits, live_states
from rl_lab.environments.layout import Layout
from rl_lab.evaluation.grid_maps import GridMap, kinds_of
from rl_lab.mdp.model import TabularModel

COLOURS = {"exploration": "#0072b2", "representation": "#e69f00", "rest": "#999999"}
LABELS = {
    "exploration": "exploration",
    "representation": "representation",
    "rest": "optimisation\nand estimation",
}
RETURN_COLOUR = "#1b7f46"
PERFECT = {"color": "#444444", "linewidth": 0.8, "linestyle": "--"}


def draw_diagnosis(diagnosis: Diagnosis) -> dict[str, Figure]:
    """Return the figures by name; those of which nothing is known are left out."""
    figures: dict[str, Figure] = {}
    if diagnosis.split is not None:
        figures["diagnosis_regret"] = draw_split(diagnosis.split)
    model, visits, found = diagnosis.model, diagnosis.visits, diagnosis.calibration
    if model is not None and visits is not None and not visits.from_model:
        figures["diagnosis_visits"] = draw_visits(visits, model, diagnosis.layout)
    if model is not None and diagnosis.loss is not None and diagnosis.loss.loss != "squared":
        figures["diagnosis_loss"] = draw_loss(diagnosis.loss, model)
    if found is not None and found.reliability:
        figures["diagnosis_calibration"] = draw_calibration(found)
    return figures


def draw_split(split: RegretSplit) -> Figure:
    """Draw the way down from the optimum to what the policy achieves, a bar for each part."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.use_sticky_edges = False  # so that markers and texts at the ends have room
    levels = [split.optimal_return]
    for x, (name, part) in enumerate(split.parts.items(), 1):
        axes.bar(x, -part, bottom=levels[-1], color=COLOURS[name], gid=name)
        axes.plot([x - 1, x], [levels[-1]] * 2, color="#bbbbbb", linewidth=0.8)
        _write(axes, number(part), x, levels[-1])
        levels.append(levels[-1] - part)
    names = ["optimum", *(LABELS[name] for name in split.parts), "policy"]
    last = len(names) - 1
    axes.plot([last - 1, last], [levels[-1]] * 2, color="#bbbbbb", linewidth=0.8)
    axes.plot([0, last], [levels[0], levels[-1]], "D", color=RETURN_COLOUR, gid="returns")
    for x, level in ((0, levels[0]), (last, levels[-1])):
        _write(axes, number(level), x, level)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("expected discounted return")
    axes.set_title(f"regret {number(split.regret)}", fontsize=11)
    axes.margins(x=0.08, y=0.2)
    axes.grid(axis="y", alpha=0.3)
    return figure


def _write(axes: Axes, text: str, x: float, y: float) -> None:
    """Write above a point."""
    axes.annotate(text, (x, y), ha="center", xytext=(0, 6), textcoords="offset points")


def draw_visits(visits: Visits, model: TabularModel, layout: Layout | None) -> Figure:
    """Draw how often each state was met while learning, as log10(1 + visits); states never met are framed in red.

    Args:
        layout: how the states lie on a grid; None draws a line over the states' numbers.
    """
    live = live_states(model)
    counts = np.log10(1.0 + visits.shown)
    if layout is None:
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        states = np.flatnonzero(live)
        axes.plot(states, counts[states], ".-", linewidth=0.8, markersize=3)
        never = states[visits.shown[states] == 0]
        axes.plot(never, np.zeros(len(never)), "s", color="#e03030", markersize=4, label="never visited")
        axes.set(xlabel="state", ylabel="log10(1 + visits)")
        if len(never):
            axes.legend(frameon=False)
        return figure
    drawn = GridMap(counts, layout, kinds_of(model, layout, live), "log10(1 + visits in training)", "viridis")
    drawn.frame(live & ~visits.visited, "#e03030", "never visited")
    return drawn.finish()


def draw_loss(loss: LossBias, model: TabularModel) -> Figure:
    """Draw the values at which learning stays with the loss against those with the squared loss, state by state."""
    live = live_states(model)
    figure = Figure(figsize=(4.8, 4.2), layout="constrained")
    axes = figure.subplots()
    squared, own = loss.squared_values[live], loss.loss_values[live]
    low, high = float(min(squared.min(), own.min())), float(max(squared.max(), own.max()))
    axes.plot([low, high], [low, high], **PERFECT, label="no bias")  # type: ignore[arg-type]
    axes.plot(squared, own, "o", color=COLOURS["exploration"], markersize=4, label="a state", gid="states")
    axes.set(xlabel="value with the squared loss", ylabel=f"value with the {loss.loss} loss")
    axes.set_title(f"largest bias of the loss: {number(loss.largest_bias)}", fontsize=11)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return figure


def draw_calibration(found: Calibration) -> Figure:
    """Draw realised returns over predicted values: the mean of each bin of steps."""
    figure = Figure(figsize=(4.8, 4.2), layout="constrained")
    axes = figure.subplots()
    predicted, realised = (
        np.array([getattr(b, name) for b in found.reliability]) for name in ("predicted", "realised")
    )
    low, high = float(min(predicted.min(), realised.min())), float(max(predicted.max(), realised.max()))
    axes.plot([low, high], [low, high], **PERFECT, label="right predictions")  # type: ignore[arg-type]
    axes.plot(
        predicted,
        realised,
        "o-",
        color=COLOURS["exploration"],
        linewidth=1,
        label="bins of steps",
        gid="bins",
    )
    axes.set(xlabel="predicted value", ylabel="realised discounted return")
    if found.rmse is not None and found.bias is not None:
        axes.set_title(f"bias {number(found.bias)}, root mean square {number(found.rmse)}", fontsize=11)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return figure
