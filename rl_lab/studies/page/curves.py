"""The learning curves of a page, over environment steps and over seconds of training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rl_lab.evaluation.comparison.efficiency import efficiency_curve
from rl_lab.studies.page.panels import Chart, Line, Panel, SeedLine
from rl_lab.studies.results import EXACT, REGRET, RETURN, Points, RunResults, StudyResults
from rl_lab.types import Array

BAND_RESAMPLES = 1000
MOST_POINTS = 200  # of a curve; beyond that, points at equal distances stand for those of all runs
STEPS, SECONDS = "environment steps", "training seconds"
TITLES = {RETURN: "Evaluation return", REGRET: "Regret"}
SOLVED = 1e-6  # a policy whose regret is below this is optimal up to rounding


def curve_chart(study: StudyResults, env_id: str, key: str) -> Chart | None:
    """Return the curves of `key` for all agents; None without any evaluation."""
    reference = optimal_policy_return(study.of_env(env_id)) if key == RETURN else None
    panels = {axis: curve_panel(study, env_id, key, axis, reference) for axis in (STEPS, SECONDS)}
    views = {axis: (panel,) for axis, panel in panels.items() if panel is not None}
    if not views:
        return None
    kind = "returns" if key == RETURN else "regrets"
    return Chart(kind, env_id, f"{TITLES[key]} on {env_id}", _caption(study, env_id, key, reference), views)


def curve_panel(
    study: StudyResults, env_id: str, key: str, axis: str, reference: float | None = None
) -> Panel | None:
    """Return the curves of `key` over one axis; None where no run has any.

    Args:
        axis: STEPS or SECONDS.
        reference: the return of an optimal policy, for a dashed line.
    """
    curves = {(run.agent, run.seed): along(run, key, axis) for run in study.of_env(env_id)}
    known = [curve for curve in curves.values() if curve[0].size]
    if not known:
        return None
    budget = max(study.budgets(env_id)) if axis == STEPS else 0
    end = max(budget, *(float(x.max()) for x, _ in known))
    solved = {(run.agent, run.seed) for run in study.of_env(env_id) if not run.curve(key)[0].any()}
    drawn = {name: stretched(curve, end) if name in solved else curve for name, curve in curves.items()}
    seeds, lines = [], []
    for agent in study.agents:
        runs = [run for run in study.runs[env_id, agent] if drawn[agent, run.seed][0].size]
        seeds += [
            SeedLine(agent, run.seed, x.tolist(), y.tolist(), run.done)
            for run in runs
            for x, y in [drawn[agent, run.seed]]
        ]
        finished = [drawn[agent, run.seed] for run in runs if run.done]
        lines += [line] if (line := _average(agent, finished)) is not None else []
    values = np.concatenate([y for _, y in drawn.values()])
    log = key == REGRET and _spans_magnitudes(values)
    return Panel(
        x_title=axis,
        y_title=TITLES[key].lower(),
        lines=tuple(lines),
        seeds=tuple(seeds),
        reference=reference,
        reference_name="optimal policy" if reference is not None else "",
        y_log=log,
        x_range=(0.0, end * 1.02 or 1.0),
    )


def along(run: RunResults, key: str, axis: str) -> Points:
    """Return a run's curve over steps, or over seconds; empty where it isn't known when evaluations were."""
    steps, values = run.curve(key)
    if axis == STEPS or not steps.size:
        return steps, values
    seconds = run.seconds_at(steps)
    return (steps[:0], values[:0]) if seconds is None else (seconds, values)


def stretched(curve: Points, end: float) -> Points:
    """Extend the only point of an agent that solved the model without any step to a horizontal line."""
    x, values = curve
    return (np.array([x[-1], end]), np.repeat(values[-1], 2)) if x.size and x[-1] < end else curve


def _average(agent: str, finished: Sequence[Points]) -> Line | None:
    """Return the interquartile mean over finished runs and its interval, where all of them have values."""
    if not finished:
        return None
    points = np.unique(np.concatenate([x for x, _ in finished]))
    first, last = max(x.min() for x, _ in finished), min(x.max() for x, _ in finished)
    grid = np.linspace(first, last, MOST_POINTS) if points.size > MOST_POINTS and first < last else None
    x, band = efficiency_curve([finished], grid=grid, resamples=BAND_RESAMPLES)
    return Line(agent, x.tolist(), *(part.tolist() for part in band)) if x.size else None


def _spans_magnitudes(regrets: Array) -> bool:
    """Say whether regrets span more than a factor of 20, so that a logarithmic axis shows more."""
    positive = regrets[regrets > 0]
    return bool(positive.size) and bool(positive.min() <= positive.max() / 20)


def optimal_policy_return(runs: Sequence[RunResults]) -> float | None:
    """Return the evaluation return of an optimal policy, if one of the runs found one.

    `optimal_return` itself is on another scale: it is discounted and without the time limit, while evaluation
    returns are undiscounted and with it. So the exact evaluation of a policy without regret is used.
    """
    regrets = [(abs(regret), run) for run in runs if (regret := run.scalar(REGRET)) is not None]
    smallest, best = min(regrets, key=lambda pair: pair[0], default=(np.inf, None))
    return best.scalar(EXACT) if best is not None and smallest < SOLVED else None


def _caption(study: StudyResults, env_id: str, key: str, reference: float | None) -> str:
    lines = (
        "Line: interquartile mean over the finished seeds, linear between evaluations. Band: its pointwise 95 % "
        "bootstrap interval. Thin: each seed; dotted: one that did not finish, which the mean leaves out."
    )
    optimum = next(
        (o for run in study.of_env(env_id) if (o := run.scalar("optimal_return")) is not None), None
    )
    if key == REGRET:
        gammas = sorted({g for run in study.of_env(env_id) if (g := run.scalar("eval_gamma")) is not None})
        with_gamma = f" with γ = {', '.join(f'{g:g}' for g in gammas)}" if gammas else ""
        to = f", {optimum:.3g}" if optimum is not None else ""
        return (
            f"Exact distance of the expected return from the optimum{to}: discounted{with_gamma}, without the time "
            f"limit. Zero is optimal. {lines}"
        )
    if reference is not None:
        more = " Dashed: the exact return of an optimal policy on this scale (optimal for the discounted return)."
    elif optimum is not None:
        more = (
            f" The optimum, {optimum:.3g}, is discounted and knows no time limit: it does not belong on this scale. "
            "See the regret."
        )
    else:
        more = ""
    return f"Undiscounted return of the evaluation episodes. {lines}{more}"
