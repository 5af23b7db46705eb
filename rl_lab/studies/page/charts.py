"""The figures of a group of scores: aggregates, performance profiles, probabilities of improvement, efficiency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rl_lab.evaluation.comparison.efficiency import efficiency_curve
from rl_lab.evaluation.comparison.intervals import Band
from rl_lab.evaluation.comparison.normalisation import Scale
from rl_lab.evaluation.statistics import Estimate
from rl_lab.studies.page.curves import BAND_RESAMPLES, STEPS
from rl_lab.studies.page.panels import Bar, Chart, Line, Panel
from rl_lab.studies.page.scores import Group
from rl_lab.studies.page.statistics import Pair, goal_of
from rl_lab.studies.results import RETURN, StudyResults
from rl_lab.types import Array

NAMES = {"iqm": "IQM", "median": "Median", "mean": "Mean", "optimality_gap": "Optimality gap"}
EFFICIENCY_POINTS = 50


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
    """Return the normalised return over steps, over all environments together; None without a common range."""
    lines = [line for agent in study.agents if (line := _efficiency(study, group, scales, agent)) is not None]
    if not lines:
        return None
    panel = Panel(
        STEPS, "normalised return (IQM)", lines=tuple(lines), x_range=(0.0, study.total_steps * 1.02)
    )
    caption = (
        "Interquartile mean of the normalised evaluation returns of all runs on all environments, and its pointwise "
        "95 % bootstrap interval. Agents without the same number of finished runs on each environment are left out."
    )
    return Chart("efficiency", "", f"Sample efficiency on {group.name}", caption, {STEPS: (panel,)})


def _efficiency(
    study: StudyResults, group: Group, scales: Mapping[str, Scale | None], agent: str
) -> Line | None:
    tasks = []
    for env_id in group.tasks:
        scale = scales[env_id]
        assert scale is not None  # that is why the environment is in the group
        curves = [run.curve(RETURN) for run in study.runs[env_id, agent] if run.done]
        known = [
            (x, y) if x.any() else (np.array([0.0, study.total_steps]), np.repeat(y[-1], 2))
            for x, y in curves
            if x.size
        ]
        tasks.append([(x, scale.normalise(y)) for x, y in known])
    if not tasks[0] or len({len(task) for task in tasks}) != 1:
        return None
    grid = np.linspace(0.0, study.total_steps, EFFICIENCY_POINTS)
    x, band = efficiency_curve(tasks, grid=grid, resamples=BAND_RESAMPLES)
    return Line(agent, x.tolist(), *(part.tolist() for part in band)) if x.size else None
