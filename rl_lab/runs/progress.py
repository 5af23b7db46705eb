"""What a person sees of a run while it learns: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Protocol, TextIO

from tqdm import tqdm

from rl_lab.runs.watched import is_notebook, is_watched

# Share of the time: if training takes more and its parts aren't known, nothing is said of the rest.
MOST_OF_IT = 0.9

WARNING = "warning: "  # how the line of a warning begins
Spent = Mapping[str, float]  # seconds by what they were spent on


class Progress(Protocol):
    """Shows rows of metrics as they come."""

    def aim(self, total_steps: int) -> None:
        """Take the number of steps that the run ends with, if it isn't the one asked for."""

    def show(self, row: dict[str, Any], spent: Spent | None = None) -> None:
        """Show one row, and what the seconds so far were spent on."""

    def evaluated(self, figures: Mapping[str, Any]) -> None:
        """Take in the figures of an evaluation; they are shown beside those of training."""

    def doing(self, what: str) -> None:
        """Show what goes on from now on; "" for training."""

    def note(self, text: str) -> None:
        """Show one line that isn't a row."""

    def finish(self, env_steps: int) -> None:
        """Show that training ended after so many steps; 0 if it takes none."""

    def close(self) -> None:
        """Leave the terminal as it should be."""


MakeProgress = Callable[[int, int], Progress]  # from the budget and the step to start from


class NullProgress:
    """Shows nothing; lines that aren't rows become warnings of Python's."""

    def aim(self, total_steps: int) -> None:
        """Show nothing."""

    def show(self, row: dict[str, Any], spent: Spent | None = None) -> None:
        """Show nothing."""

    def evaluated(self, figures: Mapping[str, Any]) -> None:
        """Show nothing."""

    def doing(self, what: str) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Warn of the line."""
        warnings.warn(text.removeprefix(WARNING), stacklevel=4)

    def finish(self, env_steps: int) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""


class Bar:
    """A tqdm bar with steps/s, time left, returns, epsilon, and what the time is spent on."""

    def __init__(self, total_steps: int, at: int = 0):
        self._bar = _kind_of_bar()(
            total=total_steps, initial=at, unit="step", unit_scale=True, dynamic_ncols=True
        )
        self._total = total_steps
        self._figures: dict[str, str] = {}
        self._evaluated: dict[str, str] = {}

    def aim(self, total_steps: int) -> None:
        """Let the bar end at this step."""
        self._total = self._bar.total = total_steps

    def show(self, row: dict[str, Any], spent: Spent | None = None) -> None:
        """Move the bar to the row's env_steps."""
        self._figures = _figures(row) | ({"time": shares} if (shares := _shares(spent)) else {})
        self._bar.set_postfix(_merged(self._figures, self._evaluated), refresh=False)
        self._move(row["env_steps"])

    def evaluated(self, figures: Mapping[str, Any]) -> None:
        """Show the mean return of the evaluation beside the last row."""
        self._evaluated = _evaluated(figures)
        self._bar.set_postfix(_merged(self._figures, self._evaluated))

    def _move(self, env_steps: int) -> None:
        self.aim(max(self._total, env_steps))  # tqdm leaves the bar out beyond its end
        self._bar.update(env_steps - self._bar.n)

    def doing(self, what: str) -> None:
        """Show before the bar what keeps it from moving."""
        self._bar.set_description_str(what)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.write(text, file=sys.stderr)

    def finish(self, env_steps: int) -> None:
        """Move the bar to where training ended."""
        if env_steps:
            self._move(env_steps)
            self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


class Pace:
    """Estimates the seconds left from the steps so far."""

    def __init__(self, at: int = 0):
        self._begun_at, self._started = at, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def rate(self, env_steps: int) -> float:
        """Return the steps per second."""
        return (env_steps - self._begun_at) / max(self.seconds, 1e-9)

    def left(self, env_steps: int, total_steps: int) -> float | None:
        """Return the seconds left, never below 0; None as long as they can't be told."""
        rate = self.rate(env_steps)
        return max(0, total_steps - env_steps) / rate if rate > 0 else None


class Lines:
    """One plain line for each tenth of the budget and one at the end, for logs and pipes."""

    def __init__(self, total_steps: int, at: int = 0, out: TextIO | None = None):
        self._total, self._next = total_steps, at
        self._out = out or sys.stderr
        self._pace = Pace(at)
        self._figures: dict[str, str] = {}
        self._evaluated: dict[str, str] = {}
        self._spent: Spent | None = None

    def aim(self, total_steps: int) -> None:
        """Count the time left to this step."""
        self._total = total_steps

    def show(self, row: dict[str, Any], spent: Spent | None = None) -> None:
        """Print the row if another tenth of the budget is done; the last is printed by `finish`."""
        steps = row["env_steps"]
        self._figures, self._spent = _figures(row), spent
        if steps < self._next or steps >= self._total:
            return
        self._next = steps + max(1, self._total // 10)
        left = self._pace.left(steps, self._total)
        self._print(steps, "time left unknown" if left is None else f"{left:.0f} s left")

    def _print(self, steps: int, when: str) -> None:
        text = f"{steps}/{self._total} steps, {self._pace.rate(steps):.0f} steps/s, {when}"
        if shares := _shares(self._spent):
            text = f"{text}, time: {shares}"
        figures = ", ".join(f"{k} {v}" for k, v in _merged(self._figures, self._evaluated).items())
        self.note(f"{text}, {figures}" if figures else text)

    def evaluated(self, figures: Mapping[str, Any]) -> None:
        """Keep the mean return of the evaluation for the next line."""
        self._evaluated = _evaluated(figures)

    def doing(self, what: str) -> None:
        """Do nothing: the next line tells how long it took."""

    def note(self, text: str) -> None:
        """Print the line."""
        print(text, file=self._out, flush=True)

    def finish(self, env_steps: int) -> None:
        """Print the last line."""
        if env_steps:
            self._print(env_steps, f"done in {self._pace.seconds:.0f} s")

    def close(self) -> None:
        """Do nothing."""


def make_progress(total_steps: int, at: int = 0) -> Progress:
    """Return a bar in a terminal or notebook, else plain lines on stderr; `at` is the step to start from."""
    return Bar(total_steps, at) if is_watched() else Lines(total_steps, at)


def _kind_of_bar() -> type[tqdm]:
    """Return tqdm's bar of widgets in a notebook that has them, otherwise its bar of text."""
    if is_notebook() and find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm as of_widgets

        return of_widgets
    return tqdm


def _evaluated(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the mean return of an evaluation as it is shown; nothing without episodes."""
    mean = figures.get("eval_return_mean")
    return {} if mean is None else {"eval return": f"{mean:.4g}"}


def _merged(figures: dict[str, str], evaluated: dict[str, str]) -> dict[str, str]:
    """Return all figures, the evaluation's return beside that of exploring episodes."""
    exploring = {k: v for k, v in figures.items() if k == "return"}
    return exploring | evaluated | figures


def _figures(row: dict[str, Any]) -> dict[str, str]:
    names = {"episode_return_mean": "return", "epsilon": "epsilon", "loss": "loss", "bound": "bound"}
    return {short: f"{row[name]:.4g}" for name, short in names.items() if row.get(name) is not None}


def _shares(spent: Spent | None) -> str:
    """Return what time was spent on, in per cent; "" if training as a whole took nearly all of it."""
    total = sum(spent.values()) if spent else 0.0
    if not spent or total <= 0.0 or spent.get("training", 0.0) > MOST_OF_IT * total:
        return ""
    parts = {name: round(100 * seconds / total) for name, seconds in spent.items()}
    return ", ".join(f"{percent} % {name}" for name, percent in parts.items() if percent)
