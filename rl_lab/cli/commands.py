"""The command `rl-lab`: its subcommands, each of which is a module of this package."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from rl_lab.checks import unknown_name
from rl_lab.cli.parsing import HELP, PROGRAM, main
from rl_lab.types import UsageError

COMMANDS = {
    "train": "Train an agent, or resume a run.",
    "compare": "Compare agents over several seeds and write a page.",
    "watch": "Show or film a trained agent.",
    "diagnose": "Say why a run's policy falls short of the optimum.",
    "export": "Write a policy as files that run without the lab.",
    "record": "Record a policy's transitions as a dataset.",
    "sync": "Make W&B runs from the local files of runs.",
    "check-env": "Check an environment over many steps: what it returns, seeding, replay and five more.",
    "solve": "Solve the finite MDP of an environment exactly.",
    "textbook": "Make figures of Sutton and Barto's book.",
    "agents": "List the agents.",
    "envs": "List the environments.",
    "presets": "List the agents' presets.",
    "benchmark": "Time the lab beside a peer.",
    "verify": "Check on this machine that a killed run loses nothing.",
    "torture": "Verify with hundreds of kills.",
}
"""Each is a function in the module of its name (with _ for -) in `rl_lab.cli`; only the one called is imported."""

SHELLS = ("bash", "zsh", "fish")


def dispatch(argv: Sequence[str]) -> int:
    """Run the subcommand that a command line names; return the exit code.

    Raises:
        UsageError: an unknown subcommand.
    """
    first, *rest = argv or ["--help"]
    if first in HELP:
        print(usage())
    elif first == "--version":
        print(f"{PROGRAM} {_version()}")
    elif first == "--print-completion":
        _print_completion(rest)
    elif first in COMMANDS:
        name = first.replace("-", "_")
        return getattr(import_module(f"rl_lab.cli.{name}"), name)(rest)
    else:
        raise UsageError(unknown_name("command", first, list(COMMANDS)))
    return 0


def usage() -> str:
    """Return the list of subcommands."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND [OPTIONS]",
            "",
            *(f"  {name.ljust(width)}  {text}" for name, text in COMMANDS.items()),
            "",
            f"{PROGRAM} COMMAND --help lists the options of a command; {PROGRAM} --version prints the version.",
            f"{PROGRAM} --print-completion bash > FILE writes a script that completes commands and options once the",
            "shell has read it (source FILE); the same for zsh and fish.",
        ]
    )


def _version() -> str:
    import rl_lab

    return rl_lab.__version__


def _print_completion(words: Sequence[str]) -> None:
    """Print the script that completes commands in a shell.

    Raises:
        UsageError: not the name of one shell.
    """
    from rl_lab.cli.completion import completion_script

    if len(words) != 1 or words[0] not in SHELLS:
        raise UsageError(
            f"--print-completion needs a shell, got {' '.join(words)!r} (allowed: {', '.join(SHELLS)})"
        )
    print(completion_script(words[0], COMMANDS))


def entry() -> NoReturn:
    """Run the command line of this process; the console command and `python -m rl_lab` call it."""
    main(dispatch)
