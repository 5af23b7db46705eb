"""The command that lists presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from rl_lab.cli.listing import print_table
from rl_lab.cli.parsing import parse
from rl_lab.training.registry import agent_names, preset_fields, presets_of

ABOUT = """List the presets of all agents, or of one; with an agent and a preset, list the fields that it sets.
Presets are used as in rl-lab train --agent AGENT --env-id ID --preset PRESET."""


@dataclass(frozen=True)
class PresetsOptions:
    """What the command takes."""

    agent: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[AGENT]")] = None
    """Agent whose presets to list; by default all agents'."""
    preset: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[PRESET]")] = None
    """Preset whose fields to list."""


def presets(argv: Sequence[str]) -> int:
    """Print presets and what they set; return the exit code.

    Raises:
        UsageError: a wrong option, or an unknown agent or preset.
    """
    options: PresetsOptions = parse(PresetsOptions, argv, program="rl-lab presets", about=ABOUT)
    if options.agent is not None and options.preset is not None:
        print_table(
            (name, _text(value)) for name, value in preset_fields(options.agent, options.preset).items()
        )
        return 0
    names = agent_names() if options.agent is None else [options.agent]
    print_table(
        (agent, preset, _one_line(fields)) for agent in names for preset, fields in presets_of(agent).items()
    )
    return 0


def _one_line(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_text(value)}" for name, value in fields.items())


def _text(value: Any) -> str:
    """Return a value as the command line takes it, on one line."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ",".join(f"{k}={_text(v)}" for k, v in value.items())
    return str(value).replace("\n", "\\n")
