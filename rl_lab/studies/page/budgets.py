"""The budgets of a study's runs, which may differ between environments and agents."""

from __future__ import annotations

from rl_lab.studies.page.formats import listed
from rl_lab.studies.results import StudyResults


def budgets_note(study: StudyResults, env_id: str) -> str | None:
    """Return which budgets agents had on an environment, in a sentence; None if these were the same."""
    agents_of: dict[tuple[int, ...], list[str]] = {}
    for agent in study.agents:
        told = sorted({run.budget for run in study.runs[env_id, agent] if run.budget is not None})
        if told:
            agents_of.setdefault(tuple(told), []).append(agent)
    if len(agents_of) < 2:
        return None
    parts = [
        f"{listed(agents)} {' or '.join(f'{budget:,}' for budget in budgets)} steps"
        for budgets, agents in sorted(agents_of.items())
    ]
    return f"Budgets differ: {', '.join(parts)}."


def overall_note(study: StudyResults) -> str | None:
    """Return on which environments agents had different budgets, in a sentence; None if on none."""
    differing = [env_id for env_id in study.env_ids if budgets_note(study, env_id)]
    return f"Budgets differ between agents on {listed(differing)}." if differing else None
