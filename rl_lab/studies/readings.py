"""The runs of a study are measured and read images alike, also where some of them began with an older version."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rl_lab.runs.description import CONFIG, RunDescription, read_description
from rl_lab.runs.migrations import READING
from rl_lab.studies.running import Task, learner_of
from rl_lab.training.readings import differing_reading
from rl_lab.training.setup import configure, problem_of
from rl_lab.types import UsageError

LIMIT = "eval_total_steps"
PERIODS = ("eval_every_steps", "log_every_steps", "checkpoint_every_steps")  # by default shares of the budget
WIDTH = "one_hot_most"  # how an agent's network takes discrete observations


def as_begun(tasks: list[Task], tell: Callable[[str], None]) -> list[Task]:
    """Return the tasks, where those that haven't begun take over what older versions did in those that have.

    Older versions evaluated without a limit in all, and never embedded discrete observations. Further runs of the
    same environment get the same limit, and those of the same agent the same encoding, unless the study sets them: its
    table compares like with like. So do those of the same agent get the periods of runs that were extended, which stay
    those of the former budget. A line says so.
    """
    limits: dict[str, int] = {}
    widths: dict[tuple[str, str], int] = {}
    periods: dict[tuple[str, str], dict[str, int]] = {}
    for task in tasks:
        if (there := _readable(task.folder)) is not None:
            if task.fields.get(LIMIT) is None and (limit := there.config.eval_total_steps) is not None:
                limits.setdefault(task.fields["env_id"], limit)
            if WIDTH not in task.fields and WIDTH in there.fields:
                widths.setdefault(_pair(task), there.fields[WIDTH])
            if there.extended_from or there.config.total_steps != task.total_steps:
                periods.setdefault(_pair(task), {name: there.config.period(name) for name in PERIODS})
    found: list[Task] = []
    lines: dict[str, None] = {}  # each once
    for task in tasks:
        kept = {} if (task.folder / CONFIG).exists() else _kept(task, limits, widths, periods)
        found.append(replace(task, fields=task.fields | kept))
        if kept:
            values = " and ".join(f"{name} {value}" for name, value in kept.items())
            lines[
                f"{task.fields['env_id']} {task.agent}: {values} in further runs, as in those that have begun"
            ] = None
    for line in lines:
        tell(line)
    return found


def _kept(
    task: Task,
    limits: dict[str, int],
    widths: dict[tuple[str, str], int],
    periods: dict[tuple[str, str], dict[str, int]],
) -> dict[str, int]:
    """Return the fields that a run takes over."""
    kept = {name: n for name, n in periods.get(_pair(task), {}).items() if task.fields.get(name) is None}
    if task.fields.get(LIMIT) is None and (limit := limits.get(task.fields["env_id"])) is not None:
        kept[LIMIT] = limit
    if WIDTH not in task.fields and (width := widths.get(_pair(task))) is not None:
        usual = getattr(configure(task.learner, task.fields)[0].config, WIDTH, None)
        kept |= {} if width == usual else {WIDTH: width}
    return kept


def _pair(task: Task) -> tuple[str, str]:
    return task.agent, task.fields["env_id"]


def _readable(folder: Path) -> RunDescription | None:
    """Return the description of a run that has begun; None if it hasn't, or is damaged, which fails that run alone."""
    try:
        return read_description(folder) if (folder / CONFIG).exists() else None
    except UsageError:
        return None


def require_same_readings(runs: Iterable[tuple[str, dict[str, Any], Path]]) -> None:
    """Check that runs which haven't begun would read images as those of the same agent and environment that have.

    Args:
        runs: the agent, its fields and those of the run, and the run directory of each.

    Raises:
        UsageError: they wouldn't, or a config.json is damaged.
        FormatTooNew: a newer version wrote one.
    """
    begun: dict[tuple[str, str], Path] = {}
    new: dict[tuple[str, str], dict[str, Any]] = {}
    for agent, fields, folder in runs:
        pair = (agent, fields["env_id"])
        if (folder / CONFIG).exists():
            begun.setdefault(pair, folder)
        else:
            new.setdefault(pair, fields)
    for pair in begun.keys() & new.keys():
        _require_same_reading(pair[0], new[pair], begun[pair])


def _require_same_reading(agent: str, fields: dict[str, Any], begun: Path) -> None:
    """Check that a run with these fields would read images as one that has begun.

    Raises:
        UsageError: it wouldn't.
    """
    there = read_description(begun).fields
    learner, config = configure(learner_of(agent), fields)
    if all(there.get(name) == getattr(learner.config, name, None) for name in READING):
        return  # without making the environment
    space = problem_of(config, learner).spec.observation_space
    if (how := differing_reading(learner.config, space, there)) is not None:
        raise UsageError(
            f"{fields['env_id']} {agent}: {str(begun)!r} began with {how}, as older versions read images; runs of the"
            " same study would read them otherwise (allowed: a new folder)"
        )
