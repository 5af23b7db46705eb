"""Joins a CSV file of scores: columns agent (or name), env_id, seed, return, and env_steps if there are curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rl_lab.checks import shown
from rl_lab.studies.foreign.files import damaged, number_of, rows_of, text_of
from rl_lab.studies.foreign.joined import Joined, JoinedRun
from rl_lab.studies.results import RETURN

NAMES = ("agent", "name")  # of the column that names agents
KNOWN = (*NAMES, "env_id", "seed", "return", "env_steps")
Key = tuple[str, str]  # agent, env_id
Curve = dict[float | None, float]  # return by env_steps


def join_scores(name: str, path: Path, env_id: str | None) -> list[Joined]:
    """Return the scores of a CSV file, by agent and environment.

    A row is a score; rows of the same agent, environment and seed are a curve, whose last point is the score. A row
    without a seed is a run whose seed isn't known.

    Args:
        env_id: the environment of all rows, where the file doesn't name it.

    Raises:
        UsageError: a column or value is missing or can't be read, or two rows are of the same point.
    """
    curves, ignored = _curves(path, env_id)
    agents = {agent for agent, _ in curves}
    remarks = (f"columns left out: {', '.join(ignored)}",) if ignored else ()
    return [
        Joined(
            name if len(agents) == 1 else f"{name}:{agent}",
            played,
            "scores",
            "given",
            str(path.absolute()),
            tuple(_run(seed, curve) for (seed, _), curve in runs.items()),
            remarks,
        )
        for (agent, played), runs in curves.items()
    ]


def _run(seed: int | None, curve: Curve) -> JoinedRun:
    points = sorted((steps, score) for steps, score in curve.items() if steps is not None)
    if not points:
        return JoinedRun(seed, {RETURN: curve[None]})
    steps, score = points[-1]
    return JoinedRun(seed, {RETURN: score, "env_steps": steps}, {RETURN: tuple(points)})


def _curves(
    path: Path, env_id: str | None
) -> tuple[dict[Key, dict[tuple[int | None, int], Curve]], list[str]]:
    """Return the curves by agent and environment, and by seed; and the columns that aren't known."""
    curves: dict[Key, dict[tuple[int | None, int], Curve]] = {}
    ignored: list[str] = []
    for number, row in rows_of(path, text_of(path)):
        if number == 1:
            _require_columns(path, row, env_id)
            ignored = [column for column in row if column and column not in KNOWN]
        key = (
            next((row[column].strip() for column in NAMES if column in row), ""),
            _env_id(path, number, row, env_id),
        )
        seed = _seed(path, number, row.get("seed", ""))
        steps = None
        if row.get("env_steps", "").strip():
            steps = number_of(path, number, "env_steps", row["env_steps"])
            if steps < 0:
                raise damaged(path, f"row {number} has env_steps {shown(row['env_steps'])} (allowed: from 0)")
        score = number_of(path, number, "return", row.get("return"))
        # a run without a seed is a row: nothing says which others belong to it
        curve = curves.setdefault(key, {}).setdefault((seed, number if seed is None else 0), {})
        if steps in curve or (curve and None in (steps, *curve)):
            raise damaged(
                path,
                f"row {number} repeats agent, env_id and seed of another (needed: one row of a run, or env_steps that"
                " differ)",
            )
        curve[steps] = score
    if not curves:
        raise damaged(path, "it holds no score")
    return curves, ignored


def _require_columns(path: Path, row: Mapping[str, str], env_id: str | None) -> None:
    needed = ("seed", "return") if env_id is not None else ("env_id", "seed", "return")
    if missing := [column for column in needed if column not in row]:
        raise damaged(path, f"it lacks the columns {', '.join(missing)} (known: {', '.join(KNOWN)})")


def _env_id(path: Path, number: int, row: Mapping[str, str], said: str | None) -> str:
    found = row.get("env_id", "").strip()
    if found and said is not None and found != said:
        raise damaged(path, f"row {number} is of {shown(found)}, not {said}")
    if not (found or said):
        raise damaged(path, f"row {number} has no env_id")
    return found or str(said)


def _seed(path: Path, number: int, text: str) -> int | None:
    if not text.strip():
        return None
    seed = number_of(path, number, "seed", text)
    if seed != int(seed):
        raise damaged(path, f"row {number} has seed {shown(text)} (allowed: a whole number, or nothing)")
    return int(seed)
