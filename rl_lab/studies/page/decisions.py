"""The place of two other parts of the lab in the page: what a sequential test decided, and why an agent is worse.

Both come as plain data, from files of the study, and each has a section only where its file is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rl_lab.runs.rows import is_number
from rl_lab.studies.page.formats import counted, number
from rl_lab.studies.results import RunResults, StudyResults, read_object

DECISION = "decision.json"  # in the folder of a study
DIAGNOSIS = "diagnosis.json"  # in the folder of a run
PARTS = {
    "regret": "regret",
    "exploration": "exploration: states never visited",
    "representation": "representation: what its functions can't express",
    "rest": "the rest: optimisation and estimation",
    "loss_bias": "bias of the loss",
}
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
    return Told("; ".join(text for text, _ in said), all(decided for _, decided in said))


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
            "verdict", "seeds"} with an outcome of `comparison.sequential`.
    """
    if decision is None:
        return None
    alpha, looks, most = (decision.get(name) for name in ("alpha", "looks", "max_seeds"))
    cap = f", {most} at most" if is_number(most) else ""
    looked = f"; {counted(looks, 'look')}" if isinstance(looks, int) else ""
    worth = [f"Seeds were added in groups until it was decided{cap}{looked}."]
    if is_number(alpha):
        rate = f"at most {alpha:g}, over all looks together"
        worth.append(f"The probability of calling any two equal agents different is {rate}.")
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
        )
        for v in decision["questions"]
        if isinstance(v, dict)
    ]
    header = ("environment", "agent", "compared with", "outcome", "seeds of each")
    return Section("Until it is decided", tuple(worth), header, tuple(rows))


def read_diagnoses(runs: Sequence[RunResults]) -> dict[str, Mapping[str, Any]]:
    """Return the diagnosis of each agent's first run that has one, from RUN/diagnosis.json, by agent."""
    found: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        diagnosis = read_object(Path(run.directory, DIAGNOSIS)) if run.agent not in found else None
        if diagnosis:
            found[run.agent] = diagnosis
    return found


def _flat(diagnosis: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of a diagnosis in one dict."""
    split, loss = (diagnosis.get(name) for name in ("split", "loss"))
    flat = dict(diagnosis) | (split if isinstance(split, dict) else {})
    return flat | ({"loss_bias": loss.get("from_loss")} if isinstance(loss, dict) else {})


def diagnosis_section(diagnoses: Mapping[str, Mapping[str, Any]]) -> Section | None:
    """Return the section on where each agent's regret comes from; None without a diagnosis.

    Args:
        diagnoses: by agent, `Diagnosis.as_dict()`: plain numbers under the keys of PARTS, any of which may be missing;
            those of the split may stand in a dict `split`, and the loss's bias in a dict `loss` as `from_loss`.
    """
    diagnoses = {agent: _flat(given) for agent, given in diagnoses.items()}
    known = {
        agent: given for agent, given in diagnoses.items() if any(is_number(given.get(key)) for key in PARTS)
    }
    if not known:
        return None
    keys = [key for key in PARTS if any(is_number(given.get(key)) for given in known.values())]
    rows = tuple(
        (agent, *(number(float(given[key])) if is_number(given.get(key)) else "–" for key in keys))
        for agent, given in known.items()
    )
    lines = (
        "The regret of an agent on a finite environment is the sum of its parts, computed exactly from the model.",
    )
    return Section("Why is it worse?", lines, ("agent", *(PARTS[key] for key in keys)), rows)
