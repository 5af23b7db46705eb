"""The agents' hyperparameters side by side, and what is needed to run a study again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from rl_lab.runs.description import IDLE
from rl_lab.studies.page.formats import shortened, value_text
from rl_lab.studies.results import RunResults, StudyResults

Row = dict[str, Any]
# What isn't shared by an agent's runs, or decides nothing.
_PER_RUN = frozenset({"agent", "env_id", "seed", "fields", "run_dir", "versions", *IDLE}) | {
    "format", "config_sha256", "wandb_source", "extended_from",
}  # fmt: skip


def hyperparameters(study: StudyResults, env_id: str) -> list[Row]:
    """Return the agents' hyperparameters side by side, beginning with those that several agents have."""
    configs = [_flat_config(study.runs[env_id, agent]) for agent in study.agents]
    names = dict.fromkeys(name for config in configs for name in config)
    rows = []
    for name in names:
        values = [config.get(name) for config in configs]
        known = [value for value in values if value is not None]
        texts = [None if value is None else {"whole": value, "shown": shortened(value)} for value in values]
        rows.append({"name": name, "texts": texts, "differs": len(set(known)) > 1, "shared": len(known)})
    return sorted(rows, key=lambda row: row["shared"] < 2)


def _flat_config(runs: Iterable[RunResults]) -> dict[str, str]:
    """Return an agent's configuration as texts, taken from the first run that wrote one."""
    config: Mapping[str, Any] = next((run.config for run in runs if run.config), {})
    shared = {name: value for name, value in config.items() if name not in _PER_RUN}
    fields = config.get("fields")
    return {
        name: value_text(value)
        for name, value in (shared | (fields if isinstance(fields, dict) else {})).items()
    }


def command_of(study: StudyResults) -> str | None:
    """Return a command that runs the study again, with the fields of presets written out.

    None for a study of an older version, which didn't store the fields. What was taken out as a secret has to be put in
    again.
    """
    stored = study.info.get("fields")
    if not isinstance(stored, dict) or not all(isinstance(f, dict) for f in stored.values()):
        return None
    fields = {
        agent: {n: v for n, v in stored.get(agent, {}).items() if n not in IDLE} for agent in study.agents
    }
    first = fields[study.agents[0]]
    shared = {n: v for n, v in first.items() if all(n in f and f[n] == v for f in fields.values())}
    words = ["rl-lab", "compare", "--env-id", *study.env_ids, "--agents", *study.agents]
    words += ["--seeds", str(len(study.seeds))]
    words += ["--first-seed", str(study.seeds[0])] if study.seeds[0] else []
    words += _budget(study, shared)
    pairs = [_pair(name, value) for name, value in shared.items() if name != "total_steps"]
    for agent, own in fields.items():
        pairs += [f"{agent}:{_pair(name, value)}" for name, value in own.items() if name not in shared]
    words += ["--set", *pairs] if pairs else []
    return shlex.join([*words, "--out", "runs/again"])


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
