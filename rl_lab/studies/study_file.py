"""A study in one file of YAML: what is compared, on what, with which fields, and how long that takes.

about: What the study asks, in a sentence.
expected_time: about 3 hours with 2 workers on 2 cores
agents: [dqn, sb3-dqn]
seeds: 10
preset: "zoo:{env_id}"        # {env_id} stands for the environment's id
fields:                       # for all agents; "agent:name" for one
  eval_episodes: 20
environments:                 # by id, each with the fields that hold there alone; "preset" may be among them
  CartPole-v1:
  LunarLander-v3: {total_steps: 100000}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rl_lab.checks import count, shown, unknown_name
from rl_lab.runs.config import number_or_same
from rl_lab.storage.yaml_text import read_yaml_file
from rl_lab.studies.decision import Plan
from rl_lab.studies.fields import PRESET
from rl_lab.studies.study import Study
from rl_lab.types import UsageError

Fields = dict[str, Any]

SEEDS = 3  # by default


@dataclass(frozen=True)
class StudyFile:
    """What a study's file holds."""

    about: str
    """What the study asks."""
    expected_time: str
    """How long it takes, and on what."""
    agents: tuple[str, ...]
    environments: Mapping[str, Fields]
    """Fields on each environment, by id."""
    seeds: int = SEEDS
    first_seed: int = 0
    preset: str | None = None
    fields: Fields = field(default_factory=dict)
    """Fields of all agents, and as "agent:name" those of one."""

    def study(
        self, seeds: int | None = None, first_seed: int | None = None, plan: Plan | None = None
    ) -> Study:
        """Return the study.

        Args:
            seeds: takes the place of the file's number of seeds.
            first_seed: takes the place of the file's.
            plan: takes the place of any number of seeds.

        Raises:
            UsageError: a name is unknown, or a value is wrong.
        """
        chosen = self.seeds if seeds is None and plan is None else seeds_of(seeds, plan)
        shared = {name: value for name, value in self.fields.items() if ":" not in name}
        single: dict[str, Fields] = {}
        for name, value in self.fields.items():
            agent, colon, own = name.partition(":")
            if colon:
                single.setdefault(agent, {})[own] = value
        on_env = {env_id: fields for env_id, fields in self.environments.items() if fields}
        return Study(
            tuple(self.environments),
            self.agents,
            chosen,
            shared,
            single,
            self.preset,
            env_fields=on_env,
            first_seed=self.first_seed if first_seed is None else first_seed,
            until_decided=plan,
        )

    def given(
        self,
        shared: Mapping[str, Any],
        single: Mapping[str, Mapping[str, Any]],
        *,
        env_ids: Sequence[str] = (),
        agents: Sequence[str] = (),
        preset: str | None = None,
    ) -> StudyFile:
        """Return the file with what takes precedence over it.

        Args:
            shared: fields of all agents.
            single: fields of single agents, by name.
            env_ids: environments in the place of the file's, whose fields they keep; none: the file's.
            agents: agents in the place of the file's; none: the file's. What the file says of those left out goes
                with them.
            preset: takes the place of all presets that the file names; None: they stay.
        """
        alone = {
            f"{agent}:{name}": value for agent, fields in single.items() for name, value in fields.items()
        }
        file = self._for_agents(tuple(agents)) if agents else self
        file = file.overridden({**shared, **alone}, preset)
        environments = {e: file.environments.get(e, {}) for e in env_ids or file.environments}
        return replace(file, environments=environments)

    def _for_agents(self, agents: tuple[str, ...]) -> StudyFile:
        left_out = set(self.agents) - set(agents)

        def kept(fields: Fields) -> Fields:
            return {k: v for k, v in fields.items() if k.rpartition(":")[0] not in left_out}

        environments = {env_id: kept(own) for env_id, own in self.environments.items()}
        return replace(self, agents=agents, fields=kept(self.fields), environments=environments)

    def overridden(self, fields: Mapping[str, Any], preset: str | None = None) -> StudyFile:
        """Return the file with other fields, which hold on all environments; as "agent:name" for one agent.

        Args:
            preset: takes the place of all presets that the file names; None: they stay.
        """
        names = set(fields) | ({PRESET} if preset is not None else set())
        kept = {env_id: _without(own, names) for env_id, own in self.environments.items()}
        found = _without(self.fields, names) | dict(fields)
        return replace(self, fields=found, environments=kept, preset=preset or self.preset)


def seeds_of(seeds: int | None, plan: Plan | None) -> int:
    """Return the number of seeds that every agent gets at least.

    Raises:
        UsageError: it is wrong, or given beside a plan.
    """
    if plan is None:
        return SEEDS if seeds is None else count("seeds", seeds)
    if seeds is not None:
        raise UsageError(
            f"seeds {seeds} can't be given beside until_decided (allowed: max_seeds, group_size)"
        )
    return plan.group_size


def _without(fields: Mapping[str, Any], names: set[str]) -> Fields:
    """Return the fields that aren't named: "name" stands for that field of every agent."""
    return {k: v for k, v in fields.items() if k not in names and k.rpartition(":")[2] not in names}


TEXTS = ("about", "expected_time")
NEEDED = (*TEXTS, "agents")
ALLOWED = (*NEEDED, "environments", "seeds", "first_seed", "preset", "fields")


def read_study_file(path: str | Path) -> StudyFile:
    """Read a study's file.

    Raises:
        UsageError: it can't be read, or doesn't hold what it should; the message names the file.
    """
    loaded = read_yaml_file(path, "study file")
    try:
        return _study_file(loaded)
    except UsageError as error:
        raise UsageError(f"study file {str(path)!r}: {error}") from error


def _study_file(loaded: Any) -> StudyFile:
    if not isinstance(loaded, dict):
        raise UsageError(f"must hold name: value pairs, got {shown(loaded)}")
    for name in loaded:
        if name not in ALLOWED:
            raise UsageError(unknown_name("entry", str(name), list(ALLOWED)))
    if absent := [name for name in NEEDED if name not in loaded]:
        raise UsageError(f"entries are missing: {', '.join(absent)}")
    for name in TEXTS:
        if not isinstance(loaded.get(name), str):
            raise UsageError(f"{name} must be text, got {shown(loaded.get(name))}")
    agents, preset = loaded.get("agents"), loaded.get("preset")
    if not isinstance(agents, list) or not all(isinstance(agent, str) for agent in agents):
        raise UsageError(f"agents must be a list of names, got {shown(agents)}")
    if not isinstance(preset, str | None):
        raise UsageError(f"preset must be text, got {shown(preset)}")
    environments = _fields("environments", loaded.get("environments"))
    return StudyFile(
        about=loaded["about"],
        expected_time=loaded["expected_time"],
        agents=tuple(agents),
        environments={env_id: _fields(env_id, fields) for env_id, fields in environments.items()},
        seeds=count("seeds", loaded.get("seeds", SEEDS)),
        first_seed=count("first_seed", loaded.get("first_seed", 0), 0),
        preset=preset,
        fields=_fields("fields", loaded.get("fields")),
    )


def _fields(name: str, given: Any) -> Fields:
    """Return name: value pairs; {} for none."""
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        raise UsageError(f"{name} must hold name: value pairs, got {shown(given)}")
    return {key: number_or_same(value) for key, value in given.items()}
