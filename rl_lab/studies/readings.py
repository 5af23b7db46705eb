"""The runs of a study read images alike, also where some of them began with an older version."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rl_lab.runs.description import CONFIG, read_description
from rl_lab.runs.migrations import READING
from rl_lab.training.readings import differing_reading
from rl_lab.training.setup import configure, problem_of
from rl_lab.types import UsageError


def require_same_readings(runs: Iterable[tuple[str, dict[str, Any], Path]]) -> None:
    """Check that runs which haven't begun would read images as those of the same agent and environment that have.

    Args:
        runs: the agent, its fields and those of the run, and the run directory of each.

    Raises:
        UsageError: they wouldn't, or a config.json is damaged.
        FormatTooNew: a newer version wrote one.
    """
    begun: dict[tuple[str, str], Path] = {}
    new: dict[tuple[str, str], dict[str, Any]] = {}
    for agent, fields, folder in runs:
        pair = (agent, fields["env_id"])
        if (folder / CONFIG).exists():
            begun.setdefault(pair, folder)
        else:
            new.setdefault(pair, fields)
    for pair in begun.keys() & new.keys():
        _require_same_reading(pair[0], new[pair], begun[pair])


def _require_same_reading(agent: str, fields: dict[str, Any], begun: Path) -> None:
    """Check that a run with these fields would read images as one that has begun.

    Raises:
        UsageError: it wouldn't.
    """
    there = read_description(begun).fields
    learner, config = configure(agent, fields)
    if all(there.get(name) == getattr(learner.config, name, None) for name in READING):
        return  # without making the environment
    space = problem_of(config, learner).spec.observation_space
    if (how := differing_reading(learner.config, space, there)) is not None:
        raise UsageError(
            f"{fields['env_id']} {agent}: {str(begun)!r} began with {how}, as older versions read images; runs of the"
            " same study would read them otherwise (allowed: a new folder)"
        )
