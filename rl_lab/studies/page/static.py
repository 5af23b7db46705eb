"""Draws the figures of a page with matplotlib: the PNG and SVG files beside it, and what a notebook shows.

plotly's own export to files drives a browser that has to be installed first; matplotlib needs nothing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from rl_lab.studies.page.colours import LIGHT, colour_index, dash_of
from rl_lab.studies.page.formats import slug
from rl_lab.studies.page.panels import Bar, Chart, Panel
from rl_lab.studies.page.symlog import LINEAR, Symlog

DPI = 150
WIDTH, LINES_HEIGHT, BAR_HEIGHT, BARS_MARGIN = 5.6, 3.5, 0.28, 0.95  # inches
INK, GRID = "#333333", "#cccccc"
SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "rl_lab",  # the same study gives the same files
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}
NOTHING = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # of the metadata of an SVG


def draw(panels: Sequence[Panel], title: str, agents: Sequence[str], legend: bool = True) -> Figure:
    """Return panels side by side as a figure, on white.

    Args:
        agents: all of the study, which decide the colours.
    """
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=_size(panels), dpi=DPI, layout="constrained", facecolor="white")
        columns = _columns(panels)
        axes = figure.subplots(-(-len(panels) // columns), columns, squeeze=False)
        for panel, ax in zip(panels, axes.flat, strict=False):
            _draw_bars(ax, panel, agents) if panel.bars else _draw_lines(ax, panel, agents)
        for ax in axes.flat[len(panels) :]:
            ax.remove()
        if title:
            figure.suptitle(title, fontsize=10.5)
        shown = list(dict.fromkeys(agent for panel in panels for agent in panel.agents))
        if legend and shown:
            handles = [_handle(agent, agents) for agent in shown] + _reference_handle(panels)
            figure.legend(
                handles=handles,
                loc="outside lower center",
                ncols=min(4, len(handles)),
                frameon=False,
                fontsize=9,
            )
    return figure


def _columns(panels: Sequence[Panel]) -> int:
    return 2 if len(panels) > 1 else 1


def _size(panels: Sequence[Panel]) -> tuple[float, float]:
    rows = -(-len(panels) // _columns(panels))
    height = max(
        BARS_MARGIN + BAR_HEIGHT * len(panel.bars) if panel.bars else LINES_HEIGHT for panel in panels
    )
    return WIDTH * (1.35 if len(panels) > 1 else 1), rows * height + 0.6


def _handle(agent: str, agents: Sequence[str]) -> Line2D:
    return Line2D(
        [], [], color=_colour(agent, agents), linestyle=_dash(agent, agents), linewidth=2, label=agent
    )


def _reference_handle(panels: Sequence[Panel]) -> list[Line2D]:
    names = dict.fromkeys(panel.reference_name for panel in panels if panel.reference is not None)
    return [Line2D([], [], color=INK, linestyle=(0, (4, 3)), linewidth=1, label=name) for name in names]


def _draw_lines(axes: Axes, panel: Panel, agents: Sequence[str]) -> None:
    for run in panel.seeds:
        look: Any = {"linestyle": "-", "alpha": 0.4} if run.done else {"linestyle": ":", "alpha": 0.9}
        axes.plot(run.x, run.y, color=_colour(run.agent, agents), linewidth=0.9, **look)
    for line in panel.lines:
        colour = _colour(line.agent, agents)
        where: Any = "post" if panel.steps else None
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0, step=where)
        axes.plot(
            line.x,
            line.y,
            color=colour,
            linestyle=_dash(line.agent, agents),
            linewidth=2,
            marker="o" if len(line.x) == 1 else "",
            drawstyle="steps-post" if panel.steps else "default",
        )
    if panel.reference is not None:
        axes.axhline(panel.reference, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(xlabel=panel.x_title, ylabel=panel.y_title, title=panel.title or None)
    if panel.x_range:
        axes.set_xlim(*panel.x_range)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if panel.y_range:
        axes.set_ylim(*panel.y_range)
    axes.tick_params(length=3)
    if panel.y_log:
        _scale_logarithmically(axes, panel)


def _scale_logarithmically(axes: Axes, panel: Panel) -> None:
    threshold = Symlog.of(values := panel.values()).threshold
    axes.set_yscale("symlog", linthresh=threshold, linscale=LINEAR)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylim(bottom=min(*values, -threshold / 4))


def _draw_bars(axes: Axes, panel: Panel, agents: Sequence[str]) -> None:
    for row, bar in enumerate(panel.bars):
        axes.errorbar(
            bar.value,
            row,
            xerr=_error(bar),
            fmt="o",
            color=_colour(bar.agent, agents),
            markersize=6,
            elinewidth=3,
        )
    if panel.reference is not None:
        axes.axvline(panel.reference, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(panel.bars)), [bar.name for bar in panel.bars])
    axes.set_ylim(len(panel.bars) - 0.5, -0.5)
    axes.set(xlabel=panel.x_title, title=panel.title or None)
    if panel.x_range:
        axes.set_xlim(*panel.x_range)
    axes.tick_params(length=3)


def _error(bar: Bar) -> Any:
    if not (np.isfinite(bar.low) and np.isfinite(bar.high)):
        return None
    return [[max(0.0, bar.value - bar.low)], [max(0.0, bar.high - bar.value)]]


def _colour(agent: str, agents: Sequence[str]) -> str:
    return LIGHT[colour_index(agents, agent)]


def _dash(agent: str, agents: Sequence[str]) -> Any:
    lengths = dash_of(agents, agent)
    return (0, lengths) if lengths else "-"


def files_of(chart: Chart, agents: Sequence[str]) -> dict[str, bytes]:
    """Return a figure's PNG and SVG files, one of each for each view, by name."""
    files = {}
    for view, panels in chart.views.items():
        figure = draw(panels, chart.title, agents, legend=chart.legend == "agents")
        name = f"{chart.slug}-by-{slug(view.rpartition(' ')[2])}" if len(chart.views) > 1 else chart.slug
        with matplotlib.rc_context(SETTINGS):
            _lay_out(figure)
            files[f"{name}.png"] = _saved(figure, "png")
            files[f"{name}.svg"] = _saved(figure, "svg")
    return files


def _lay_out(figure: Figure) -> None:
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # once for all files


def _saved(figure: Figure, kind: str) -> bytes:
    """Return a figure that is laid out already as a file; `savefig` would lay it out again."""
    buffer = io.BytesIO()
    if kind == "svg":
        FigureCanvasSVG(figure).print_svg(buffer, metadata=NOTHING)
    else:
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def inline_svg(panels: Sequence[Panel], title: str, agents: Sequence[str], prefix: str) -> str:
    """Return panels as an SVG element for HTML, with a legend: without namespaces and style sheet.

    Args:
        prefix: begins all ids, so that several elements have their place on one page.
    """
    figure = draw(panels, title, agents)
    with matplotlib.rc_context(SETTINGS):
        _lay_out(figure)
        root = ElementTree.fromstring(_saved(figure, "svg"))
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
    if "id" in attributes:
        attributes["id"] = f"{prefix}-{attributes['id']}"
    for reference in ("href", "clip-path"):
        if reference in attributes:
            attributes[reference] = attributes[reference].replace("#", f"#{prefix}-", 1)
    element.attrib = attributes
