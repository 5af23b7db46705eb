"""What a person sees of a run while it learns: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from itertools import accumulate
from typing import Any, Protocol, TextIO

from tqdm import tqdm

from rl_lab.runs.watched import is_notebook, is_watched

# Share of the time: if training takes more and its parts aren't known, nothing is said of the rest.
MOST_OF_IT = 0.9
LEAST_BAR = 8  # columns of the bar itself
LINE_COLUMNS = 80  # of a plain line, unless COLUMNS says otherwise
BETWEEN = ", "  # two words of a line
ROUTINE = ("", "evaluation")  # what a run does again and again, and what plain lines don't mention

COMPILING = "compiling"  # how what is told begins, if it is left out of estimates of the time left

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
        """Show what goes on from now on, in a few words; "" for training."""

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


class Figures:
    """What is known of a run, in words of a few characters each."""

    def __init__(self) -> None:
        self._return: str | None = None  # of the exploring episodes that ended last
        self._evaluated: str | None = None
        self._others: list[str] = []  # of the last row
        self._share = ""

    def row(self, row: Mapping[str, Any], spent: Spent | None) -> None:
        """Take in a row, and what the seconds so far were spent on."""
        self._return = _number(row.get("episode_return_mean")) or self._return
        named = {name: _number(row.get(name)) for name in ("epsilon", "loss", "bound")}
        self._others = [f"{name} {number}" for name, number in named.items() if number is not None]
        self._share = largest_share(spent)

    def evaluated(self, figures: Mapping[str, Any]) -> None:
        """Take in the mean return of an evaluation; without episodes there is none."""
        self._evaluated = _number(figures.get("eval_return_mean"))

    def words(self, evaluation: str) -> list[str]:
        """Return what there is to tell, what matters most first.

        Args:
            evaluation: what the mean return of the last evaluation is called.
        """
        named = {"return": self._return, evaluation: self._evaluated, "time:": self._share}
        return [f"{name} {what}" for name, what in named.items() if what] + self._others


class Bar:
    """A tqdm bar with steps/s, time left, and as many figures as there is room for in the terminal.

    These are what keeps the bar from moving, returns, what most of the time is spent on, epsilon and the loss.
    """

    BEFORE, AFTER = "{percentage:3.0f}%|", "| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"

    def __init__(self, total_steps: int, at: int = 0):
        self._bar = _kind_of_bar()(
            total=total_steps, initial=at, unit="", unit_scale=True, dynamic_ncols=True,
            bar_format=f"{self.BEFORE}{{bar}}{self.AFTER}{{postfix}}",
        )  # fmt: skip
        self._total, self._doing, self._figures = total_steps, "", Figures()

    def aim(self, total_steps: int) -> None:
        """Let the bar end at this step."""
        self._total = self._bar.total = total_steps

    def show(self, row: dict[str, Any], spent: Spent | None = None) -> None:
        """Move the bar to the row's env_steps."""
        self._figures.row(row, spent)
        if "sweep" in row:  # of a solver, which takes no steps
            self._bar.bar_format = f"sweep {row['sweep']} [{{elapsed}}]{{postfix}}"
        else:
            self._move(row["env_steps"])
        self._write()

    def evaluated(self, figures: Mapping[str, Any]) -> None:
        """Show the mean return of the evaluation beside the last row."""
        self._figures.evaluated(figures)
        self._write()

    def _write(self) -> None:
        """Show the bar, and behind it what there is room for."""
        room = self._room()
        told = [self._doing] if self._doing else []
        if room is not None:
            room -= sum(len(word) + len(BETWEEN) for word in told)
        told += fitting(self._figures.words("eval"), room)
        self._bar.set_postfix_str(BETWEEN.join(told))

    def _room(self) -> int | None:
        """Return the columns behind a bar of the least width; None where there are any number."""
        state = self._bar.format_dict
        if not state["ncols"]:
            return None
        without: dict[str, Any] = {"bar_format": self.BEFORE + self.AFTER, "postfix": None, "ncols": None}
        return state["ncols"] - LEAST_BAR - len(self._bar.format_meter(**{**state, **without}))

    def _move(self, env_steps: int) -> None:
        self.aim(max(self._total, env_steps))  # tqdm leaves the bar out beyond its end
        self._bar.update(env_steps - self._bar.n)

    def doing(self, what: str) -> None:
        """Show beside the bar what keeps it from moving."""
        if self._doing.startswith(COMPILING):
            self._bar.unpause()  # counts on from where it moved last, which is its start
        self._doing = what
        self._write()

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.write(text, file=sys.stderr)

    def finish(self, env_steps: int) -> None:
        """Move the bar to where training ended."""
        if env_steps:
            self._move(env_steps)
            self._write()

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

    def leave_out(self, seconds: float) -> None:
        """Estimate as if so many seconds had not passed."""
        self._started += seconds

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
        self._pace, self._figures = Pace(at), Figures()
        self._compiling: Pace | None = None
        self._next_sweep = 1

    def aim(self, total_steps: int) -> None:
        """Count the time left to this step."""
        self._total = total_steps

    def show(self, row: dict[str, Any], spent: Spent | None = None) -> None:
        """Print the row if another tenth of the budget is done; the last is printed by `finish`."""
        steps = row["env_steps"]
        self._figures.row(row, spent)
        if "sweep" in row:
            self._show_sweep(row["sweep"])
            return
        if steps < self._next or steps >= self._total:
            return
        self._next = steps + max(1, self._total // 10)
        left = self._pace.left(steps, self._total)
        self._print(steps, "time left unknown" if left is None else f"{left:.0f} s left")

    def _show_sweep(self, sweep: int) -> None:
        """Print the first sweep of a solver, which takes no steps, and each that is ten times the last one told."""
        if sweep >= self._next_sweep:
            self._next_sweep = 10 * sweep
            self._tell(f"sweep {sweep}")

    def _print(self, steps: int, when: str) -> None:
        """Print a line on steps."""
        self._tell(f"{steps}/{self._total} steps, {self._pace.rate(steps):.0f} steps/s, {when}")

    def _tell(self, text: str) -> None:
        """Print a line with as many figures as it has room for."""
        figures = fitting(self._figures.words("eval return"), _columns() - len(text))
        self.note(BETWEEN.join([text, *figures]))

    def evaluated(self, figures: Mapping[str, Any]) -> None:
        """Keep the mean return of the evaluation for the next line."""
        self._figures.evaluated(figures)

    def doing(self, what: str) -> None:
        """Print what goes on, unless it comes again and again: the next line tells how long that took."""
        if self._compiling is not None:
            seconds, self._compiling = self._compiling.seconds, None
            self._pace.leave_out(seconds)
            self.note(f"compiled in {seconds:.0f} s")
        if what.startswith(COMPILING):
            self._compiling = Pace()
        if what not in ROUTINE:
            self.note(what)

    def note(self, text: str) -> None:
        """Print the line."""
        print(text, file=self._out, flush=True)

    def finish(self, env_steps: int) -> None:
        """Print the last line."""
        if env_steps:
            self._print(env_steps, f"done in {self._pace.seconds:.0f} s")

    def close(self) -> None:
        """Do nothing."""


def tell_watcher(line: str) -> None:
    """Print a line on stderr if a person may be watching: in a terminal or a notebook."""
    if is_watched():
        print(line, file=sys.stderr, flush=True)


def make_progress(total_steps: int, at: int = 0) -> Progress:
    """Return a bar in a terminal or notebook, else plain lines on stderr; `at` is the step to start from."""
    return Bar(total_steps, at) if is_watched() else Lines(total_steps, at)


def _kind_of_bar() -> type[tqdm]:
    """Return tqdm's bar of widgets in a notebook that has them, otherwise its bar of text."""
    if is_notebook() and find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm as of_widgets

        return of_widgets
    return tqdm


def _columns() -> int:
    """Return how long a plain line may be."""
    told = os.environ.get("COLUMNS", "")
    return int(told) if told.isdecimal() and int(told) else LINE_COLUMNS


def fitting(words: list[str], room: int | None) -> list[str]:
    """Return the first of the words, as many as fit; `room` is in characters, None for any number."""
    taken = list(accumulate(len(word) + len(BETWEEN) for word in words))
    return [word for word, end in zip(words, taken, strict=True) if room is None or end <= room]


def _number(value: Any) -> str | None:
    return None if value is None else f"{value:.4g}"


def largest_share(spent: Spent | None) -> str:
    """Return what most of the time was spent on, in per cent; "" if training as a whole took nearly all of it."""
    total = sum(spent.values()) if spent else 0.0
    if not spent or total <= 0.0 or spent.get("training", 0.0) > MOST_OF_IT * total:
        return ""
    name = max(spent, key=lambda part: (part != "other", spent[part]))  # "other" tells nothing
    return f"{100 * spent[name] / total:.0f} % {name}"
