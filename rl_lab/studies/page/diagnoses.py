"""What the diagnoses of a study's runs say: where an agent's regret comes from, and what its values are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_lab.diagnosis.files import NAME
from rl_lab.runs.rows import is_number
from rl_lab.studies.page.decisions import Section
from rl_lab.studies.page.formats import listed, number
from rl_lab.studies.results import RunResults, read_object

SPLIT = {
    "regret": "regret",
    "exploration": "exploration: states never visited",
    "representation": "representation, at most: what its functions can't express",
    "rest": "the rest: optimisation and estimation",
}
LOSS = {"loss_bias": "error of values that the loss itself brings"}
CALIBRATION = {
    "value_bias": "values, less the returns that followed",
    "action_gap": "action gap, median",
    "entropy": "entropy while exploring, nats",
}
COLUMNS = SPLIT | LOSS | CALIBRATION
# Where a diagnosis has a column: the dict, and the name in it.
PLACES = {name: ("split", name) for name in SPLIT} | {
    "loss_bias": ("loss", "from_loss"),
    "value_bias": ("calibration", "bias"),
    "action_gap": ("calibration", "gap_median"),
    "entropy": ("calibration", "entropy_mean"),
}


def read_diagnoses(runs: Sequence[RunResults]) -> dict[str, Mapping[str, Any]]:
    """Return the diagnosis of each agent's first run that has one, from RUN/diagnosis.json, by agent."""
    found: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        diagnosis = read_object(Path(run.directory, NAME)) if run.agent not in found else None
        if diagnosis:
            found[run.agent] = diagnosis
    return found


def diagnosis_section(diagnoses: Mapping[str, Mapping[str, Any]]) -> Section | None:
    """Return the section on why agents fall short; None without a diagnosis that tells a number.

    Args:
        diagnoses: by agent, `Diagnosis.as_dict()`, any part of which may be missing.
    """
    told = {agent: numbers for agent, given in diagnoses.items() if (numbers := _numbers(given))}
    if not told:
        return None
    names = [name for name in COLUMNS if any(name in numbers for numbers in told.values())]
    rows = tuple(
        (agent, *(number(numbers[name]) if name in numbers else "–" for name in names))
        for agent, numbers in told.items()
    )
    of = listed([f"{agent}{_run(diagnoses[agent])}" for agent in told])
    lines = (*_explained(names), f"One run of each agent is diagnosed: {of}.")
    return Section("Why is it worse?", lines, ("agent", *(COLUMNS[name] for name in names)), rows)


def _numbers(diagnosis: Mapping[str, Any]) -> dict[str, float]:
    """Return what a diagnosis tells, by the names of COLUMNS."""
    found = {}
    for name, (part, key) in PLACES.items():
        held = diagnosis.get(part)
        if isinstance(held, dict) and is_number(held.get(key)):
            found[name] = float(held[key])
    return found


def _explained(names: Sequence[str]) -> list[str]:
    lines = []
    if any(name in SPLIT for name in names):
        lines.append(
            "On a finite environment an agent's regret is the sum of exploration, representation and the rest, computed"
            " exactly from the model. Representation is an upper bound: a better fit may exist."
        )
    if any(name in LOSS for name in names):
        lines.append("What the loss itself brings is an error of values, and no part of the regret.")
    if any(name in CALIBRATION for name in names):
        lines.append("Values are compared with the discounted returns that followed in evaluation episodes.")
    return lines


def _run(diagnosis: Mapping[str, Any]) -> str:
    """Return which run was diagnosed, and when: a run that goes on keeps its older diagnosis."""
    seed, steps = diagnosis.get("seed"), diagnosis.get("env_steps")
    return (f" seed {seed}" if isinstance(seed, int) else "") + (
        f" at {steps:,} steps" if isinstance(steps, int) else ""
    )
