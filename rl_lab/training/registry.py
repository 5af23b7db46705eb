"""Learners by name, from the entry points of installed packages; only the one chosen is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from typing import Any

import yaml

from rl_lab.checks import unknown_name
from rl_lab.training.learner import Learner
from rl_lab.types import UsageError

GROUP = "rl_lab.agents"


def agent_names() -> list[str]:
    """Return the names of all installed learners."""
    return sorted(entry_points(group=GROUP).names)


@cache
def _factory(name: str) -> Callable[..., Learner]:
    found = entry_points(group=GROUP, name=name)
    if not found:
        raise UsageError(unknown_name("agent", name, agent_names()))
    try:
        return next(iter(found)).load()
    except ImportError as error:
        raise UsageError(f"agent {name!r} needs a package that is missing: {error}") from error


def make_learner(name: str, **fields: Any) -> Learner:
    """Build a learner by name.

    Raises:
        UsageError: unknown name or field, or a value out of range.
    """
    try:
        return _factory(name)(**_tupled(fields))
    except TypeError as error:
        raise UsageError(f"agent {name!r}: {error}") from error


def _tupled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON and YAML know no tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def preset_fields(agent: str, preset: str) -> dict[str, Any]:
    """Return the fields of a preset. They stand in `presets.yaml` of the package that brings the agent."""
    presets = _presets(agent)
    if preset not in presets:
        known = ", ".join(presets) or "none"
        raise UsageError(f"agent {agent!r} has no preset {preset!r} (allowed: {known})")
    return _tupled(presets[preset])


def has_preset(agent: str, preset: str) -> bool:
    """Say whether an agent knows a preset."""
    return preset in _presets(agent)


def _presets(agent: str) -> dict[str, dict[str, Any]]:
    entry = next(iter(entry_points(group=GROUP, name=agent)), None)
    if entry is None:
        raise UsageError(unknown_name("agent", agent, agent_names()))
    for package in _packages_around(entry.module):
        file = files(package) / "presets.yaml"
        if file.is_file():
            return yaml.safe_load(file.read_text(encoding="utf8")).get(agent, {})
    return {}


def _packages_around(module: str) -> list[str]:
    """Return the packages that hold a module, outermost first; importing them doesn't import the module."""
    parts = module.split(".")
    return [".".join(parts[:k]) for k in range(1, len(parts))] or [module]
