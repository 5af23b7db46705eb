"""Gives runs of a study more steps, where none of their schedules depends on the budget; elsewhere says why not.

An agent named NAME@STEPS spreads its schedules over STEPS, whatever its budget is: a variant of the agent NAME.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_lab.runs.description import CONFIG
from rl_lab.studies.decision import CHANGED
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
    changed = copy.deepcopy(dict(before))
    for agent, then in changed["fields"].items():
        now = described["fields"].get(agent)
        if now is None or steps_of(now) < steps_of(then):
            continue  # whoever asks for less asks for another study
        more = steps_of(now) > steps_of(then)
        if more and "until_decided" in before:
            raise UsageError(
                f"total_steps {steps_of(now)} can't extend the runs of {steps_of(then)} steps in {str(out)!r}, which"
                f" compares until it is decided: {CHANGED}"
            )
        for task in tasks if more else ():
            if task.agent == agent and (task.folder / CONFIG).exists():
                _require_extensible(task, steps_of(then), out)
        then.pop("total_steps", None)
        then |= {name: now[name] for name in ("total_steps",) if name in now}
    return changed


def _require_extensible(task: Task, before: int, out: Path) -> None:
    """Check that a run that has begun can get a larger budget.

    Raises:
        UsageError: it can't.
    """
    learner, config = configure(task.learner, task.fields)
    summary = json.loads(task.summary.read_bytes()) if task.summary.exists() else None
    allowed = "a new folder"
    reason = obstacle(task.agent, learner, config, summary)
    if reason is not None and spread(task.learner, task.fields):
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
