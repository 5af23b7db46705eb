"""Draws the learning curves of one run: returns of evaluations and of training episodes over environment steps."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from rl_lab.runs.rows import is_number, read_rows
from rl_lab.types import Array

TRAINING, EVALUATION = "episode_return_mean", "eval_return_mean"
LARGEST = 1e100
NAMES = {TRAINING: "training episodes, mean of each row", EVALUATION: "evaluation, greedy"}


def draw_curves(run_dir: Path) -> bytes | None:
    """Return the learning curves of a run directory as a PNG; None if no row holds a return."""
    rows = read_rows(run_dir)
    curves = {key: curve for key in NAMES if len((curve := points(rows, key))[0])}
    if not curves:
        return None
    figure = Figure(figsize=(6.0, 3.2), dpi=90, layout="constrained")
    axes = figure.add_subplot()
    for key, (steps, returns) in curves.items():
        look: dict[str, Any] = {"alpha": 0.6} if key == TRAINING else {"marker": "o", "markersize": 4}
        axes.plot(steps, returns, label=NAMES[key], linewidth=1.5, **look)
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def points(rows: Iterable[Mapping[str, Any]], key: str) -> tuple[Array, Array]:
    """Return env_steps [P] and values [P] of the rows that hold a number under `key`, in their order.

    Numbers beyond LARGEST are left out: the axis that they would need overflows.
    """
    found = [
        (row["env_steps"], row[key])
        for row in rows
        if _is_drawable(row["env_steps"]) and _is_drawable(row.get(key))
    ]
    steps, values = np.array(found, dtype=float).reshape(-1, 2).T
    return steps, values


def _is_drawable(value: Any) -> bool:
    return is_number(value) and abs(value) <= LARGEST
