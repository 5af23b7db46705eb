"""The command that checks an environment for those who write one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

import tyro

from rl_lab.checks import above, at_least
from rl_lab.cli.parsing import parse
from rl_lab.environments.check_env import CHECKS, Finding
from rl_lab.environments.check_env import check_env as check
from rl_lab.environments.make import make_env
from rl_lab.environments.trial import tried
from rl_lab.types import EnvironmentFault

LIST = "\n".join(f"  {name}: {what}" for name, what in CHECKS.items())
ABOUT = f"""Check an environment over many steps and episodes. The exit code is 1 where agents can't learn in it.

Checks:
{LIST}"""


@dataclass(frozen=True)
class CheckEnvOptions:
    """What the command takes.

    Raises:
        UsageError: a value that isn't allowed.
    """

    env_id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV_ID")]
    """Gymnasium id, namespace/id of an installed package, or module:id."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment, as name=value."""
    wrappers: tuple[str, ...] = ()
    """Wrappers around the environment, each module:Class, from the inside out."""
    preprocess: Literal["auto", "none", "atari", "nature", "dopamine", "machado", "v5"] = "auto"
    """Wrappers of the environment, as rl-lab train has them."""
    steps: int = 1000
    """At least so many steps are played."""
    episodes: int = 3
    """At least so many episodes are begun."""
    seed: int = 0
    """Seed of the episodes and of the random legal actions."""
    env_timeout_seconds: float = 60.0
    """Longest that a step or a reset may take, or the making of the environment."""

    def __post_init__(self) -> None:
        at_least(self, 1, "steps", "episodes")
        at_least(self, 0, "seed")
        above(self, 0.0, "env_timeout_seconds")


def check_env(argv: Sequence[str]) -> int:
    """Check an environment in a process of its own and print the verdict; return 1 where a fault was found, else 0.

    Raises:
        UsageError: a wrong option, an environment that can't be made, or a space that no agent takes.
    """
    options: CheckEnvOptions = parse(CheckEnvOptions, argv, program="rl-lab check-env", about=ABOUT)
    make = partial(
        make_env, options.env_id, options.env_kwargs, wrappers=options.wrappers, preprocess=options.preprocess
    )
    work = partial(check, make, steps=options.steps, episodes=options.episodes, seed=options.seed)
    try:
        found = tried(work, options.env_timeout_seconds)
    except EnvironmentFault as fault:
        found = [Finding("contract", "fault", str(fault))]
    width = max(len(finding.check) for finding in found)
    for finding in found:
        print(f"{finding.verdict:5}  {finding.check.ljust(width)}  {finding.text}")
    faults = sum(finding.verdict == "fault" for finding in found)
    notes = sum(finding.verdict == "note" for finding in found)
    if faults:
        print(f"{options.env_id} can't be learned as it is: {faults} fault{'s' * (faults > 1)}")
    else:
        print(f"{options.env_id} can be learned" + (f"; {notes} note{'s' * (notes > 1)}" if notes else ""))
    return 1 if faults else 0
