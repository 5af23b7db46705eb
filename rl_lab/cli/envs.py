"""The command that lists environments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated

import gymnasium
import tyro
from gymnasium.envs.registration import EnvSpec

from rl_lab.cli.listing import first_sentence, print_table
from rl_lab.cli.parsing import parse
from rl_lab.types import UsageError

ABOUT = """List environments: the lab's, Gymnasium's, and those of packages with an entry point in rl_lab.envs. Any
other environment registered with Gymnasium is used as module:id."""
MOST = 40  # ids of one package that are listed without being asked for


@dataclass(frozen=True)
class EnvsOptions:
    """What the command takes."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None
    """List only ids that contain this, regardless of case."""


def envs(argv: Sequence[str]) -> int:
    """Print each environment's id with a line on what it is; return the exit code.

    Raises:
        UsageError: a wrong option, or no id contains the name that was asked for.
    """
    options: EnvsOptions = parse(EnvsOptions, argv, program="rl-lab envs", about=ABOUT)
    for namespace, cause in load_namespaces().items():
        if options.name is None or options.name.lower() in namespace.lower():
            print(cause)
    rows = list(_rows(options.name))
    if not rows:
        raise UsageError(
            f"no environment's id contains {options.name!r} (allowed: part of an id, or nothing)"
        )
    print_table(rows)
    return 0


def load_namespaces() -> dict[str, str]:
    """Import the modules that register ids; return why some can't be imported, a line for each namespace."""
    causes = {}
    for entry in entry_points(group="rl_lab.envs"):
        try:
            entry.load()
        except ImportError as error:
            causes[entry.name] = f"{entry.name}/* needs a package that is missing: {error}"
    return causes


def _rows(name: str | None) -> Iterator[tuple[str, str]]:
    """Yield (id, line); a package with many ids is one row, unless a name asks for them."""
    for namespace, specs in _by_namespace().items():
        if name is None and len(specs) > MOST:
            yield (
                f"{namespace}/*",
                f"{len(specs)} ids, such as {specs[0].id}; rl-lab envs {namespace} lists them",
            )
        else:
            yield from ((s.id, _told(s)) for s in specs if name is None or name.lower() in s.id.lower())


def _by_namespace() -> dict[str | None, list[EnvSpec]]:
    """Return the newest version of each environment: of the entry points' namespaces, then Gymnasium's own."""
    namespaces = [entry.name for entry in entry_points(group="rl_lab.envs")]
    newest: dict[tuple[str | None, str], EnvSpec] = {}
    for spec in sorted(gymnasium.registry.values(), key=lambda s: s.version or 0):
        if spec.namespace in namespaces or (spec.namespace is None and _is_gymnasiums(spec)):
            newest[spec.namespace, spec.name] = spec
    order: list[str | None] = ["lab", *sorted({n for n, _ in newest if n is not None} - {"lab"}), None]
    return {n: [newest[key] for key in sorted(newest, key=str) if key[0] == n] for n in order}


def _is_gymnasiums(spec: EnvSpec) -> bool:
    return isinstance(spec.entry_point, str) and spec.entry_point.startswith("gymnasium.envs.")


def _told(spec: EnvSpec) -> str:
    """Return what an environment's class says of itself, and the arguments that its id fixes."""
    if not isinstance(spec.entry_point, str):
        return ""
    module, _, name = spec.entry_point.partition(":")
    line = first_sentence(module, name)
    fixed = ", ".join(f"{k}={v}" for k, v in spec.kwargs.items())
    return f"{line} ({fixed})" if fixed else line
