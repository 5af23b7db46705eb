"""The fields of each run of a study: those of its preset, of all agents, of its environment and of its agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rl_lab.studies.fairness import in_words
from rl_lab.studies.running import learner_of
from rl_lab.training.registry import has_preset, preset_fields
from rl_lab.types import UsageError

PLACE = "{env_id}"  # in the name of a preset: the environment's id
PRESET = "preset"  # among the fields of an environment: the name of the preset there

Fields = Mapping[str, Any]


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
        own: fields of this agent.
        on_env: fields on this environment; "agent:name" for one agent alone, "preset" for another preset.
    """
    everyone, alone = _on_env(agent, on_env)
    chosen = preset_of(agent, env_id, preset, on_env)
    base = {} if chosen is None else preset_fields(learner_of(agent), chosen)
    found = base | dict(shared) | everyone | dict(own) | alone
    return {name: value for name, value in found.items() if name != PRESET}


def preset_of(agent: str, env_id: str | None, preset: str | None, on_env: Fields) -> str | None:
    """Return the preset from which an agent's runs on an environment begin; None if they begin from its defaults.

    The arguments are those of `fields_of_run`.
    """
    everyone, alone = _on_env(agent, on_env)
    chosen = preset_on(env_id, (everyone | alone).get(PRESET, preset))
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
        UsageError: none has, with the presets that each of them has.
    """
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


def bare(on_env: Fields) -> dict[str, Any]:
    """Return the fields on an environment under their own names, whichever agents they are for."""
    return {name.rpartition(":")[2]: value for name, value in on_env.items()}


def require_env_fields(
    env_fields: Mapping[str, Fields], env_ids: Sequence[str], agents: Sequence[str]
) -> None:
    """Check that fields on single environments name environments and agents of the study, and presets that there are.

    Raises:
        UsageError: they don't.
    """
    for env_id, fields in env_fields.items():
        if env_id not in env_ids:
            raise UsageError(f"fields are given for environment {env_id!r}, which isn't compared")
        for name, value in fields.items():
            agent, colon, field = name.partition(":")
            if colon and agent not in agents:
                raise UsageError(f"fields are given for agent {agent!r} on {env_id}, which isn't compared")
            if colon and field == PRESET:
                preset_fields(learner_of(agent), preset_on(env_id, value) or "")
            elif name == PRESET:
                require_presets(value, (env_id,), agents)


def tell_without_preset(
    preset: str | None, env_id: str, agents: Sequence[str], on_env: Fields, tell: Callable[[str], None]
) -> None:
    """Tell a line of the agents that have no preset of the name that all are given, and none of their own here."""
    name = preset_on(env_id, on_env.get(PRESET, preset))
    lacking = [
        a for a in agents if name and f"{a}:{PRESET}" not in on_env and not has_preset(learner_of(a), name)
    ]
    if lacking:
        has = "has" if len(lacking) == 1 else "have"
        tell(f"{env_id}: {in_words(lacking)} {has} no preset {name!r}; their defaults hold")
