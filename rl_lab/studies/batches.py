"""Runs of a study that learn together: the seeds of an agent on an environment, in one process.

Tabular agents are simulated on the environment's model. Networks learn as one program.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rl_lab.checks import without_allowed
from rl_lab.problem import Problem
from rl_lab.runs.config import RunConfig
from rl_lab.runs.signals import STOPPED
from rl_lab.runs.wandb_settings import resolve_mode
from rl_lab.storage.files import write_atomically
from rl_lab.studies.results import ERROR
from rl_lab.studies.running import (
    LONGEST_CAUSE,
    Report,
    StopFlag,
    Stopped,
    Task,
    cause_of,
    learner_of,
    run_worker,
)
from rl_lab.training.learner import Learner
from rl_lab.training.preparing import why_not_together
from rl_lab.training.registry import config_of
from rl_lab.training.setup import configure, problem_of
from rl_lab.types import UsageError

MOST_RUNS = 100  # in one process; several processes do more in less time
MOST_ON_CUDA = 1_000  # where one program of many costs hardly more, if no run has a mirror process
OWN = ("seed", "run_dir")  # in which the runs of a batch differ
FIELD = "simulated"
ALLOWED = "tabular agents, such as q-learning, and with dqn, ppo and a2c"

RunOutcome = str | Stopped | None
"""Of a run: why it failed, that it was stopped, or None if it is done."""


def why_not_batched(agent: str, runs: Sequence[Mapping[str, Any]], seeds: int) -> str | None:
    """Return why the seeds of an agent of a study can't learn together (one line), or None if they can everywhere.

    Args:
        runs: the fields of its runs on each environment, without seed and folder.
        seeds: on each environment.
    """
    name = learner_of(agent)
    wanted = {FIELD: True} if is_simulated(agent) else {}
    for fields in runs:
        try:
            learner, config = configure(name, {**fields, **wanted})
            problem = problem_of(config, learner)
            reason = learner.refuse(problem) or _together(learner, config, problem, seeds)[1]
        except UsageError as error:
            return str(error)
        if reason is not None:
            return reason
    return None


def is_simulated(agent: str) -> bool:
    """Return whether the seeds of an agent learn together in a simulation, if they do."""
    return FIELD in {field.name for field in dataclasses.fields(config_of(learner_of(agent)))}


def batched_fields(
    reasons: Mapping[str, str | None], fields_of: Mapping[str, Mapping[str, Any]], tell: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Return the fields for single agents of a study, with those simulated that can be; tell which aren't batched.

    Args:
        reasons: for each agent of the study, why its seeds can't learn together, or None if they can.

    Raises:
        UsageError: none can.
    """
    able = [agent for agent, reason in reasons.items() if reason is None]
    others = [
        f"{agent} ({without_allowed(reason)})" for agent, reason in reasons.items() if reason is not None
    ]
    if not able:
        raise UsageError(f"batched does nothing for {', '.join(others)} (allowed with {ALLOWED})")
    if others:
        tell(f"not batched, each run in a process of its own: {', '.join(others)}")
    simulated = [agent for agent in able if is_simulated(agent)]
    return {
        **{a: dict(f) for a, f in fields_of.items()},
        **{a: {FIELD: True, **fields_of.get(a, {})} for a in simulated},
    }


def batches_of(tasks: Sequence[Task]) -> list[list[Task]]:
    """Return the runs in groups: those that can learn together and differ in seed and folder alone are in one."""
    groups: dict[Any, list[Task]] = {}
    most: dict[Any, int] = {}
    shared = [{name: value for name, value in task.fields.items() if name not in OWN} for task in tasks]
    keys = [(task.agent, repr(sorted(fields.items()))) for task, fields in zip(tasks, shared, strict=True)]
    seeds = Counter(keys)
    for number, (task, key) in enumerate(zip(tasks, keys, strict=True)):
        if key not in most:
            most[key] = _most_together(task.agent, shared[number], seeds[key])
        groups.setdefault(key if most[key] > 1 else number, []).append(task)
    return [
        group[start : start + size]
        for key, group in groups.items()
        for size in (most.get(key, 1),)
        for start in range(0, len(group), size)
    ]


def _most_together(agent: str, fields: Mapping[str, Any], seeds: int) -> int:
    """Return how many of the runs of an agent learn together in a process; 1 if they don't."""
    if is_simulated(agent):
        return MOST_RUNS if fields.get(FIELD) else 1
    if why_not_batched(agent, [fields], seeds) is not None:
        return 1
    learner, config = configure(learner_of(agent), fields)
    return _together(learner, config, problem_of(config, learner), seeds)[0]


def _together(learner: Learner, config: RunConfig, problem: Problem, seeds: int) -> tuple[int, str | None]:
    """Return how many of so many runs learn in one process, and None; or 1 and why none do (one line)."""
    alone = problem.device == "cuda" and resolve_mode(config.wandb).mode == "disabled"
    reason = None
    for most in (MOST_ON_CUDA, MOST_RUNS) if alone else (MOST_RUNS,):
        reason = why_not_together(learner, problem, min(seeds, most))
        if reason is None:
            return most, None
    return 1, reason


def run_batch(tasks: Sequence[Task], stop: StopFlag, reports: Sequence[Report]) -> list[RunOutcome]:
    """Carry out runs that learn together, in one process; return what became of each.

    What the process prints is kept in log.txt of the first; why a run failed, in its error.txt.

    Args:
        reports: take what each run tells while it goes on, in a thread of their own.
    """
    if stop.stop_requested:
        return [Stopped() for _ in tasks]
    try:
        for task in tasks:
            task.folder.mkdir(parents=True, exist_ok=True)
            (task.folder / ERROR).unlink(missing_ok=True)

        def report(values: dict[str, Any]) -> None:
            reports[values.get("run", 0)](values)

        batch = [{name: task.fields[name] for name in OWN} for task in tasks]
        code, last_line = run_worker(tasks[0], stop, report, batch)
    except OSError as error:
        return [f"the run could not be started: {error.strerror}" for _ in tasks]
    return [_outcome(task, code, last_line, stop) for task in tasks]


def _outcome(task: Task, code: int, last_line: str, stop: StopFlag) -> RunOutcome:
    """Return what became of a run whose process has ended."""
    if task.done:
        return None
    error = task.folder / ERROR
    if error.is_file():
        return error.read_text(encoding="utf-8", errors="replace").strip()[:LONGEST_CAUSE]
    if code == STOPPED or (stop.stop_requested and code < 0):
        return Stopped()
    cause = cause_of(code, last_line)
    write_atomically(error, cause.encode())
    return cause
