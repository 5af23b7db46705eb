"""Draws a study's learning curves as inline SVG."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from rl_lab.evaluation.comparison.aggregates import interquartile_mean
from rl_lab.evaluation.comparison.intervals import bootstrap
from rl_lab.evaluation.statistics import interpolate_curves, iqm
from rl_lab.studies.foreign.beside import with_joined
from rl_lab.studies.results import REGRET, RETURN, Points, RunResults, StudyResults
from rl_lab.types import Array

# Okabe and Ito's colours, which are distinct for any colour vision; darkened for white, lightened for black pages.
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#b5508f", "#2a9fd8", "#b07d00")
DARK = ("#4aa8e8", "#ff8a42", "#2fcb9d", "#e89bc8", "#92d6ff", "#ecb92f")
# The next one is taken when colours repeat.
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
BAND_RESAMPLES = 1000

# Placeholder colours: the page's style sheet defines what they look like.
INK, GRID = "#010203", "#040506"
VARIABLES = {c: f"var(--agent-{i})" for i, c in enumerate(LIGHT)} | {INK: "var(--ink)", GRID: "var(--grid)"}
SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "rl_lab",  # the same study gives the same page
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


def colour_of(study: StudyResults, agent: str) -> str:
    """Return the agent's colour, the same everywhere on the page."""
    return LIGHT[study.agents.index(agent) % len(LIGHT)]


def dash_of(study: StudyResults, agent: str) -> Any:
    """Return the agent's line style (as matplotlib takes it), which differs where colours repeat."""
    return DASHES[study.agents.index(agent) // len(LIGHT) % len(DASHES)]


def draw_curves(
    study: StudyResults, env_id: str, key: str, prefix: str, reference: float | None
) -> str | None:
    """Draw the curves of `key` for all agents; return an SVG element, or None without any evaluation.

    The ids of its parts begin with `prefix`: "curve-AGENT" is the IQM over finished runs, "band-AGENT" its interval,
    "seed-AGENT-SEED" a single run and "reference" the horizontal line at `reference`.
    """
    study = with_joined(study)
    runs = study.of_env(env_id)
    values = np.concatenate([run.curve(key)[1] for run in runs])
    if values.size == 0:
        return None
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(5.6, 3.5), layout="constrained")
        axes = figure.add_subplot()
        end = max(study.total_steps, *(run.curve(key)[0].max(initial=0) for run in runs))
        for agent in study.agents:
            _draw_agent(axes, study, agent, study.runs[env_id, agent], key, end)
        if reference is not None:
            axes.axhline(reference, color=INK, linewidth=1, linestyle=(0, (4, 3)), gid="reference")
        _dress(axes, key, end, values)
        return _inline(figure, prefix, f"{_TITLES[key]} on {env_id}")


_TITLES = {RETURN: "evaluation return", REGRET: "regret"}


def _draw_agent(
    axes: Axes, study: StudyResults, agent: str, runs: Iterable[RunResults], key: str, end: float
) -> None:
    finished = []
    for run in runs:
        steps, values = _stretched(run.curve(key), end)
        if steps.size:
            look: Any = {"linestyle": "-", "alpha": 0.4} if run.done else {"linestyle": ":", "alpha": 0.9}
            name = f"seed-{agent}-{run.seed}"
            axes.plot(steps, values, color=colour_of(study, agent), linewidth=0.9, gid=name, **look)
        if steps.size and run.done:
            finished.append((steps, values))
    grid, matrix = interpolate_curves(finished)  # [G], [runs, G]
    if grid.size:
        _draw_average(axes, study, agent, grid, matrix)


def _draw_average(axes: Axes, study: StudyResults, agent: str, grid: Array, matrix: Array) -> None:
    colour = colour_of(study, agent)
    low, high = bootstrap([matrix.T[..., None]], interquartile_mean, resamples=BAND_RESAMPLES)
    axes.fill_between(grid, low, high, color=colour, alpha=0.16, linewidth=0, gid=f"band-{agent}")
    marker = "o" if grid.size == 1 else ""
    look: Any = {"color": colour, "linestyle": dash_of(study, agent), "linewidth": 2, "marker": marker}
    axes.plot(grid, iqm(matrix, 0), gid=f"curve-{agent}", **look)


def _stretched(curve: Points, end: float) -> Points:
    """Extend a curve whose only point is at step 0 (the agent solved the model) to a horizontal line up to `end`."""
    steps, values = curve
    if steps.size == 0 or steps.any():
        return curve
    return np.array([0.0, end]), np.repeat(values[-1], 2)


def _dress(axes: Axes, key: str, end: float, values: Array) -> None:
    axes.set_xlabel("environment steps")
    axes.set_ylabel(_TITLES[key])
    axes.set_xlim(0, end * 1.02 or 1)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.tick_params(length=3)
    if key == REGRET:
        _scale_regret(axes, values)


def _scale_regret(axes: Axes, regrets: Array) -> None:
    """Use a logarithmic axis that still shows zero if regrets span more than a factor of 20."""
    largest, positive = regrets.max(), regrets[regrets > 0]
    if largest <= 0 or positive.min() > largest / 20:
        axes.set_ylim(bottom=min(0, regrets.min()) - 0.03 * max(largest, 0))
        return
    smallest = max(positive.min(), largest / 1e4)  # values closer to zero are drawn linearly
    threshold = 10.0 ** np.floor(np.log10(smallest))
    axes.set_yscale("symlog", linthresh=threshold, linscale=0.7)
    axes.yaxis.set_major_formatter(lambda regret, _: f"{regret:g}")
    axes.set_ylim(bottom=min(regrets.min(), -threshold / 4))


def _inline(figure: Figure, prefix: str, title: str) -> str:
    """Return a figure as an SVG element for HTML: no namespaces or style sheet, but unique ids and CSS variables."""
    buffer = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag.endswith(("}metadata", "}style"))]:
            parent.remove(child)
    for element in root.iter():
        _make_local(element, prefix)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": title}
    return ElementTree.tostring(root, encoding="unicode")


def _make_local(element: ElementTree.Element, prefix: str) -> None:
    element.tag = element.tag.rpartition("}")[2]
    attributes = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    name = attributes.get("id", "")
    if "id" in attributes:
        attributes["id"] = f"{prefix}-{name}"
    for reference in ("href", "clip-path"):
        if reference in attributes:
            attributes[reference] = attributes[reference].replace("#", f"#{prefix}-", 1)
    for colour, variable in VARIABLES.items():
        if "style" in attributes:
            attributes["style"] = attributes["style"].replace(colour, variable)
    if name.startswith("curve-"):
        attributes["data-curve"] = name.removeprefix("curve-")
    element.attrib = attributes
