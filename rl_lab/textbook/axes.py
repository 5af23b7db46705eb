"""How the figures look: colours, axes without frames, and labels beside the ends of lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.axes._secondary_axes import SecondaryAxis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#2f6fdb", "#e07b12", "#2a9d5c", "#d1404a", "#8f5bbf", "#6b7280"
INK = "#2b3140"
Place = Literal["upper left", "upper right", "upper center"]
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, GREY)


def spacing() -> ConstrainedLayoutEngine:
    """Return the layout of all figures."""
    return ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)


def make_figure(
    title: str, columns: int = 1, *, width: float = 0.0, height: float = 4.2
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a title and its axes side by side; sizes are in inches."""
    figure = Figure(figsize=(width or 6.2 * columns, height), layout=spacing())
    figure.suptitle(title, fontsize=13, fontweight="bold", color=INK, x=0.01, ha="left")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        tidy(one)
    return figure, list(axes)


def tidy(axes: Axes) -> None:
    """Take away the frame above and on the right, and show a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9aa1ad")
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color="#d9dde4", linewidth=0.6, alpha=0.8)
    axes.set_axisbelow(True)


def name(axes: Axes, title: str, x: str, y: str) -> None:
    """Write what the axes show."""
    axes.set_title(title, fontsize=10.5, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=9.5, color=INK)
    axes.set_ylabel(y, fontsize=9.5, color=INK)


def book_scale(
    axes: Axes, label: str, there: Callable[[Any], Any], back: Callable[[Any], Any]
) -> SecondaryAxis:
    """Show the book's scale on the right, given how to get there from the left and back; return it."""
    scale = axes.secondary_yaxis("right", functions=(there, back))
    scale.set_ylabel(f"{label}, as in the book", fontsize=9.5)
    scale.spines["right"].set_color("#9aa1ad")
    return scale


def legend(axes: Axes, where: Place, columns: int = 1) -> None:
    """Show the names of the lines, without a frame."""
    axes.legend(frameon=False, fontsize=9, loc=where, ncols=columns)


def shades(count: int) -> Sequence[tuple[float, float, float, float]]:
    """Return so many colours from dark to light, for lines that differ in one number."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.92 * k / max(1, count - 1)) for k in range(count)]
