"""The budgets of a study's runs, which may differ between environments and agents."""

from __future__ import annotations

from rl_lab.studies.results import StudyResults


def budgets_of(study: StudyResults, env_id: str | None = None) -> set[int]:
    """Return the budgets of the runs that have begun, in environment steps; that of the study if none has.

    Args:
        env_id: of runs on this environment alone; None: on all.
    """
    runs = [run for (of, _), runs in study.runs.items() for run in runs if env_id in (None, of)]
    return {run.budget for run in runs if run.budget is not None} or {study.total_steps}
