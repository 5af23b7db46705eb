"""What a person sees of a study while it goes on: a table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

from rl_lab.runs.progress import WARNING
from rl_lab.runs.watchdog import STALLED
from rl_lab.runs.watched import is_notebook, is_watched

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LINE_SECONDS = 60.0  # between lines on the runs under way
MOST_IN_A_LINE = 4  # runs
ORDER = ("evaluating", "running", "failed", "stopped", "waiting", "done")  # states, the first are shown first
SPARE_ROWS = 6  # of the terminal, for the table's head and foot and what stands around it


@dataclass
class RunState:
    """What is known of a run under way; the attributes have the names under which `Reports` sends them."""

    name: str
    state: str = "waiting"
    env_steps: int = 0
    total_steps: int | None = None
    return_: float | None = None  # mean of the training episodes that ended last
    eval_return: float | None = None
    seconds_left: float | None = None

    def take(self, values: Mapping[str, Any]) -> None:
        """Take a report in."""
        for name, value in values.items():
            attribute = "return_" if name == "return" else name
            if attribute != "name" and hasattr(self, attribute):
                setattr(self, attribute, value)

    @property
    def percent(self) -> int:
        """How much of the budget is spent."""
        return 100 * self.env_steps // self.total_steps if self.total_steps else 0

    @property
    def active(self) -> bool:
        """Whether it is under way."""
        return self.state not in ("waiting", "done", "failed", "stopped")


class Board(Protocol):
    """Shows the states of a study's runs, and lines; a context manager, whose end leaves the terminal as it was."""

    def begin(self, states: Mapping[str, str]) -> None:
        """Take the runs by name, with their states."""

    def report(self, name: str, values: Mapping[str, Any]) -> None:
        """Take in what a run tells; called from several threads."""

    def tell(self, line: str) -> None:
        """Show a line."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class NoBoard:
    """Shows nothing but stalls, on stderr; a line that is a warning becomes one of Python's."""

    def begin(self, states: Mapping[str, str]) -> None:
        """Show nothing."""

    def report(self, name: str, values: Mapping[str, Any]) -> None:
        """Print the line of a stall: in a thread of its own, where a warning that is an error would be lost."""
        if (line := stall_line(name, values)) is not None:
            print(line, file=sys.stderr, flush=True)

    def tell(self, line: str) -> None:
        """Warn, if the line is a warning."""
        if line.startswith(WARNING):
            warnings.warn(line.removeprefix(WARNING), stacklevel=4)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def stall_line(name: str, values: Mapping[str, Any]) -> str | None:
    """Return the line that a stall deserves, by the run's name; None for any other report."""
    return f"{name}: {values['note']}" if str(values.get("note", "")).startswith(STALLED) else None


class States:
    """Keeps the states of the runs, for several threads."""

    def __init__(self) -> None:
        self._runs: dict[str, RunState] = {}
        self._lock = threading.Lock()

    def begin(self, states: Mapping[str, str]) -> None:
        """Take the runs by name, with their states."""
        with self._lock:
            self._runs = {name: RunState(name, state) for name, state in states.items()}

    def take(self, name: str, values: Mapping[str, Any]) -> str | None:
        """Take a report in; return a line that should be shown at once, or None."""
        with self._lock:
            self._runs[name].take(values)
        return stall_line(name, values)

    def ordered(self) -> list[RunState]:
        """Return copies of all states, runs under way first."""
        with self._lock:
            runs = [replace(run) for run in self._runs.values()]
        return sorted(runs, key=lambda run: ORDER.index(run.state) if run.state in ORDER else 0)


class PlainBoard:
    """Prints a line on the runs under way now and then, for logs and pipes."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._states, self._lock = States(), threading.Lock()
        self._out = out or sys.stderr
        self._next = time.monotonic() + LINE_SECONDS

    def begin(self, states: Mapping[str, str]) -> None:
        """Take the runs by name, with their states."""
        self._states.begin(states)

    def report(self, name: str, values: Mapping[str, Any]) -> None:
        """Take in what a run tells; print a line if the last one is some time ago."""
        if (line := self._states.take(name, values)) is not None:
            self.tell(line)
        with self._lock:
            if (now := time.monotonic()) < self._next:
                return
            self._next = now + LINE_SECONDS
        print(line_on(self._states.ordered()), file=self._out, flush=True)

    def tell(self, line: str) -> None:
        """Print a line to stdout."""
        print(line, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class LiveBoard:
    """Refreshes a table in place on a terminal; lines appear above it."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._states, self._console = States(), console
        self._live = Live(
            get_renderable=self._table,
            console=console,
            refresh_per_second=4,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def _table(self) -> Table:
        return live_table(self._states.ordered(), max(1, self._console.height - SPARE_ROWS))

    def begin(self, states: Mapping[str, str]) -> None:
        """Take the runs by name, with their states, and show the table: not earlier, since a study may be refused."""
        self._states.begin(states)
        self._live.start()
        self._console.show_cursor()  # rich hides it, and a second signal ends the process at once

    def report(self, name: str, values: Mapping[str, Any]) -> None:
        """Take in what a run tells."""
        if (line := self._states.take(name, values)) is not None:
            self.tell(line)

    def tell(self, line: str) -> None:
        """Print a line: above the table, or where the output goes if that isn't the terminal."""
        if sys.stdout.isatty():
            self._console.print(line, markup=False, highlight=False)
        else:
            print(line, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()


def make_board() -> Board:
    """Return a table in a terminal, and in a notebook that has the widgets for it; else plain lines."""
    if not is_watched() or (is_notebook() and find_spec("ipywidgets") is None):
        return PlainBoard()
    from rich.console import Console

    return LiveBoard(Console(stderr=True))


def line_on(runs: list[RunState]) -> str:
    """Return one line on how many runs are in which state, and on those under way."""
    active = [run for run in runs if run.active]
    parts = []
    for run in active[:MOST_IN_A_LINE]:
        figures = {
            "return": _number(run.return_),
            "eval return": _number(run.eval_return),
            "left": _seconds(run.seconds_left),
        }
        told = ", ".join(f"{name} {value}" for name, value in figures.items() if value)
        parts.append(f"{run.name} {run.state} {run.percent} %" + (f" ({told})" if told else ""))
    more = [f"{len(active) - MOST_IN_A_LINE} more"] if len(active) > MOST_IN_A_LINE else []
    return "; ".join([_counts(runs), *parts, *more])


def live_table(runs: list[RunState], most_rows: int) -> Table:
    """Return the table of the first `most_rows` runs; its foot counts all."""
    from rich.table import Table

    table = Table(caption=_counts(runs), caption_justify="left")
    table.add_column("run", overflow="fold")
    table.add_column("state")
    for heading in ("steps", "return", "eval return", "time left"):
        table.add_column(heading, justify="right")
    for run in runs[:most_rows]:
        steps = f"{run.env_steps}/{run.total_steps}" if run.total_steps else ""
        left = _seconds(run.seconds_left)
        table.add_row(run.name, run.state, steps, _number(run.return_), _number(run.eval_return), left)
    return table


def _counts(runs: list[RunState]) -> str:
    """Return how many runs are in which state."""
    known = {
        state: sum(run.state == state for run in runs) for state in ("done", "failed", "stopped", "waiting")
    }
    known = {"done": known.pop("done"), "under way": sum(run.active for run in runs)} | known
    told = ", ".join(f"{count} {state}" for state, count in known.items() if count)
    return f"{len(runs)} runs: {told}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _seconds(value: float | None) -> str:
    """Return seconds as a person reads them: 45 s, 3 min, 2.5 h."""
    if value is None:
        return ""
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"
