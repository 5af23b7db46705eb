"""The place of a sequential test in the page: what it decided, as plain data from a file of the study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from rl_lab.runs.rows import is_number
from rl_lab.studies.page.formats import counted, number
from rl_lab.studies.results import StudyResults, read_object

DECISION = "decision.json"  # in the folder of a study
Decided = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """A part of the page: text and a table."""

    title: str
    lines: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


class Told(NamedTuple):
    """What a decision says of an environment, as the end of a sentence."""

    text: str
    decided: bool


def read_decision(study: StudyResults) -> Decided | None:
    """Return what a sequential test decided, from OUT/decision.json; None if there is none that can be read."""
    found = read_object(study.directory / DECISION)
    return found if found and isinstance(found.get("questions"), list) else None


def decided_for(decision: Decided, env_id: str) -> Told | None:
    """Return what a decision says of an environment; None if nothing."""
    found = [v for v in decision["questions"] if isinstance(v, dict) and v.get("env_id") == env_id]
    if not found:
        return None
    said = [_outcome(verdict) for verdict in found]
    text = "; ".join([*(text for text, _ in said), *_worth(decision)])
    return Told(text, all(decided for _, decided in said))


def _worth(decision: Decided) -> list[str]:
    """Return how often such a decision is wrong, as the end of a sentence; [] if it isn't known."""
    alpha, most, family = (decision.get(name) for name in ("alpha", "max_looks", "family"))
    if not is_number(alpha):
        return []
    over = f"all {counted(most, 'look')}" if isinstance(most, int) else "all looks"
    over += f" and {family} questions" if isinstance(family, int) and family > 1 else ""
    return [
        f"the probability of calling any two equal agents different is at most {alpha:g} over {over} together"
    ]


def outcome_of(decision: Decided, env_id: str, x: str, y: str) -> str:
    """Return what was decided of two agents on an environment, as a cell of a table."""
    for question in decision["questions"]:
        asked = {question.get("x"), question.get("y")} if isinstance(question, dict) else set()
        if asked == {x, y} and question.get("env_id") == env_id:
            return _in_words(question)
    return "–"


def _outcome(verdict: Mapping[str, Any]) -> Told:
    x, y, outcome = (str(verdict.get(name)) for name in ("x", "y", "verdict"))
    after = f"after {counted(int(verdict['seeds']), 'seed')}" if is_number(verdict.get("seeds")) else ""
    if outcome in ("greater", "less"):
        better, worse = (x, y) if outcome == "greater" else (y, x)
        found = [float(verdict[name]) for name in ("difference", "boundary") if is_number(verdict.get(name))]
        by = ""
        if len(found) == 2:
            by = f" (mean returns differ by {number(abs(found[0]))}, the boundary is {number(found[1])})"
        return Told(f"{better} is better than {worse}{by}, decided {after}".rstrip(), True)
    words = "no difference was found" if outcome == "no difference found" else "it is not decided"
    return Told(f"{words} between {x} and {y} {after}".rstrip(), False)


def _in_words(verdict: Mapping[str, Any]) -> str:
    """Return the outcome of a question, as a cell of a table."""
    outcome = str(verdict.get("verdict"))
    better = {"greater": verdict.get("x"), "less": verdict.get("y")}.get(outcome)
    return outcome if better is None else f"{better} is better"


def decision_section(decision: Decided | None) -> Section | None:
    """Return the section on what a sequential test decided; None without one.

    Args:
        decision: `alpha`, `looks`, `max_seeds` (any may be missing) and `questions`, each {"env_id", "x", "y",
            "verdict", "seeds", "difference", "boundary"} with an outcome of `comparison.sequential`.
    """
    if decision is None:
        return None
    worth = [_course(decision), *(f"{text[0].upper()}{text[1:]}." for text in _worth(decision))]
    worth.append(
        "The p-values of the tables below are those of a fixed number of seeds, and don't hold here."
    )
    rows = [
        (
            str(v.get("env_id", "")),
            str(v.get("x")),
            str(v.get("y")),
            _in_words(v),
            str(v.get("seeds", "–")),
            *(_figure(v.get(name)) for name in ("difference", "boundary")),
        )
        for v in decision["questions"]
        if isinstance(v, dict)
    ]
    header = (
        "environment",
        "agent",
        "compared with",
        "outcome",
        "seeds of each",
        "difference of means",
        "boundary",
    )
    return Section("Until it is decided", tuple(worth), header, tuple(rows))


def _course(decision: Decided) -> str:
    """Return how the study went, in a sentence: its groups, its looks and its runs."""
    group, cap, looks, most, runs, most_runs = (
        found if isinstance(found := decision.get(name), int) else None
        for name in ("group_size", "max_seeds", "looks", "max_looks", "runs", "max_runs")
    )
    size = "" if group is None else f" of {group}"
    parts = [
        f"Seeds were added in groups{size} until it was decided" + ("" if cap is None else f", {cap} at most")
    ]
    if looks is not None:
        parts.append(
            counted(looks, "look") if most is None else f"{looks} of at most {counted(most, 'look')}"
        )
    if runs is not None and most_runs is not None:
        parts.append(f"{runs} of at most {counted(most_runs, 'run')}")
    return f"{'; '.join(parts)}."


def _figure(value: Any) -> str:
    return number(float(value)) if is_number(value) else "–"
