"""Whether a study contains another one: the runs of study.json that were asked for before, unchanged."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

from rl_lab.runs.description import IDLE
from rl_lab.runs.scrubbing import REMOVED, without_secrets
from rl_lab.studies.fields import with_defaults


def extends(described: dict[str, Any], before: dict[str, Any]) -> bool:
    """Return whether a study contains all runs of the one that was there before, unchanged.

    Both are in the current format.
    """
    if "eval_gamma" not in before:  # written by an older version
        now = {name: value for name, value in described.items() if name not in ("eval_gamma", "chosen_on")}
        return _same(now, before | {"fields": _each(without_secrets, before["fields"])})
    return (
        set(described["agents"]) >= set(before["agents"])
        and all(
            _same_run(agent, *(_deciding(fields_of(info, env_id, agent)) for info in (described, before)))
            for env_id, agent in product(before["env_ids"], before["agents"])
        )
        and described["eval_gamma"] == before["eval_gamma"]
        and described["seeds"] >= before["seeds"]
        and described.get("first_seed", 0) == before.get("first_seed", 0)
        and set(described["env_ids"]) >= set(before["env_ids"])
    )


def fields_of(described: Mapping[str, Any], env_id: str, agent: str) -> dict[str, Any]:
    """Return the fields of an agent on an environment, as study.json tells them; {} where it tells none."""
    by_env = described.get("env_fields")
    return described["fields"][agent] if by_env is None else by_env.get(env_id, {}).get(agent, {})


def _deciding(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that decide results, without secrets: what W&B gets, and the like, isn't among them."""
    return {name: value for name, value in without_secrets(fields).items() if name not in IDLE}


def _same_run(agent: str, now: dict[str, Any], then: dict[str, Any]) -> bool:
    """Return whether runs of an agent with these fields are the same; what one of them doesn't give has its default."""
    return _same(with_defaults(agent, now, then), with_defaults(agent, then, now))


def _each(change: Callable[[Any], dict[str, Any]], fields_of: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {agent: change(fields) for agent, fields in fields_of.items()}


def _same(one: Any, other: Any) -> bool:
    """Return whether two values of JSON are equal, as far as can be told where secrets were removed.

    Which of them were known as secrets depends on the environment variables of that time.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, str) and isinstance(other, str):
        return _fits(one, other) or _fits(other, one)
    return one == other


def _fits(text: str, pattern: str) -> bool:
    """Return whether a text is one from which secrets were removed, or could be it before they were."""
    parts = map(re.escape, pattern.split(REMOVED))
    return re.fullmatch(".*".join(parts), text, re.DOTALL) is not None
