"""Learners and their presets by name, from the entry points of installed packages.

Only the learner that is asked for is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

import yaml

from rl_lab.checks import plain_fields, require_kinds, unknown_name
from rl_lab.extras import missing
from rl_lab.training.learner import Learner
from rl_lab.types import UsageError

GROUP = "rl_lab.agents"
CHOSEN_ON = "chosen_on_seeds"  # beside the fields of a preset, but none of them


def agent_names() -> list[str]:
    """Return the names of all installed learners."""
    return sorted(entry_points(group=GROUP).names)


def agent_entry(name: str) -> EntryPoint:
    """Return the entry point of a learner, without importing its module.

    Raises:
        UsageError: unknown name.
    """
    found = next(iter(entry_points(group=GROUP, name=name)), None)
    if found is None:
        raise UsageError(_unknown(name))
    return found


def _unknown(name: str) -> str:
    message, names = unknown_name("agent", name, agent_names()), agent_names()
    owners = [agent for agent in names if name in presets_of(agent)]
    return f"{message[:-1]}; a preset of {', '.join(owners)})" if owners else message


@cache
def _factory(name: str) -> Callable[..., Learner]:
    """Return the factory of a learner, imported.

    Raises:
        UsageError: unknown name, or a package that is missing.
    """
    entry = agent_entry(name)
    try:
        return entry.load()
    except ImportError as error:
        raise UsageError(missing(f"agent {name!r}", error, entry)) from error


def config_of(name: str) -> type:
    """Return the dataclass of a learner's fields.

    Factories made with `built_from` name it in their attribute `Config`. One that doesn't is called once,
    with no fields, and its learner is asked.

    Raises:
        UsageError: unknown name, or a package that is missing.
    """
    return _config_of(_factory(name))


@cache
def _config_of(factory: Callable[..., Learner]) -> type:
    config = getattr(factory, "Config", None)
    return factory().Config if config is None else config


def make_config(name: str, /, **fields: Any) -> Any:
    """Return the config that a learner of this name and these fields has, without building the learner.

    Raises:
        UsageError: unknown name or field, or a value out of range.
    """
    config = config_of(name)
    try:
        return config(**_checked(config, fields))
    except TypeError as error:
        raise UsageError(f"agent {name!r}: {error}") from error


def make_learner(name: str, /, **fields: Any) -> Learner:
    """Build a learner by name.

    Raises:
        UsageError: unknown name or field, or a value out of range.
    """
    try:
        return _factory(name)(**_checked(config_of(name), fields))
    except TypeError as error:
        raise UsageError(f"agent {name!r}: {error}") from error


def _checked(config: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields as a config holds them.

    Raises:
        UsageError: one of another type than is declared.
    """
    plain = plain_fields(config, fields)
    require_kinds(config, plain)
    return plain


def with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with their lists as tuples, which JSON and YAML don't have."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def preset_fields(agent: str, preset: str) -> dict[str, Any]:
    """Return the fields of a preset.

    Raises:
        UsageError: unknown agent or preset.
    """
    presets = presets_of(agent)
    if preset not in presets:
        known = ", ".join(presets) or "none"
        raise UsageError(f"agent {agent!r} has no preset {preset!r} (allowed: {known})")
    return presets[preset]


def has_preset(agent: str, preset: str) -> bool:
    """Return whether an agent has a preset of this name."""
    return preset in presets_of(agent)


def presets_of(agent: str) -> dict[str, dict[str, Any]]:
    """Return the fields of all presets of an agent, by name, without importing the agent.

    They are read from `presets.yaml` in the outermost package around the agent's module that has one.

    Raises:
        UsageError: unknown agent.
    """
    return {
        name: with_tuples({field: value for field, value in entries.items() if field != CHOSEN_ON})
        for name, entries in _presets_as_written(agent).items()
    }


def seeds_chosen_on(agent: str, preset: str) -> tuple[int, ...]:
    """Return the seeds on which a preset says that it was chosen; () if it names none, or there is no such preset.

    Raises:
        UsageError: unknown agent, or something else than a list of seeds.
    """
    seeds = _presets_as_written(agent).get(preset, {}).get(CHOSEN_ON, [])
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise UsageError(f"preset {preset!r} of {agent!r}: {CHOSEN_ON} {seeds!r} (allowed: a list of seeds)")
    return tuple(seeds)


def _presets_as_written(agent: str) -> dict[str, dict[str, Any]]:
    """Return what presets.yaml says of an agent's presets, by name. Raises UsageError for an unknown agent."""
    for package in _packages_around(agent_entry(agent).module):
        file = files(package) / "presets.yaml"
        if file.is_file():
            presets = (yaml.safe_load(file.read_text(encoding="utf8")) or {}).get(agent) or {}
            return {name: entries or {} for name, entries in presets.items()}
    return {}


def _packages_around(module: str) -> list[str]:
    """Return the packages that hold a module, outermost first; of a module at the top, itself if it is a package."""
    parts = module.split(".")
    names = [".".join(parts[:k]) for k in range(1, len(parts))] or [module]
    return [name for name in names if _is_package(name)]


def _is_package(name: str) -> bool:
    """Return whether this is a package that is there; a single module has no folder for a presets.yaml."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.submodule_search_locations is not None
