"""What a figure shows, in plain numbers: drawn with plotly inside the page and with matplotlib beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rl_lab.studies.page.formats import interval, slug

Numbers = Sequence[float]


@dataclass(frozen=True)
class Line:
    """A curve of an agent, with its interval."""

    agent: str
    x: Numbers
    y: Numbers
    low: Numbers
    """nan without an interval."""
    high: Numbers


@dataclass(frozen=True)
class SeedLine:
    """The thin curve of a single run."""

    agent: str
    seed: int
    x: Numbers
    y: Numbers
    done: bool


@dataclass(frozen=True)
class Bar:
    """A number with its interval, in a row of its own."""

    name: str
    agent: str
    """Whose colour it has."""
    value: float
    low: float
    """nan without an interval."""
    high: float


@dataclass(frozen=True)
class Panel:
    """One pair of axes: lines over x, or rows of numbers with intervals."""

    x_title: str
    y_title: str = ""
    title: str = ""
    lines: tuple[Line, ...] = ()
    seeds: tuple[SeedLine, ...] = ()
    bars: tuple[Bar, ...] = ()
    reference: float | None = None
    """Where a dashed line is drawn: a level of y among lines, of x among bars."""
    reference_name: str = ""
    steps: bool = False
    """The lines are step functions."""
    y_log: bool = False
    """Values span magnitudes: the axis of y is logarithmic, and linear near zero."""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None

    @property
    def agents(self) -> list[str]:
        """The agents that are shown."""
        parts: list[Line | SeedLine | Bar] = [*self.lines, *self.seeds, *self.bars]
        return list(dict.fromkeys(part.agent for part in parts))

    def values(self) -> list[float]:
        """Return all y of the lines."""
        lines: list[Line | SeedLine] = [*self.seeds, *self.lines]
        return [y for line in lines for y in line.y]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield every number that is drawn, as rows of a table."""
        named = {"panel": self.title or self.y_title}
        for line in self.lines:
            for x, y, low, high in zip(line.x, line.y, line.low, line.high, strict=True):
                yield named | {
                    "agent": line.agent,
                    "seed": "all",
                    "x": x,
                    "value": y,
                    "low": low,
                    "high": high,
                }
        for run in self.seeds:
            for x, y in zip(run.x, run.y, strict=True):
                yield named | {"agent": run.agent, "seed": run.seed, "x": x, "value": y}
        for bar in self.bars:
            yield named | {"agent": bar.name, "value": bar.value, "low": bar.low, "high": bar.high}

    def described(self) -> str:
        """Say in words what is drawn, for those who can't see it."""
        ends = [f"{b.name} {interval(b.value, b.low, b.high)}" for b in self.bars]
        ends += [
            f"{line.agent} {interval(line.y[-1], line.low[-1], line.high[-1])}"
            for line in self.lines
            if len(line.y)
        ]
        where = f"{self.title or self.y_title or self.x_title}"
        return f"{where}{' at the end' if self.lines else ''}: {'; '.join(ends)}" if ends else where


@dataclass(frozen=True)
class Chart:
    """A figure of the page: one or more views between which the reader switches, each of one or more panels."""

    kind: str
    """What it shows, the same for all environments: "returns", "profile", ..."""
    env_id: str
    """"" for all environments together."""
    title: str
    caption: str
    views: Mapping[str, tuple[Panel, ...]] = field(default_factory=dict)
    """By name; the first one is shown first."""
    legend: Literal["agents", "none"] = "agents"

    @property
    def slug(self) -> str:
        """The name of its files, and its id in the page."""
        return f"{slug(self.env_id or 'all environments')}-{self.kind}"

    @property
    def agents(self) -> list[str]:
        """The agents that are shown."""
        return list(dict.fromkeys(a for panels in self.views.values() for p in panels for a in p.agents))

    def rows(self) -> list[dict[str, Any]]:
        """Return every number that is drawn, as rows of a table."""
        return [
            {"view": view} | row for view, panels in self.views.items() for p in panels for row in p.rows()
        ]

    def described(self, view: str) -> str:
        """Say in words what a view shows."""
        return f"{self.title}. {'. '.join(panel.described() for panel in self.views[view])}."
