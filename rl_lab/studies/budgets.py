"""Gives runs of a study more steps, where none of their schedules depends on the budget; elsewhere says why not.

An agent named NAME@STEPS spreads its schedules over STEPS, whatever its budget is: a variant of the agent NAME.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from rl_lab.runs.description import CONFIG
from rl_lab.studies.decision import CHANGED
from rl_lab.studies.extends import fields_of
from rl_lab.studies.running import VARIANT, Task, steps_of
from rl_lab.training.extension import obstacle
from rl_lab.training.setup import configs_of, configure
from rl_lab.types import UsageError


def with_budgets_of(
    described: Mapping[str, Any], before: Mapping[str, Any], tasks: Sequence[Task], out: Path
) -> dict[str, Any]:
    """Return the study that a folder holds with the larger budgets of the one that is to extend it.

    Args:
        described: study.json as it is to be.
        before: study.json as it is, in the current format.
        tasks: all runs of the former.

    Raises:
        UsageError: a run that has begun would have learned something else with a larger budget from the beginning.
    """
    changed = _told_alike(described, before)
    for env_id, agent in product(before["env_ids"], before["agents"]):
        if agent not in described["agents"] or env_id not in described["env_ids"]:
            continue  # whoever leaves out runs asks for another study, and so does whoever asks for fewer steps
        now, former = fields_of(described, env_id, agent), fields_of(before, env_id, agent)
        more = steps_of(now) > steps_of(former)
        if more and "until_decided" in before:
            raise UsageError(
                f"total_steps {steps_of(now)} can't extend the runs of {steps_of(former)} steps in {str(out)!r}, which"
                f" compares until it is decided: {CHANGED}"
            )
        for task in tasks if more else ():
            if (task.agent, task.fields["env_id"]) == (agent, env_id) and (task.folder / CONFIG).exists():
                _require_extensible(task, steps_of(former), out, by_env="env_fields" in described)
        if steps_of(now) >= steps_of(former):
            then = fields_of(changed, env_id, agent)
            then.pop("total_steps", None)
            then |= {name: now[name] for name in ("total_steps",) if name in now}
    return changed


def _told_alike(described: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of what a folder holds, with fields by environment where either of the two studies has them."""
    changed = copy.deepcopy(dict(before))
    if "env_fields" in described and "eval_gamma" in before:  # older versions had no fields by environment
        runs = {e: {a: dict(fields_of(before, e, a)) for a in before["agents"]} for e in before["env_ids"]}
        changed["env_fields"] = runs
    return changed


def _require_extensible(task: Task, before: int, out: Path, *, by_env: bool) -> None:
    """Check that a run that has begun can get a larger budget.

    Args:
        by_env: the study's fields depend on the environment, so that there can be no variants of its agents.

    Raises:
        UsageError: it can't.
    """
    learner, config = configure(task.learner, task.fields)
    summary = json.loads(task.summary.read_bytes()) if task.summary.exists() else None
    allowed = "a new folder"
    reason = obstacle(task.agent, learner, config, summary)
    if reason is not None and not by_env and spread(task.learner, task.fields):
        allowed += f", or --keep-horizon, which compares {task.agent}{VARIANT}{before} beside it"
    if not learner.resumes:
        reason = f"agent {task.agent!r} can't resume exactly"
    if reason is not None:
        raise UsageError(
            f"total_steps {task.total_steps} can't extend the runs of {before} steps in {str(out)!r}: {task.name}:"
            f" {reason} (allowed: {allowed})"
        )


def spread(learner: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields of an agent that spread a schedule over the budget; () for one that doesn't say.

    Args:
        fields: of the run and of the agent, env_id included.
    """
    own, config = configs_of(learner, fields)
    named = getattr(own, "budget_fields", tuple)
    return () if config.horizon_steps is not None else tuple(named())
