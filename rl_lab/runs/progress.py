"""What a person sees of a run while it learns: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Protocol, TextIO

from tqdm import tqdm

from rl_lab.runs.watched import is_notebook, is_watched

MOST_OF_IT = 0.9  # of the time: if training takes more, nothing is said of the rest


class Progress(Protocol):
    """Shows rows of metrics as they come."""

    def show(self, row: dict[str, Any], spent: Mapping[str, float] | None = None) -> None:
        """Show one row, and what the seconds so far were spent on."""

    def doing(self, what: str) -> None:
        """Show what goes on from now on; "" for training."""

    def note(self, text: str) -> None:
        """Show one line that isn't a row."""

    def close(self) -> None:
        """Leave the terminal as it should be."""


class NullProgress:
    """Shows nothing."""

    def show(self, row: dict[str, Any], spent: Mapping[str, float] | None = None) -> None:
        """Show nothing."""

    def doing(self, what: str) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""


class Bar:
    """A tqdm bar with steps/s, time left, return, epsilon, and what the time is spent on."""

    def __init__(self, total_steps: int, at: int = 0):
        self._bar = _kind_of_bar()(
            total=total_steps, initial=at, unit="step", unit_scale=True, dynamic_ncols=True
        )

    def show(self, row: dict[str, Any], spent: Mapping[str, float] | None = None) -> None:
        """Move the bar to the row's env_steps."""
        figures = _figures(row) | ({"time": shares} if (shares := _shares(spent)) else {})
        self._bar.set_postfix(figures, refresh=False)
        self._bar.update(row["env_steps"] - self._bar.n)

    def doing(self, what: str) -> None:
        """Show before the bar what keeps it from moving."""
        self._bar.set_description_str(what)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


class Lines:
    """One plain line for each tenth of the budget, for logs and pipes."""

    def __init__(self, total_steps: int, at: int = 0, out: TextIO | None = None):
        self._total, self._begun_at, self._next = total_steps, at, at
        self._out = out or sys.stderr
        self._started = time.monotonic()

    def show(self, row: dict[str, Any], spent: Mapping[str, float] | None = None) -> None:
        """Print the row if another tenth of the budget is done."""
        steps = row["env_steps"]
        if steps < self._next:
            return
        self._next = steps + max(1, self._total // 10)
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = (steps - self._begun_at) / seconds
        left = f"{max(0, self._total - steps) / rate:.0f} s left" if rate > 0 else "time left unknown"
        figures = ", ".join(f"{k} {v}" for k, v in _figures(row).items())
        text = f"{steps}/{self._total} steps, {rate:.0f} steps/s, {left}"
        if shares := _shares(spent):
            text = f"{text}, time: {shares}"
        self.note(f"{text}, {figures}" if figures else text)

    def doing(self, what: str) -> None:
        """Do nothing: the next line tells how long it took."""

    def note(self, text: str) -> None:
        """Print the line."""
        print(text, file=self._out, flush=True)

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


def _figures(row: dict[str, Any]) -> dict[str, str]:
    names = {"episode_return_mean": "return", "epsilon": "epsilon", "loss": "loss", "bound": "bound"}
    return {short: f"{row[name]:.4g}" for name, short in names.items() if row.get(name) is not None}


def _shares(spent: Mapping[str, float] | None) -> str:
    """Return what time was spent on, in per cent; "" if training took nearly all of it."""
    total = sum(spent.values()) if spent else 0.0
    if not spent or total <= 0.0 or spent["training"] > MOST_OF_IT * total:
        return ""
    parts = {name: round(100 * seconds / total) for name, seconds in spent.items()}
    return ", ".join(f"{percent} % {name}" for name, percent in parts.items() if percent)
