"""What the maps of a run are drawn from, kept beside its pictures so that several runs can be drawn with one scale."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from matplotlib.figure import Figure

from rl_lab.environments.layout import Layout
from rl_lab.evaluation.grid_maps import GridMap, Kinds, limits_of, limits_of_errors
from rl_lab.storage.files import write_atomically
from rl_lab.types import Array

FILE = "maps.npz"
VALUES, REGRETS, VALUE_ERRORS = "values", "regrets", "value_errors"
TITLES = {
    VALUES: "exact value of the policy",
    REGRETS: "regret: V* - V of the policy",
    VALUE_ERRORS: "largest |Q - Q*| over the actions",
}
COLOURS = {VALUES: "viridis", REGRETS: "Blues", VALUE_ERRORS: "Blues"}  # among blues, red frames stand out
KINDS = ("live", "entered", "start", "goal", "pit", "wall")

Limits = tuple[float, float]


@dataclass(frozen=True, eq=False)
class RunMaps:
    """A policy on a finite MDP, state by state."""

    shown: Mapping[str, Array]
    """What is drawn, by name, float64 [S] each; value errors are missing for a policy without action values."""
    probabilities: Array
    """The policy, [S, A]."""
    losing: Array
    """In which states the policy may take an action that isn't optimal, bool [S]."""
    kinds: Kinds
    layout: Layout | None = None
    """How the states lie on a grid; None draws lines over the states' numbers."""
    first_action: int = 0
    """The number of the environment's first action."""

    def limits(self) -> dict[str, Limits]:
        """Return the limits of the colours that suit these maps, by name."""
        return shared_limits([self])

    def visible(self, name: str) -> Array:
        """Return the values of one of the maps where a reader sees them, float64 [S or fewer]."""
        return self.shown[name][self.kinds.live if self.layout is None else self.kinds.acting]

    def legend_rows(self, name: str) -> int:
        """Return how many rows the legend of one of the maps has; 0 where states don't lie on a grid."""
        return 0 if self.layout is None else self._map(self.layout, name, self.limits()[name]).legend_rows

    def draw(self, name: str, limits: Limits | None = None, legend_rows: int = 0) -> Figure:
        """Draw one of the maps; losing states are framed in red.

        Args:
            limits: of the colours, or of the axis where states don't lie on a grid; by default those that suit it.
            legend_rows: for how many rows of the legend there is to be room at least.
        """
        limits = limits or self.limits()[name]
        if self.layout is None:
            return self._lines(self._values(name), name, limits)
        return self._map(self.layout, name, limits).finish(legend_rows)

    def _values(self, name: str) -> Array:
        return np.where(self.kinds.live, self.shown[name], np.nan)

    def _map(self, layout: Layout, name: str, limits: Limits) -> GridMap:
        drawn = GridMap(self._values(name), layout, self.kinds, TITLES[name], COLOURS[name], limits)
        if name == VALUES:
            drawn.draw_actions(self.probabilities, self.first_action)
        drawn.frame_losing(self.losing)
        return drawn

    def _lines(self, values: Array, name: str, limits: Limits) -> Figure:
        """Draw values [S], and the most likely actions beneath those of the policy, over the states' numbers."""
        acting = name == VALUES
        figure = Figure(figsize=(6, 5 if acting else 3.2), layout="constrained")
        panels = figure.subplots(2 if acting else 1, 1, sharex=True, squeeze=False)[:, 0]
        states = np.arange(len(values))
        panels[0].plot(states, values, ".-", linewidth=0.8, markersize=3)
        panels[0].plot(states[self.losing], values[self.losing], "s", color="#e03030", markersize=4)
        panels[0].set(ylabel=TITLES[name].replace("exact ", ""))
        low, high = limits
        margin = 0.05 * (high - low)
        panels[0].set_ylim(low - margin if acting else 0.0, high + margin)
        if acting:
            action = self.probabilities.argmax(axis=1) + self.first_action
            panels[1].step(states, np.where(self.kinds.live, action, np.nan), where="mid", linewidth=0.8)
            panels[1].set(ylabel="action")
        panels[-1].set(xlabel="state")
        return figure

    def write(self, folder: Path) -> None:
        """Write all of it into a folder.

        Raises:
            NotWritten: the file system refused.
        """
        arrays = {f"shown_{name}": values for name, values in self.shown.items()}
        arrays |= {f"kind_{name}": getattr(self.kinds, name) for name in KINDS}
        told = {} if self.layout is None else vars(self.layout)
        arrays |= {f"layout_{name}": value for name, value in told.items() if value is not None}
        arrays |= {"probabilities": self.probabilities, "losing": self.losing}
        arrays["first_action"] = np.array(self.first_action)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # numpy takes names for options
        write_atomically(folder / FILE, buffer.getvalue())


def read_maps(folder: Path) -> RunMaps | None:
    """Return what a run's maps were drawn from; None if it isn't there, as in runs of older versions, or damaged."""
    try:
        with np.load(folder / FILE, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        layout = _named(arrays, "layout_")
        return RunMaps(
            _named(arrays, "shown_"),
            arrays["probabilities"],
            arrays["losing"],
            Kinds(**_named(arrays, "kind_")),
            Layout(**layout) if layout else None,
            int(arrays["first_action"]),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        return None


def _named(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def shared_limits(maps: Iterable[RunMaps]) -> dict[str, Limits]:
    """Return the limits of the colours that suit all maps of a name; those of regrets and errors begin at 0."""
    values: dict[str, list[Array]] = {}
    for drawn in maps:
        for name in drawn.shown:
            values.setdefault(name, []).append(drawn.visible(name))
    return {
        name: (limits_of if name == VALUES else limits_of_errors)(np.concatenate(found))
        for name, found in values.items()
    }
