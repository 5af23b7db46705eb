"""Which agents have an option that the chosen one doesn't take."""

from __future__ import annotations

import dataclasses
import re

from rl_lab.training.registry import agent_names, config_of
from rl_lab.types import UsageError

UNRECOGNISED = re.compile(r"(?P<head>Unrecognized options: --(?P<option>[\w-]+)[^(]*) \(.*\)")
MOST_NAMES = 8


def with_owners(line: str, agent: str | None) -> str:
    """Return a complaint about an unrecognised option, with the agents that have it if there are any."""
    found = UNRECOGNISED.fullmatch(line)
    owners = owners_of(found["option"].replace("-", "_")) if found and agent else []
    if not found or not owners:
        return line
    more = len(owners) - MOST_NAMES
    named = ", ".join(owners[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
    return f"{found['head']} (--{found['option']} is a field of {named}, not of {agent}; --help-all lists all options)"


def owners_of(field: str) -> list[str]:
    """Return the names of the installed agents with a field; all of them are imported to find out."""
    owners = []
    for name in agent_names():
        try:
            fields = dataclasses.fields(config_of(name))
        except UsageError:  # a package of its own is missing
            continue
        if field in {one.name for one in fields}:
            owners.append(name)
    return owners
