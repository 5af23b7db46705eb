"""The figures of a group of scores: aggregates, performance profiles, probabilities of improvement, efficiency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rl_lab.evaluation.comparison.efficiency import efficiency_curve
from rl_lab.evaluation.comparison.intervals import Band
from rl_lab.evaluation.comparison.normalisation import Scale
from rl_lab.evaluation.statistics import Estimate
from rl_lab.studies.page.curves import BAND_RESAMPLES, SECONDS, STEPS, along, stretched
from rl_lab.studies.page.panels import Bar, Chart, Line, Panel
from rl_lab.studies.page.scores import Group
from rl_lab.studies.page.statistics import Pair, goal_of
from rl_lab.studies.results import RETURN, StudyResults
from rl_lab.types import Array

NAMES = {"iqm": "IQM", "median": "Median", "mean": "Mean", "optimality_gap": "Optimality gap"}
EFFICIENCY_POINTS = 50
SHARE = "share of the budget"


def aggregate_chart(group: Group, aggregates: Mapping[str, Mapping[str, Estimate]]) -> Chart | None:
    """Return the aggregates of each agent with their intervals, a panel for each."""
    if not group.agents:
        return None
    score = "return" if group.env_id else "normalised return"
    panels = tuple(
        Panel(
            x_title="distance, less is better" if name == "optimality_gap" else score,
            title=NAMES[name],
            bars=tuple(Bar(agent, agent, *estimate) for agent, estimate in of.items()),
        )
        for name, of in aggregates.items()
    )
    goal = goal_of(group)
    gap = ""
    if goal is not None and group.env_id and group.scale is not None:
        gap = f" Optimality gap: the mean distance to {goal:.4g} ({group.scale.source})"
    elif goal is not None:
        gap = " Optimality gap: the mean distance to 1"
    gap += "; what lies above makes up for nothing." if gap else ""
    median = "" if group.env_id else " Median: over the environments, of each one's mean."
    caption = (
        f"IQM: the mean without the lowest and the highest quarter of the scores.{median}{gap} Bars: 95 % bootstrap "
        "intervals, stratified by environment and widened for few seeds."
    )
    return Chart("aggregates", group.env_id, f"Aggregates on {group.name}", caption, {"": panels})


def profile_chart(group: Group, thresholds: Array, profiles: Mapping[str, Band]) -> Chart | None:
    """Return the fraction of runs above each score."""
    if not profiles:
        return None
    lines = tuple(
        Line(agent, thresholds.tolist(), *(part.tolist() for part in band))
        for agent, band in profiles.items()
    )
    score = "final return" if group.env_id else "normalised final return"
    panel = Panel(f"{score} τ", "fraction of runs above τ", lines=lines, steps=True, y_range=(-0.03, 1.03))
    caption = (
        "The fraction of runs whose final return is above τ: where one profile lies above another everywhere, its "
        "agent is better whatever counts as good. Bands: pointwise 95 % intervals."
    )
    return Chart("profile", group.env_id, f"Performance profile on {group.name}", caption, {"": (panel,)})


def improvement_chart(group: Group, pairs: Sequence[Pair]) -> Chart | None:
    """Return the probability of improvement of each pair."""
    if not pairs:
        return None
    bars = tuple(Bar(f"{pair.x} over {pair.y}", pair.x, *pair.improvement) for pair in pairs)
    panel = Panel(
        "probability", bars=bars, reference=0.5, reference_name="no difference", x_range=(-0.02, 1.02)
    )
    caption = (
        "How probably a seed of the first agent ends with a higher score than a seed of the second; a tie counts one "
        "half. Where the 95 % interval holds one half, these seeds do not tell the two apart."
    )
    title = f"Probability of improvement on {group.name}"
    return Chart("improvement", group.env_id, title, caption, {"": (panel,)}, legend="none")


def efficiency_chart(study: StudyResults, group: Group, scales: Mapping[str, Scale | None]) -> Chart | None:
    """Return the normalised return over steps and seconds, over all environments together; None without any.

    Where budgets differ, it is also shown over their shares: no number of steps is the same part of each.
    """
    axes = (STEPS, SECONDS, SHARE) if len(study.budgets()) > 1 else (STEPS, SECONDS)
    views = {axis: panel for axis in axes if (panel := _efficiency(study, group, scales, axis)) is not None}
    if not views:
        return None
    caption = (
        "Interquartile mean of the normalised evaluation returns of all runs on all environments, and its pointwise "
        "95 % bootstrap interval, as far as all runs of an agent go. Agents without the same number of finished runs "
        "on each environment are left out."
    )
    title = f"Sample efficiency on {group.name}"
    return Chart("efficiency", "", title, caption, {axis: (panel,) for axis, panel in views.items()})


def _efficiency(
    study: StudyResults, group: Group, scales: Mapping[str, Scale | None], axis: str
) -> Panel | None:
    of_agents = {agent: _tasks(study, group, scales, agent, axis) for agent in study.agents}
    known = {
        agent: tasks for agent, tasks in of_agents.items() if tasks[0] and len(set(map(len, tasks))) == 1
    }
    end = max((float(run.x[-1]) for tasks in known.values() for task in tasks for run in task), default=0.0)
    lines = [line for agent, tasks in known.items() if (line := _common(agent, tasks, end)) is not None]
    if not lines:
        return None
    last = max(line.x[-1] for line in lines)
    return Panel(axis, "normalised return (IQM)", lines=tuple(lines), x_range=(0.0, last * 1.02 or 1.0))


class _Run(NamedTuple):
    """A run's normalised returns over an axis."""

    x: Array
    y: Array
    solved: bool
    """It took no steps: what it knows from its only evaluation on holds to the end."""


def _tasks(
    study: StudyResults, group: Group, scales: Mapping[str, Scale | None], agent: str, axis: str
) -> list[list[_Run]]:
    """Return an agent's finished runs for each task."""
    tasks = []
    for env_id in group.tasks:
        scale = scales[env_id]
        assert scale is not None  # that is why the environment is in the group
        runs = []
        for run in (run for run in study.runs[env_id, agent] if run.done):
            x, values = along(run, RETURN, SECONDS if axis == SECONDS else STEPS)
            if x.size:
                steps = run.curve(RETURN)[0]
                whole = max(float(steps.max()), run.budget or study.total_steps) if axis == SHARE else 1.0
                runs.append(_Run(x / whole, scale.normalise(values), not steps.any()))
        tasks.append(runs)
    return tasks


def _common(agent: str, tasks: Sequence[Sequence[_Run]], end: float) -> Line | None:
    """Return an agent's curve over what all of its runs have; None if there is nothing."""
    curves = [[stretched((r.x, r.y), end) if r.solved else (r.x, r.y) for r in task] for task in tasks]
    first = max(float(x[0]) for task in curves for x, _ in task)
    last = min(float(x[-1]) for task in curves for x, _ in task)
    grid = np.linspace(first, last, EFFICIENCY_POINTS) if first <= last else None
    x, band = efficiency_curve(curves, grid=grid, resamples=BAND_RESAMPLES)
    return Line(agent, x.tolist(), *(part.tolist() for part in band)) if x.size else None
