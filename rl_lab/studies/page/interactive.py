"""Draws the figures of a page with plotly: what the page's own copy of plotly.js is given."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Callable, Sequence
from functools import cache, partial
from html import escape as escaped
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from rl_lab.studies.page.colours import DASHES, LIGHT, colour_index, dash_of
from rl_lab.studies.page.formats import finite
from rl_lab.studies.page.panels import Bar, Chart, Line, Panel, SeedLine
from rl_lab.studies.page.symlog import Symlog
from rl_lab.types import Array

Spec = dict[str, Any]
Place = Callable[[Any], Array]  # places values on the axis of y
escape = partial(escaped, quote=False)  # plotly reads these three entities alone
LINES_HEIGHT, BAR_HEIGHT, BARS_MARGIN = 330, 34, 76  # CSS pixels
SMALL, VALUE = "%{customdata[0]:.4~g}, %{customdata[1]:.4~g}", "%{customdata[2]:.4~g}"
DIGITS = 7  # significant ones that the page holds of each number; the files beside it hold all


def spec_of(chart: Chart, agents: Sequence[str]) -> Spec:
    """Return a figure as the page's script takes it: for each view, the panels as plotly's data and layout."""
    return {
        "id": chart.slug,
        "views": [
            {
                "name": view,
                "label": chart.described(view),
                "panels": [_panel(panel, agents) for panel in panels],
            }
            for view, panels in chart.views.items()
        ],
    }


def _panel(panel: Panel, agents: Sequence[str]) -> Spec:
    place: Place = Symlog.of(panel.values()) if panel.y_log else np.asarray
    traces: list[Any] = [_seed(run, agents, place) for run in panel.seeds]
    for line in panel.lines:
        traces += [*_band(line, agents, place), _mean(line, agents, panel.steps, place)]
    traces += [_bar(bar, agents) for bar in panel.bars]
    data = [trace.to_plotly_json() for trace in traces]
    return {"data": finite(data), "layout": finite(_layout(panel).to_plotly_json())}


def _layout(panel: Panel) -> Any:
    bars = bool(panel.bars)
    layout = go.Layout(
        height=BARS_MARGIN + BAR_HEIGHT * len(panel.bars) if bars else LINES_HEIGHT,
        margin={"l": 12 if bars else 56, "r": 12, "t": 30 if panel.title else 10, "b": 44},
        showlegend=False,
        hovermode="closest" if bars else "x unified",
        title={"text": escape(panel.title), "font": {"size": 13}, "x": 0.5, "y": 0.98, "yanchor": "top"}
        if panel.title
        else None,
        xaxis={
            "title": {"text": escape(panel.x_title), "standoff": 8},
            "range": panel.x_range,
            "zeroline": False,
        }
        | ({} if bars else {"hoverformat": ",.5~g"}),
        yaxis=_y_axis(panel),
        shapes=_reference(panel),
    )
    return layout


def _y_axis(panel: Panel) -> Spec:
    if panel.bars:
        return {"autorange": "reversed", "automargin": True, "type": "category", "fixedrange": True}
    axis: Spec = {
        "title": {"text": escape(panel.y_title), "standoff": 6},
        "range": panel.y_range,
        "zeroline": False,
    }
    if not panel.y_log:
        return axis
    place = Symlog.of(values := panel.values())
    ticks = place.ticks(values)
    return axis | {"tickvals": place(ticks).tolist(), "ticktext": [f"{tick:g}" for tick in ticks]}


def _reference(panel: Panel) -> list[Spec]:
    if panel.reference is None:
        return []
    across = {"x0": 0, "x1": 1, "xref": "paper", "y0": panel.reference, "y1": panel.reference}
    up = {"y0": 0, "y1": 1, "yref": "paper", "x0": panel.reference, "x1": panel.reference}
    return [{"type": "line", "line": {"width": 1.2, "dash": "dash"}} | (up if panel.bars else across)]


def _seed(run: SeedLine, agents: Sequence[str], place: Place) -> Any:
    return go.Scatter(
        x=_short(run.x),
        y=_short(place(run.y)),
        mode="lines" if len(run.x) > 1 else "markers",
        name=escape(run.agent),
        meta={"agent": run.agent, "part": "seed"},
        line={"color": _colour(run.agent, agents), "width": 1, "dash": "solid" if run.done else "dot"},
        marker={"color": _colour(run.agent, agents), "size": 4},
        opacity=0.35 if run.done else 0.8,
        hoverinfo="skip",
    )


def _band(line: Line, agents: Sequence[str], place: Place) -> list[Any]:
    """Return the area between both ends of the interval, over the points where it is known."""
    known = np.isfinite(line.low) & np.isfinite(line.high)
    if not known.any():
        return []
    x = _short(np.asarray(line.x)[known])
    low, high = (_short(place(np.asarray(part)[known])) for part in (line.low, line.high))
    return [
        go.Scatter(
            x=[*x, *reversed(x)],
            y=[*high, *reversed(low)],
            mode="lines",
            fill="toself",
            fillcolor=_colour(line.agent, agents),
            line={"width": 0, "color": _colour(line.agent, agents)},
            opacity=0.18,
            name=escape(line.agent),
            meta={"agent": line.agent, "part": "band"},
            hoverinfo="skip",
        )
    ]


def _mean(line: Line, agents: Sequence[str], steps: bool, place: Place) -> Any:
    return go.Scatter(
        x=_short(line.x),
        y=_short(place(line.y)),
        customdata=_intervals(line.low, line.high, line.y),
        mode="lines" if len(line.x) > 1 else "lines+markers",
        name=escape(line.agent),
        meta={"agent": line.agent, "part": "curve"},
        line={
            "color": _colour(line.agent, agents),
            "width": 2.4,
            "dash": _dash(agents, line.agent),
            "shape": "hv" if steps else "linear",
        },
        hovertemplate=f"{VALUE} [{SMALL}]" if np.isfinite(line.low).any() else VALUE,
    )


def _bar(bar: Bar, agents: Sequence[str]) -> Any:
    sure = np.isfinite(bar.low) and np.isfinite(bar.high)
    error = {
        "type": "data",
        "symmetric": False,
        "array": [bar.high - bar.value],
        "arrayminus": [bar.value - bar.low],
        "thickness": 4,
        "width": 0,
        "color": _colour(bar.agent, agents),
    }
    return go.Scatter(
        x=[bar.value],
        y=[escape(bar.name)],
        customdata=_intervals([bar.low], [bar.high]),
        mode="markers",
        name=escape(bar.name),
        meta={"agent": bar.agent, "part": "bar"},
        marker={"color": _colour(bar.agent, agents), "size": 11},
        error_x=error if sure else None,
        hovertemplate=f"%{{x:.4~g}} [{SMALL}]<extra></extra>" if sure else "%{x:.4~g}<extra></extra>",
    )


def _colour(agent: str, agents: Sequence[str]) -> str:
    """Return the agent's colour on white; the page's script exchanges it for the one on black."""
    return LIGHT[colour_index(agents, agent)]


def _dash(agents: Sequence[str], agent: str) -> str:
    lengths = dash_of(agents, agent)
    assert lengths in DASHES
    return ",".join(f"{3 * length:g}px" for length in lengths) or "solid"


def _short(values: Any) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]


def _intervals(*parts: Any) -> list[list[float]]:
    return [list(numbers) for numbers in zip(*map(_short, parts), strict=True)]


@cache
def packed_plotly() -> tuple[str, str]:
    """Return plotly.js as base64 of gzip, and the SHA-256 by which the page's policy knows it, in base64.

    The Python package brings the whole library only, 4.8 MB; packed, it takes 2 MB of the page.
    """
    script = get_plotlyjs().encode()
    packed = base64.b64encode(gzip.compress(script, 9, mtime=0)).decode("ascii")
    return packed, base64.b64encode(hashlib.sha256(script).digest()).decode("ascii")
