"""Runs that get a larger budget: which ones can go on as if they had had it from the beginning, and how."""

from __future__ import annotations

import shlex
from pathlib import Path

from rl_lab.runs.config import RunConfig
from rl_lab.runs.description import CONFIG, RunDescription, write_description
from rl_lab.runs.directory import SUMMARY, read_summary
from rl_lab.storage.files import move
from rl_lab.training.learner import Learner
from rl_lab.types import UsageError


def extended(
    description: RunDescription, learner: Learner, folder: Path, total_steps: int
) -> RunDescription | None:
    """Return the description of a run with another budget; None if it is the one that the run has.

    Raises:
        UsageError: the budget is smaller, or the run would have learned something else with a larger one.
    """
    config = description.config
    if total_steps == config.total_steps:
        return None
    if total_steps < config.total_steps:
        raise UsageError(
            f"total_steps {total_steps} is below the run's {config.total_steps}"
            " (allowed with --resume: the same, or more)"
        )
    summary = read_summary(folder)
    if (reason := obstacle(description.agent, learner, config, summary)) is not None:
        anew = _begun_anew(config, folder, total_steps, summary)
        raise UsageError(
            f"total_steps {total_steps} can't extend this run of {config.total_steps}: {reason} (allowed: a new run"
            f" from its weights, {anew})"
        )
    return description.extended(total_steps, None if summary is None else summary["env_steps"])


def _begun_anew(config: RunConfig, folder: Path, total_steps: int, summary: dict | None) -> str:
    """Return the command of a new run with the fields and weights of this one; what ended it early is left out."""
    words = [f"--config={folder / CONFIG}", f"--init-from={folder}", "--total-steps", str(total_steps)]
    if summary is not None and summary.get("stopped_early") is not None:
        rules = {"stop_at_return": None, "stop_after_evals": None, "stop_min_delta": 0}
        for name, off in rules.items():
            words += [f"--{name.replace('_', '-')}", str(off)] if getattr(config, name) != off else []
    return shlex.join(["rl-lab", "train", *words])


def obstacle(agent: str, learner: Learner, config: RunConfig, summary: dict | None) -> str | None:
    """Return why a run can't go on as if it had had a larger budget from the beginning; None if it can.

    Args:
        agent: the learner's name.
        summary: the result of the run; None if it hasn't ended.
    """
    if (budget_fields := getattr(learner.config, "budget_fields", None)) is None:
        return f"agent {agent!r} has no budget of steps, or doesn't say which of its fields depend on it"
    if config.horizon_steps is None and (fields := budget_fields()):
        values = " and ".join(f"{name} {getattr(learner.config, name)}" for name in fields)
        return f"{values} {'spreads' if len(fields) == 1 else 'spread'} a schedule over the budget"
    if summary is not None and summary.get("stopped_early") is not None:
        return f"it was stopped early: {summary['stopped_early']}"
    return None


def write_extension(folder: Path, description: RunDescription) -> None:
    """Write the description of an extended run; its result so far is kept as summary-<total_steps>.json.

    If the process is killed between the two, the run has its former budget and no summary; resuming finishes it again.

    Raises:
        NotWritten: the file system refused.
    """
    if (folder / SUMMARY).exists():
        move(folder / SUMMARY, folder / f"summary-{description.extended_from[-1].total_steps}.json")
    write_description(folder, description)
