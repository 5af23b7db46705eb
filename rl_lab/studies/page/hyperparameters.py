"""The agents' hyperparameters side by side, and what is needed to run a study again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from rl_lab.runs.description import IDLE
from rl_lab.studies.hyperparameters import DIFFERS, hyperparameters_side_by_side
from rl_lab.studies.page.diagnoses import read_diagnoses
from rl_lab.studies.page.formats import shortened, slug, value_text
from rl_lab.studies.results import StudyResults

Row = dict[str, Any]


def hyperparameters(study: StudyResults, env_id: str) -> list[Row]:
    """Return the agents' hyperparameters side by side, beginning with those that several agents have."""
    return [
        {
            "name": row["name"],
            "texts": [_text(row, agent) for agent in study.agents],
            "differs": row["mark"] == DIFFERS,
        }
        for row in hyperparameters_side_by_side(study, env_id)
    ]


def _text(row: Row, agent: str) -> dict[str, str] | None:
    """Return what stands in a row for an agent: {"whole", "shown"}; None if it has no such field."""
    if agent not in row["values"]:
        return None
    value = row["values"][agent]
    whole = value_text(value)
    if (transitions := row["transitions"].get(agent)) not in (None, value):
        whole += f" ({transitions:g} transitions)"
    whole += " (always)" * (agent in row["fixed"])
    return {"whole": whole, "shown": shortened(whole)}


def command_of(study: StudyResults) -> str | None:
    """Return the commands that run the study again, a line each, with the fields of presets written out.

    There is one for each environment where fields depend on it, with a folder of its own, since other fields make
    another study.

    None for a study of an older version, which didn't store the fields. What was taken out as a secret has to be put in
    again.
    """
    by_env = study.info.get("env_fields")
    if isinstance(by_env, dict):
        lines = [_command(study, (env_id,), fields, f"/{slug(env_id)}") for env_id, fields in by_env.items()]
        return None if None in lines else "\n".join(line for line in lines if line is not None)
    return _command(study, study.env_ids, study.info.get("fields"))


def _command(study: StudyResults, env_ids: Sequence[str], stored: Any, folder: str = "") -> str | None:
    """Return the command for some environments; None if the fields weren't stored."""
    if not isinstance(stored, dict) or not all(isinstance(f, dict) for f in stored.values()):
        return None
    fields = {
        agent: {n: v for n, v in stored.get(agent, {}).items() if n not in IDLE} for agent in study.agents
    }
    first = fields[study.agents[0]]
    shared = {n: v for n, v in first.items() if all(n in f and f[n] == v for f in fields.values())}
    words = ["rl-lab", "compare", "--env-id", *env_ids, "--agents", *study.agents]
    words += _seeds(study)
    words += ["--first-seed", str(study.seeds[0])] if study.seeds[0] else []
    words += _budget(study, shared)
    pairs = [_pair(name, value) for name, value in shared.items() if name != "total_steps"]
    for agent, own in fields.items():
        pairs += [f"{agent}:{_pair(name, value)}" for name, value in own.items() if name not in shared]
    words += ["--set", *pairs] if pairs else []
    runs = [study.of_env(env_id) for env_id in env_ids]
    words += ["--diagnose"] * any(map(read_diagnoses, runs))
    words += ["--batched"] * any(run.scalar("runs_together") is not None for of_env in runs for run in of_env)
    return shlex.join([*words, "--out", f"runs/again{folder}"])


def _seeds(study: StudyResults) -> list[str]:
    plan = study.info.get("until_decided")
    if not isinstance(plan, dict):
        return ["--seeds", str(len(study.seeds))]
    numbers = ("alpha", "max_seeds", "group_size")
    return ["--until-decided", *(w for n in numbers for w in (f"--{n.replace('_', '-')}", str(plan[n])))]


def _budget(study: StudyResults, shared: Mapping[str, Any]) -> list[str]:
    return ["--total-steps", str(shared["total_steps"])] if "total_steps" in shared else []


def _pair(name: str, value: Any) -> str:
    """Return name=value as --set reads it: JSON is YAML."""
    return (
        f"{name}={value}"
        if isinstance(value, str) and _reads_as_text(value)
        else f"{name}={json.dumps(value)}"
    )


def _reads_as_text(text: str) -> bool:
    """Say whether a word needs no quotes to be read as text."""
    return text.replace("-", "a").replace("_", "a").isalpha() and text.lower() not in (
        *("true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"),
    )


def versions_of(study: StudyResults) -> dict[str, list[str]]:
    """Return each package's versions; more than one means that the runs aren't comparable."""
    return _found(study, "versions")


def hardware_of(study: StudyResults) -> dict[str, list[str]]:
    """Return what is known of the machines; more than one value means that times aren't comparable."""
    return _found(study, "hardware")


def _found(study: StudyResults, key: str) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for run in (run for env_id in study.env_ids for run in study.of_env(env_id)):
        values = (run.summary or {}).get(key)
        for name, value in values.items() if isinstance(values, dict) else ():
            found.setdefault(str(name), set()).add(str(value))
    return {name: sorted(found[name]) for name in sorted(found)}
