"""The table of a study as plain numbers, and as what a notebook shows of it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Protocol

import numpy as np

from rl_lab.evaluation.comparison.intervals import aggregate_interval
from rl_lab.evaluation.statistics import iqm
from rl_lab.studies.foreign.beside import joined_beside
from rl_lab.studies.foreign.notes import notes_on
from rl_lab.studies.results import EXACT, REGRET, RETURN, StudyResults

Row = dict[str, Any]
CLOCKS = ("train_seconds", "env_steps_per_second", "compile_seconds", "wall_seconds", "cpu_seconds")


class Scored(Protocol):
    """A run with figures, whether the study carried it out or not."""

    def scalar(self, key: str) -> float | None:
        """Return a figure; None if it isn't known."""


def table_of(study: StudyResults) -> list[Row]:
    """Return a row for each environment and agent, over the finished runs; figures that no run has are None.

    `total_steps` is the budget that was asked for and `env_steps` what was spent: agents round it up to whole rollouts
    or periods of their updates, SB3's and the lab's by one rule.

    `return_iqm` is the interquartile mean over seeds of the runs' mean evaluation returns, `return_low` and
    `return_high` its 95 % bootstrap interval, widened for few runs (nan of a single run). `regret` and `exact_return`
    are interquartile means, where the model is known.

    The clocks are means over the runs: `train_seconds` (acting, stepping and learning, compiling included),
    `compile_seconds` of them, `wall_seconds` (everything since the run began), `cpu_seconds` (of the process and those
    that it started). `peak_rss_mb` is the largest of all runs, in MiB.

    Rows of joined runs follow those of the study on the same environment: `source` says where they are from (None for
    the study's own), `notes` what is known of them and how they differ, separated by "; ".
    """
    rows = []
    for env_id in study.env_ids:
        for agent in study.agents:
            own = {"source": None, "notes": ""}
            rows.append({"env_id": env_id, "agent": agent, **_figures(study.runs[env_id, agent]), **own})
        for one in joined_beside(study, env_id):
            known = {"source": one.source, "notes": "; ".join(notes_on(one, study, env_id))}
            rows.append({"env_id": env_id, "agent": one.agent, **_figures(one.runs), **known})
    return rows


def _figures(runs: Sequence[Scored]) -> Row:
    returns = _scalars(runs, RETURN)
    found = aggregate_interval(returns) if returns else None
    return {
        "finished": len(returns),
        "seeds": len(runs),
        "return_iqm": None if found is None else found.value,
        "return_low": None if found is None else found.low,
        "return_high": None if found is None else found.high,
        "return_mean": _over(np.mean, returns),
        "regret": _over(iqm, _scalars(runs, REGRET)),
        "exact_return": _over(iqm, _scalars(runs, EXACT)),
        "total_steps": _over(np.mean, _scalars(runs, "total_steps")),
        **{name: _over(np.mean, _scalars(runs, name)) for name in ("env_steps", "gradient_steps", *CLOCKS)},
        "peak_rss_mb": max(_scalars(runs, "peak_rss_mb"), default=None),
    }


def _scalars(runs: Sequence[Scored], key: str) -> list[float]:
    return [value for run in runs if (value := run.scalar(key)) is not None]


def _over(average: Any, values: Sequence[float]) -> float | None:
    return float(average(values)) if values else None


COLUMNS = {
    "env_id": "environment", "agent": "agent", "return_iqm": "return (IQM)", "interval": "95 % interval",
    "regret": "regret", "finished": "finished runs", "total_steps": "budget", "env_steps": "steps",
    "train_seconds": "training, s", "compile_seconds": "of it compiling, s", "wall_seconds": "in all, s",
    "cpu_seconds": "CPU, s", "peak_rss_mb": "memory, MiB",
}  # fmt: skip


def html_of(rows: Sequence[Row]) -> str:
    """Return the rows as an HTML table; there is a column of notes if a row has some."""
    columns = COLUMNS | ({"notes": "notes"} if any(row["notes"] for row in rows) else {})
    head = "".join(f"<th>{title}</th>" for title in columns.values())
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_cell(row, c))}</td>' for c in columns)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(row: Row, column: str) -> str:
    if column == "interval":
        low, high = row["return_low"], row["return_high"]
        return "–" if low is None else f"{low:.4g} to {high:.4g}"
    if column == "finished":
        return f"{row['finished']} of {row['seeds']}"
    value = row[column]
    return "–" if value is None else value if isinstance(value, str) else f"{value:.6g}"
