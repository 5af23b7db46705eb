"""Compares until it is decided: runs groups of seeds, and looks at the scores after each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rl_lab.runs.rows import is_number
from rl_lab.studies.decision import CHANGED, SCORE, Cell, Plan, Seeds, first_document, look, write_decision
from rl_lab.studies.running import Task
from rl_lab.training.setup import configs_of
from rl_lab.types import UsageError

RunTasks = Callable[[list[Task]], dict[str, str]]  # returns why runs failed, by the names of their tasks


def planned(plan: Plan, env_ids: Iterable[str], agents: Iterable[str]) -> dict[str, Any]:
    """Return what study.json keeps of a plan: the numbers, and the questions in their order."""
    numbers = {"alpha": plan.alpha, "max_seeds": plan.max_seeds, "group_size": plan.group_size}
    return numbers | {"env_ids": list(env_ids), "agents": list(agents)}


def require_same_plan(now: Mapping[str, Any], before: Mapping[str, Any], out: Path) -> None:
    """Check that a study with a plan asks what it asked when it began.

    Args:
        now: what `planned` returns; without numbers for a call that adds seeds to what is there.
        before: the same, of the study that `out` holds.

    Raises:
        UsageError: it doesn't.
    """
    for name in ("alpha", "max_seeds", "group_size"):
        if now.get(name, before[name]) != before[name]:
            raise UsageError(
                f"{name} {now[name]} can't be given to the study in {str(out)!r}, which began with {before[name]}:"
                f" {CHANGED}"
            )
    for name in ("env_ids", "agents"):
        if added := [value for value in now[name] if value not in before[name]]:
            raise UsageError(
                f"{name} {', '.join(added)} can't be added to the study in {str(out)!r}, which compares until it is"
                f" decided: {CHANGED}"
            )


def require_scores(tasks: Iterable[Task]) -> None:
    """Check that every run of a study will have a score.

    Raises:
        UsageError: an agent isn't evaluated.
    """
    for task in {task.agent: task for task in tasks}.values():
        if not configs_of(task.learner, task.fields)[1].eval_episodes:
            raise UsageError(
                f"eval_episodes is 0 for {task.agent}, and until_decided compares evaluations (allowed: 1 or more)"
            )


def run_until_decided(
    plan: Mapping[str, Any], tasks: list[Task], out: Path, run: RunTasks, tell: Callable[[str], None]
) -> dict[str, str]:
    """Run groups of seeds until every question is answered, the cap is reached, or a run fails.

    What is decided is a function of the plan and of the scores on disk, so that a killed study takes the same looks
    again, with the same permutations, and goes on where it was.

    Args:
        plan: what `planned` returned when the study began.
        tasks: all runs up to the cap.
        out: the study's directory, which gets decision.json.
        run: runs tasks that aren't done.
        tell: called with a line for each question that is answered, and a sentence on all of them at the end.

    Returns:
        Why runs failed, by the names of their tasks.

    Raises:
        Stopped: some runs were stopped before their end.
    """
    env_ids, agents = plan["env_ids"], plan["agents"]
    rules = Plan(plan["alpha"], plan["max_seeds"], plan["group_size"])
    document = first_document(rules, env_ids, agents)
    seeds: Seeds = {(e, a): document["seeds"][e][a] for e in env_ids for a in agents}
    told: set[str] = set()
    first = min(task.fields["seed"] for task in tasks)
    while True:
        wanted = [task for task in tasks if task.fields["seed"] - first < seeds[_cell(task)]]
        failures: dict[str, str] = {}
        if to_do := sum(not task.done for task in wanted):
            tell(
                f"look {document['looks'] + 1} of {rules.looks} needs {to_do} more runs ({len(wanted)} in all)"
            )
            write_decision(out, document)
            failures = run(wanted)
        scores, missing = _scores(wanted)
        if missing:
            tell(
                f"undecided after look {document['looks']} of {rules.looks}: {len(missing)} of {len(wanted)} runs have"
                " no score; the same call goes on from here"
            )
            return failures | {name: cause for name, cause in missing.items() if name not in failures}
        document, more = look(rules, env_ids, agents, scores)
        for question in document["questions"]:
            if question["better"] and document["family"] > 1 and question["sentence"] not in told:
                told.add(question["sentence"])
                tell(question["sentence"])
        if more == seeds:
            write_decision(out, document)
            tell(document["sentence"])
            return failures
        seeds = more


def _cell(task: Task) -> Cell:
    return task.fields["env_id"], task.agent


def _scores(tasks: Iterable[Task]) -> tuple[dict[Cell, list[float]], dict[str, str]]:
    """Return the scores of runs by environment and agent, in the order of seeds, and why others have none, by name."""
    scores: dict[Cell, list[float]] = {}
    missing: dict[str, str] = {}
    for task in sorted(tasks, key=lambda task: task.fields["seed"]):
        score = json.loads(task.summary.read_bytes()).get(SCORE) if task.done else None
        if score is not None and is_number(score):
            scores.setdefault(_cell(task), []).append(float(score))
        else:
            missing[task.name] = "finished without a score" if task.done else "not finished"
    return scores, missing
