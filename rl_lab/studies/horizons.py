"""More steps for agents whose schedules depend on the budget: variants that keep the former one as their horizon."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rl_lab.runs.directory import STUDY
from rl_lab.studies.budgets import spread
from rl_lab.studies.migrations import migrate_study
from rl_lab.studies.results import read_study_json
from rl_lab.studies.running import VARIANT, learner_of, steps_of
from rl_lab.studies.study import Study
from rl_lab.types import UsageError


def keep_horizons(study: Study, out: Path) -> Study:
    """Return a study in which agents that can't get its larger budget keep theirs, beside variants that have it.

    A variant NAME@STEPS has the larger budget, while its schedules are spread over the former STEPS and then stay as
    they are. The same call continues it.

    Raises:
        UsageError: budgets depend on the environment, or `out` holds no study, or one to which no agent of this one
            needs a variant.
    """
    if by_env := [env_id for env_id in study.env_ids if _budgets(study, env_id) != _budgets(study, None)]:
        raise UsageError(
            "keep_horizon can't be given for budgets that depend on the environment, since a variant has one horizon"
            f" (they do on {by_env[0]})"
        )
    if (info := read_study_json(out)) is None:
        raise UsageError(f"keep_horizon does nothing: out {str(out)!r} holds no study with fewer steps")
    before = migrate_study(info, out / STUDY)["fields"]
    fields_of = {agent: dict(fields) for agent, fields in study.fields_of.items()}
    agents = list(study.agents)
    for agent in study.agents:
        fields = study.fields_for(agent) | {"env_id": study.env_ids[0]}
        former, steps = steps_of(before.get(agent, fields)), steps_of(fields)
        if steps > former and spread(learner_of(agent), fields):
            variant = f"{agent}{VARIANT}{former}"
            fields_of[variant] = fields_of.get(variant, {}) | {"total_steps": steps}
            fields_of[agent] = fields_of.get(agent, {}) | {"total_steps": former}
            agents += [variant] * (variant not in agents)
    if len(fields_of) == len(study.fields_of):
        raise UsageError(
            f"keep_horizon does nothing: no agent of the study in {str(out)!r} gets more steps and has a schedule that"
            " depends on the budget"
        )
    return replace(study, agents=tuple(agents), fields_of=fields_of)


def _budgets(study: Study, env_id: str | None) -> list[int]:
    """Return the budget of each agent; with None, the one that doesn't depend on the environment."""
    return [steps_of(study.fields_for(agent, env_id)) for agent in study.agents]
