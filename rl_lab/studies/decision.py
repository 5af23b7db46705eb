"""What a comparison until it is decided has found so far: its plan, its verdicts, and decision.json with both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from rl_lab.evaluation.comparison.scores import require_count, require_fraction
from rl_lab.evaluation.comparison.sequential import SequentialTest, Verdict
from rl_lab.storage.files import write_atomically
from rl_lab.storage.formats import FORMAT, require_readable
from rl_lab.types import UsageError

DECISION = "decision.json"
CHANGED = "its error rate is that of the plan it began with (allowed: the same call, or a new folder)"
SCORE = "eval_return_mean"  # of the final evaluation: the score of a run

Cell = tuple[str, str]  # an environment and an agent
Seeds = dict[Cell, int]  # how many seeds each has been given


@dataclass(frozen=True)
class Plan:
    """When a comparison stops: fixed before its first run, and kept for good.

    Raises:
        UsageError: a number is out of range, or the cap isn't a whole number of groups.
    """

    alpha: float = 0.05
    """The probability of calling any two equal agents different, over all looks, pairs and environments."""
    max_seeds: int = 40
    """Seeds after which an agent gets no more on an environment."""
    group_size: int = 5
    """Seeds that are added at a time; after each group the scores are looked at."""

    def __post_init__(self) -> None:
        require_fraction("alpha", self.alpha)
        require_count("max_seeds", self.max_seeds)
        require_count("group_size", self.group_size)
        if rest := self.max_seeds % self.group_size:
            below = self.max_seeds - rest
            allowed = (
                f"{below} or {below + self.group_size}" if below else f"{self.group_size} or a multiple of it"
            )
            raise UsageError(
                f"max_seeds {self.max_seeds} isn't a whole number of groups of {self.group_size} (allowed: {allowed})"
            )

    @property
    def looks(self) -> int:
        """How many looks there are at most."""
        return self.max_seeds // self.group_size

    def test_of(self, env_ids: Sequence[str], agents: Sequence[str]) -> SequentialTest:
        """Return the test of all its questions: each pair of agents on each environment is one.

        Raises:
            UsageError: there is no pair of agents, or no scores whatever could answer a question.
        """
        if len(agents) < 2:
            raise UsageError(f"until_decided needs two agents or more, got {', '.join(agents)}")
        pairs = [
            (cell_name((env_id, x)), cell_name((env_id, y)))
            for env_id in env_ids
            for x, y in combinations(agents, 2)
        ]
        test = SequentialTest(self.alpha, self.looks, self.group_size, pairs=tuple(pairs))
        test.require_reachable(len(pairs))
        return test


def cell_name(cell: Cell) -> str:
    """Return the name under which the test knows an agent on an environment."""
    return " ".join(cell)


def first_document(plan: Plan, env_ids: Sequence[str], agents: Sequence[str]) -> dict[str, Any]:
    """Return the decision before the first look: nothing is known, and each agent gets a group of seeds."""
    cells = [(env_id, agent) for env_id in env_ids for agent in agents]
    return _document(plan, env_ids, agents, dict.fromkeys(cells, plan.group_size), [])


def look(
    plan: Plan, env_ids: Sequence[str], agents: Sequence[str], scores: Mapping[Cell, Sequence[float]]
) -> tuple[dict[str, Any], Seeds]:
    """Look at all scores so far; return the decision, and how many seeds each agent needs on each environment next.

    Where these are as many as there are scores, everything is decided, or the cap is reached.

    Args:
        scores: of each agent on each environment, by seed: complete groups.
    """
    test = plan.test_of(env_ids, agents)
    found = test.look({cell_name(cell): values for cell, values in scores.items()})
    running = set(found.running)
    more = {cell: len(s) + plan.group_size * (cell_name(cell) in running) for cell, s in scores.items()}
    pairs = [(env_id, x, y) for env_id in env_ids for x, y in combinations(agents, 2)]
    questions = [_question(plan, *pair, verdict) for pair, verdict in zip(pairs, found.verdicts, strict=True)]
    runs = [len(values) for values in scores.values()]
    return _document(plan, env_ids, agents, more, questions, max(runs) // plan.group_size, sum(runs)), more


def _question(plan: Plan, env_id: str, x: str, y: str, verdict: Verdict) -> dict[str, Any]:
    question = {
        "env_id": env_id,
        "x": x,
        "y": y,
        "verdict": verdict.outcome,
        "better": {"greater": x, "less": y}.get(verdict.outcome),
        "look": verdict.groups,
        "seeds": verdict.groups * plan.group_size,
        "level": verdict.level,
        "difference": verdict.difference,
        "boundary": verdict.boundary,
        "boundary_look": verdict.at,
    }
    return question | {"sentence": _sentence_on(question, plan)}


def _sentence_on(question: Mapping[str, Any], plan: Plan) -> str:
    """Return what is known about one pair of agents on one environment."""
    x, y, env_id, seeds = (question[key] for key in ("x", "y", "env_id", "seeds"))
    figures = f"mean returns differ by {abs(question['difference']):.4g}, the boundary is {question['boundary']:.4g}"
    when = f"{seeds} seeds each, at look {question['look']} of {plan.looks} ({figures})"
    if question["better"] is not None:
        worse = y if question["better"] == x else x
        return f"{question['better']} is better than {worse} on {env_id}: decided with {when}"
    if question["verdict"] == "undecided":
        return f"{x} against {y} on {env_id} is undecided with {when}"
    return f"no difference between {x} and {y} on {env_id} was found with {when}, which doesn't say that they are equal"


def _document(
    plan: Plan,
    env_ids: Sequence[str],
    agents: Sequence[str],
    seeds: Seeds,
    questions: list[dict[str, Any]],
    looks: int = 0,
    runs: int = 0,
) -> dict[str, Any]:
    """Return the contents of decision.json.

    Args:
        seeds: how many each agent has been given by now, those of the next group included.
        looks: how many there have been.
        runs: how many the last look has seen.
    """
    test = plan.test_of(env_ids, agents)
    assert test.pairs is not None
    body = {
        "format": FORMAT,
        **asdict(plan),
        "permutations": test.permutations,
        "permutation_seed": test.seed,
        "score": SCORE,
        "env_ids": list(env_ids),
        "agents": list(agents),
        "family": len(test.pairs),
        "looks": looks,
        "max_looks": plan.looks,
        "decided": bool(questions) and all(q["verdict"] != "undecided" for q in questions),
        "seeds": {env_id: {agent: seeds[env_id, agent] for agent in agents} for env_id in env_ids},
        "runs": runs,
        "max_runs": plan.max_seeds * len(seeds),
        "questions": questions,
    }
    return body | {"sentence": _sentence(body)}


def _sentence(body: Mapping[str, Any]) -> str:
    """Return what is known about all pairs on all environments, and how sure that is."""
    questions, count = body["questions"], body["family"]
    most = body["max_looks"]
    over = ("at the only look" if most == 1 else f"over all {most} looks") + f" and {count} questions" * (
        count > 1
    )
    worth = f"the probability of calling any two equal agents different is at most {body['alpha']:g} {over}"
    if not questions:
        return f"nothing is known before the first look; {worth}"
    if count == 1:
        return f"{questions[0]['sentence']}; {worth}"
    found = [q for q in questions if q["better"] is not None]
    parts = [
        f"{len(found)} of {count} differences were found with {body['runs']} runs of at most {body['max_runs']}"
    ]
    parts += [_short(q) for q in found]
    for verdict, text in (("no difference found", "no difference found"), ("undecided", "undecided")):
        if left := [q for q in questions if q["verdict"] == verdict]:
            pairs = ", ".join(f"{q['x']} and {q['y']} on {q['env_id']}" for q in left)
            parts.append(f"{text} between {pairs} ({left[0]['seeds']} seeds each)")
    return "; ".join([*parts, worth])


def _short(question: Mapping[str, Any]) -> str:
    worse = question["y"] if question["better"] == question["x"] else question["x"]
    return (
        f"{question['better']} is better than {worse} on {question['env_id']}"
        f" ({question['seeds']} seeds each, look {question['look']})"
    )


def write_decision(study_dir: Path, document: Mapping[str, Any]) -> None:
    """Write decision.json into a study's folder.

    Raises:
        NotWritten: the file system refused; what was there is as it was.
    """
    write_atomically(study_dir / DECISION, json.dumps(document, indent=1).encode())


def decision_of(study_dir: str | Path) -> dict[str, Any] | None:
    """Return what a comparison until it is decided has found; None for a study with a fixed number of seeds.

    Returns:
        `decided` (whether every question is answered), `sentence` (all of it, for people), `alpha`, `looks` and
        `max_looks`, `runs` (that the last look has seen) and `max_runs`, `seeds` (by environment and agent, those of a
        group under way included), and `questions`: for each pair of agents
        on each environment `env_id`, `x`, `y`, `verdict` ("greater": x is better, "less", "undecided", "no difference
        found"), `better` (an agent, or None), `look` and `seeds` (at which it was decided, or that were seen), `level`
        (at which it was tested), `difference` and `boundary` (of mean returns, as they were at `boundary_look`), and
        `sentence`.

    Raises:
        FormatTooNew: a newer version wrote it.
    """
    path = Path(study_dir) / DECISION
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None  # it is written anew at the next look
    if not isinstance(document, dict):
        return None
    require_readable(document.get("format", FORMAT), path)
    return document


def given_seeds(study_dir: Path) -> Seeds:
    """Return how many seeds each agent was given on each environment; {} for a study with a fixed number of seeds."""
    document = decision_of(study_dir) or {}
    return {
        (env_id, agent): seeds
        for env_id, of_agents in document.get("seeds", {}).items()
        for agent, seeds in of_agents.items()
    }
