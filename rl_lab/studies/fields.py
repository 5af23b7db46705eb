"""The fields of each run of a study: those of its preset, of all agents, of its environment and of its agent."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rl_lab.checks import shown
from rl_lab.runs.config import RunConfig
from rl_lab.studies.fairness import in_words
from rl_lab.studies.running import learner_of
from rl_lab.training.registry import config_of, has_preset, preset_fields
from rl_lab.types import UsageError

PLACE = "{env_id}"  # in the name of a preset: the environment's id
PRESET = "preset"  # among the fields of an agent or of an environment: the name of the preset there
OWN = ("env_id", "seed", "run_dir")  # the fields of a run that its study sets

Fields = Mapping[str, Any]


def with_defaults(agent: str, fields: Fields, names: Iterable[str]) -> dict[str, Any]:
    """Return fields of an agent's runs, and the defaults of those of the names that they lack, as study.json has them.

    Names without a default stay out, as do all names if the agent isn't installed.
    """
    try:
        kinds = RunConfig, config_of(learner_of(agent))
    except UsageError:
        return dict(fields)
    known = {field.name: field.default for kind in kinds for field in dataclasses.fields(kind)}
    lacking = {name: known[name] for name in names if name not in fields and name in known}
    given = {name: value for name, value in lacking.items() if value is not dataclasses.MISSING}
    return dict(fields) | json.loads(json.dumps(given))


def fields_of_run(
    agent: str, env_id: str | None, preset: str | None, shared: Fields, own: Fields, on_env: Fields
) -> dict[str, Any]:
    """Return the fields of an agent's runs on an environment; those that come later take precedence.

    They are those of the preset, of all agents, of all agents on this environment, of this agent, and of this agent on
    this environment.

    Args:
        env_id: None for what doesn't depend on the environment.
        preset: its name, which may hold `{env_id}`; an agent that has none of this name begins from its defaults.
        shared: fields of all agents.
        own: fields of this agent; "preset" for another preset.
        on_env: fields on this environment; "agent:name" for one agent alone, "preset" for another preset.
    """
    everyone, alone = _on_env(agent, on_env)
    chosen = preset_of(agent, env_id, preset, own, on_env)
    base = {} if chosen is None else preset_fields(learner_of(agent), chosen)
    found = base | dict(shared) | everyone | dict(own) | alone
    return {name: value for name, value in found.items() if name != PRESET}


def preset_of(agent: str, env_id: str | None, preset: str | None, own: Fields, on_env: Fields) -> str | None:
    """Return the preset from which an agent's runs on an environment begin; None if they begin from its defaults.

    The arguments are those of `fields_of_run`.
    """
    everyone, alone = _on_env(agent, on_env)
    chosen = preset_on(env_id, (everyone | dict(own) | alone).get(PRESET, preset))
    return chosen if chosen is not None and has_preset(learner_of(agent), chosen) else None


def _on_env(agent: str, on_env: Fields) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields on an environment that are for all agents, and those for one alone."""
    everyone = {name: value for name, value in on_env.items() if ":" not in name}
    alone = {
        name.partition(":")[2]: value
        for name, value in on_env.items()
        if ":" in name and name.partition(":")[0] in (agent, learner_of(agent))
    }
    return everyone, alone


def preset_on(env_id: str | None, preset: str | None) -> str | None:
    """Return the preset's name on an environment; None without one, or where it depends on an environment not given."""
    if preset is None or PLACE not in preset:
        return preset
    return None if env_id is None else preset.replace(PLACE, env_id)


def require_presets(preset: str | None, env_ids: Sequence[str], agents: Sequence[str]) -> None:
    """Check that on each environment some agent has the preset of all.

    Raises:
        UsageError: none has, with the presets that each of them has; or the preset isn't a name.
    """
    if not isinstance(preset, str | None):
        raise UsageError(f"preset must be a name, got {shown(preset)}")
    for name in dict.fromkeys(preset_on(env_id, preset) for env_id in env_ids):
        if name is not None and not any(has_preset(learner_of(agent), name) for agent in agents):
            raise UsageError("; ".join(_refusals(agents, name)))


def _refusals(agents: Sequence[str], preset: str) -> Iterator[str]:
    """Yield why each agent lacks a preset."""
    for agent in agents:
        try:
            preset_fields(learner_of(agent), preset)
        except UsageError as error:
            yield str(error)


def require_fields(
    shared: Fields, fields_of: Mapping[str, Fields], env_ids: Sequence[str], agents: Sequence[str]
) -> None:
    """Check that fields are given for agents of the study, whose presets they have, and none that a study sets.

    Raises:
        UsageError: they aren't.
    """
    for agent in fields_of:
        if agent not in agents:
            raise UsageError(f"fields are given for agent {agent!r}, which isn't compared")
    for fields in (shared, *fields_of.values()):
        _require_not_own(fields)
    if PRESET in shared:
        raise UsageError(
            f"preset {shown(shared[PRESET])} is no field of a run (allowed: the study's preset, for all agents that"
            " have it, or AGENT:preset=NAME for one)"
        )
    _require_shared(shared, agents)
    for agent, fields in fields_of.items():
        if PRESET in fields:
            for env_id in env_ids:
                require_presets(fields[PRESET], (env_id,), (agent,))


def _require_shared(shared: Fields, agents: Sequence[str]) -> None:
    """Check that all agents have a field that is given for all, if any has it.

    Raises:
        UsageError: one hasn't.
    """
    of_run = {*RunConfig.ALIASES, *(f.name for f in dataclasses.fields(RunConfig))}
    known = {agent: {f.name for f in dataclasses.fields(config_of(learner_of(agent)))} for agent in agents}
    for name in shared.keys() - of_run:
        having = [agent for agent in agents if name in known[agent]]
        if having and (lacking := [agent for agent in agents if agent not in having]):
            raise UsageError(
                f"{name} {shown(shared[name])} is given for all agents, and {lacking[0]!r} has no such field"
                f" (allowed: {having[0]}:{name} for one that has it)"
            )


def _require_not_own(fields: Fields) -> None:
    """Check that no field is one that the study sets.

    Raises:
        UsageError: one is.
    """
    if own := [name for name in OWN if name in fields]:
        raise UsageError(
            f"{own[0]} can't be given for the runs of a study, which sets {', '.join(OWN)} for each of them"
            " (allowed: its own environments, number of seeds, and folder)"
        )


def _bare(on_env: Fields) -> dict[str, Any]:
    """Return the fields on an environment under their own names, whichever agents they are for."""
    return {name.rpartition(":")[2]: value for name, value in on_env.items()}


def require_env_fields(
    env_fields: Mapping[str, Fields], env_ids: Sequence[str], agents: Sequence[str]
) -> None:
    """Check that fields on single environments are for environments and agents of the study, and none that it sets.

    Raises:
        UsageError: they don't.
    """
    for env_id, fields in env_fields.items():
        if env_id not in env_ids:
            raise UsageError(f"fields are given for environment {env_id!r}, which isn't compared")
        _require_not_own(_bare(fields))
        for name, value in fields.items():
            agent, colon, field = name.partition(":")
            if colon and agent not in agents:
                raise UsageError(f"fields are given for agent {agent!r} on {env_id}, which isn't compared")
            if PRESET in (name, field):
                require_presets(value, (env_id,), (agent,) if colon else agents)


def tell_without_preset(
    preset: str | None, env_id: str, own: Mapping[str, Fields], on_env: Fields, tell: Callable[[str], None]
) -> None:
    """Tell a line of the agents that have no preset of the name that all are given, and none of their own here.

    Args:
        own: the fields of each agent.
    """
    name = preset_on(env_id, on_env.get(PRESET, preset))
    lacking = [
        agent
        for agent, fields in own.items()
        if name
        and PRESET not in {**fields, **_on_env(agent, on_env)[1]}
        and not has_preset(learner_of(agent), name)
    ]
    if lacking:
        has = "has" if len(lacking) == 1 else "have"
        tell(f"{env_id}: {in_words(lacking)} {has} no preset {name!r}; their defaults hold")
