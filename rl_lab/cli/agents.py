"""The command that lists agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rl_lab.cli.listing import first_sentence, missing_import, print_table
from rl_lab.cli.parsing import parse
from rl_lab.extras import remedy
from rl_lab.training.registry import agent_entry, agent_names

ABOUT = "List the installed agents. rl-lab train --agent NAME --help lists the fields of one."


@dataclass(frozen=True)
class AgentsOptions:
    """The command takes no options."""


def agents(argv: Sequence[str]) -> int:
    """Print each agent with a line on what it does; return the exit code.

    Raises:
        UsageError: a wrong option.
    """
    parse(AgentsOptions, argv, program="rl-lab agents", about=ABOUT)
    print_table((name, _told(name)) for name in agent_names())
    return 0


def _told(name: str) -> str:
    entry = agent_entry(name)
    told = first_sentence(entry.module, entry.attr)
    if (module := missing_import(entry.module)) is None:
        return told
    return f"{told} (not installed: {remedy(entry, module) or f'module {module}'})"
