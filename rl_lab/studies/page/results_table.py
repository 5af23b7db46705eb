"""The table of final results: which columns there are, and what stands in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rl_lab.evaluation.comparison.intervals import aggregate_interval
from rl_lab.evaluation.statistics import Estimate, iqm
from rl_lab.studies.page.formats import interval, number
from rl_lab.studies.results import EXACT, REGRET, RETURN, WORST, RunResults

Average = Callable[[Sequence[float]], Any]


@dataclass(frozen=True)
class Column:
    """A column of the table of results."""

    key: str
    """Its name in the files, and in the page."""
    title: str
    of: str
    """The entry of summary.json that it shows."""
    average: Average | None
    """Over seeds; None for the interquartile mean with its interval."""


def _least_to_most(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


COLUMNS = (
    Column("iqm", "final return, IQM [95 %]", RETURN, None),
    Column("mean", "mean", RETURN, np.mean),
    Column("range", "min … max", RETURN, _least_to_most),
    Column("worst", "worst episodes, IQM [95 %]", WORST, None),
    Column("regret", "regret, IQM [95 %]", REGRET, None),
    Column("exact", "exact return", EXACT, iqm),
    Column("env_steps", "environment steps", "env_steps", np.mean),
    Column("env_frames", "frames", "env_frames", np.mean),
    Column("gradient_steps", "gradient steps", "gradient_steps", np.mean),
    Column("train_seconds", "training, s", "train_seconds", np.mean),
    Column("speed", "steps per s", "env_steps_per_second", np.mean),
    Column("wall_seconds", "wall clock, s", "wall_seconds", np.mean),
    Column("cpu_seconds", "CPU, s", "cpu_seconds", np.mean),
    Column("compile_seconds", "compilation, s", "compile_seconds", np.mean),
    Column("memory", "peak MB", "peak_rss_mb", max),
)


@dataclass(frozen=True)
class Cell:
    """What stands in a table: a text, and the number by which its column is sorted."""

    text: str
    value: float | None = None
    estimate: Estimate | None = None


@dataclass(frozen=True)
class ResultRow:
    """The results of an agent over its finished runs."""

    agent: str
    done: int
    asked: int
    cells: dict[str, Cell]
    """By the key of the column."""


def results_of(runs_of: dict[str, Sequence[RunResults]]) -> tuple[list[Column], list[ResultRow]]:
    """Return the columns that any agent has a number for, beside the first three, and a row for each agent."""
    rows = [_row(agent, runs) for agent, runs in runs_of.items()]
    always = {column.key for column in COLUMNS[:3]}
    shown = [c for c in COLUMNS if c.key in always or any(row.cells[c.key].value is not None for row in rows)]
    return [_titled(column, runs_of) for column in shown], rows


def _titled(column: Column, runs_of: dict[str, Sequence[RunResults]]) -> Column:
    """Return a column whose title names the share of episodes that it is the mean of, if it is one for all runs."""
    levels = {run.config.get("eval_cvar_level") for runs in runs_of.values() for run in runs if run.config}
    if column.of != WORST or len(levels) != 1 or (level := levels.pop()) is None:
        return column
    return replace(column, title=f"worst {100 * level:g} % of episodes, IQM [95 %]")


def _row(agent: str, runs: Sequence[RunResults]) -> ResultRow:
    scores = _scalars(runs, RETURN)
    return ResultRow(agent, len(scores), len(runs), {c.key: _cell(c, _scalars(runs, c.of)) for c in COLUMNS})


def _cell(column: Column, values: Sequence[float]) -> Cell:
    if not values:
        return Cell("–")
    if column.average is None:
        found = aggregate_interval(values)
        return Cell(interval(*found), found.value, found)
    if column.average is _least_to_most:
        low, high = _least_to_most(values)
        return Cell(f"{number(low)} … {number(high)}", high)
    value = values[0] if len(set(values)) == 1 else float(column.average(values))  # still an int if all are
    return Cell(number(value), value)


def _scalars(runs: Sequence[RunResults], key: str) -> list[float]:
    """Return the finite numbers that the summaries of runs hold under `key`."""
    return [value for run in runs if (value := run.scalar(key)) is not None]


def cut_off(runs: Sequence[RunResults]) -> str | None:
    """Return which final evaluations didn't play all of their episodes to the end, in a sentence; None if all did."""
    parts: dict[str, list[int]] = {}
    limits: dict[str | None, None] = {}
    for run in runs:
        summary = run.summary or {}
        played, cut = summary.get("eval_returns"), summary.get("eval_capped_episodes")
        if isinstance(played, list) and isinstance(cut, int):
            of = parts.setdefault(run.agent, [0, 0])
            of[0], of[1] = of[0] + cut, of[1] + len(played)
            limits |= {summary.get("eval_limit"): None} if cut else {}
    found = [f"{agent} {cut} of {played}" for agent, (cut, played) in parts.items() if cut]
    if not found:
        return None
    after = " or ".join(str(limit) for limit in limits if limit)
    return (
        f"Final evaluation episodes that were cut off{f', after {after}' if after else ''}: {', '.join(found)}. "
        "Their returns are not those of whole games."
    )


def missing(runs: Sequence[RunResults]) -> list[dict[str, Any]]:
    """Return which seeds of which agent are missing and why; seeds with the same cause are grouped."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for run in runs:
        if run.scalar(RETURN) is None:
            steps = f" (last evaluated at {run.evaluated_steps:,} steps)" if run.evaluated_steps else ""
            seeds.setdefault((run.agent, run.cause + steps), []).append(run.seed)
    return [{"agent": agent, "cause": cause, "seeds": s} for (agent, cause), s in seeds.items()]
