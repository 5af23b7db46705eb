"""Says how a study differs from the one that its folder holds, for the line that refuses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from rl_lab.checks import shown
from rl_lab.runs.description import IDLE
from rl_lab.runs.scrubbing import without_secrets
from rl_lab.studies.extends import fields_of
from rl_lab.studies.fields import with_defaults

MOST = 3  # that are named
LONGEST = 60  # characters of a value
HAS_NONE = object()  # of a field that neither was given nor has a default


def how_it_differs(described: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """Return what keeps a study from extending another one, with a semicolon; "" if it can't be told from these.

    Args:
        described: study.json as it is to be.
        before: study.json as it is, in the current format.
    """
    found = list(_differences(described, before))
    more = [f"and {len(found) - MOST} more"] * (len(found) > MOST)
    return ", ".join(found[:MOST] + more) + "; " * bool(found)


def _differences(described: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    for name in ("agents", "env_ids"):
        yield from (f"{name} lack {value}" for value in before[name] if value not in described[name])
    if isinstance(before["seeds"], int) and described["seeds"] < before["seeds"]:
        yield f"seeds {described['seeds']} instead of {before['seeds']}"
    yield from dict.fromkeys(
        _differing_fields(described, before)
    )  # said once, even if of several environments
    if (first := described.get("first_seed", 0)) != (former_first := before.get("first_seed", 0)):
        yield f"first_seed {first} instead of {former_first}"
    if (gamma := described["eval_gamma"]) != (former := before.get("eval_gamma", gamma)):
        yield f"eval_gamma {gamma} instead of {former}"


def _differing_fields(described: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    by_env = any("env_fields" in info for info in (described, before))
    for agent, env_id in product(before["agents"], before["env_ids"]):
        if agent not in described["agents"] or env_id not in described["env_ids"]:
            continue
        now, then = (without_secrets(fields_of(info, env_id, agent)) for info in (described, before))
        both = sorted(now.keys() | then.keys())
        now, then = (with_defaults(agent, fields, both) for fields in (now, then))
        for name in both:
            values = [shown(fields[name], LONGEST) if name in fields else "none" for fields in (now, then)]
            if name not in IDLE and (now.get(name, HAS_NONE) != then.get(name, HAS_NONE)):
                yield f"{name} {' instead of '.join(values)} for {agent}" + f" on {env_id}" * by_env
