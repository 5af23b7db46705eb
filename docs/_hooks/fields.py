"""Tables of the fields of a Config: option, default and meaning, read from the code."""

from __future__ import annotations

import dataclasses
import html
import inspect
import re
import textwrap
import typing
from collections.abc import Iterable
from typing import Any

from rl_lab.cli.groups import field_texts, groups_of
from rl_lab.runs.config import RunConfig
from rl_lab.training.registry import config_of

HEAD = "| option | default | meaning |\n|---|---|---|\n"


def run_fields() -> str:
    """Return the tables of the fields that every run has."""
    return "\n".join(
        _titled(title, _table(RunConfig, names)) for title, names in groups_of(RunConfig, "").items()
    )


def agent_fields(agent: str) -> str:
    """Return the tables of an agent's fields; those it shares with other agents are folded."""
    config = config_of(agent)
    groups = groups_of(config, "")
    if not groups:
        return f"`{agent}` has no fields of its own."
    return "\n".join(part for title, names in groups.items() for part in _parts(config, title, names))


def _parts(config: type, title: str, names: Iterable[str]) -> Iterable[str]:
    """Yield a group's table of the agent's own fields and the folded one of its shared fields, where it has any."""
    names = list(names)
    shared = [name for name in names if _is_shared(config, name)]
    if own := [name for name in names if name not in shared]:
        yield _titled(title, _table(config, own))
    if shared:
        yield _folded(title, _table(config, shared))


def _is_shared(config: type, name: str) -> bool:
    """Return whether a field is declared outside the agents; an agent may still override its default."""
    declares = next(cls for cls in reversed(config.__mro__) if name in inspect.get_annotations(cls))
    return not f"{declares.__module__}.".startswith("rl_lab.agents.")


def _titled(title: str, table: str) -> str:
    return f"**{_capital(title)}**\n\n{table}" if title else table


def _folded(title: str, table: str) -> str:
    return f'??? note "{_capital(title)} (shared with other agents)"\n\n' + textwrap.indent(table, "    ")


def _capital(title: str) -> str:
    return title[:1].upper() + title[1:]


def _table(config: type, names: Iterable[str]) -> str:
    fields = {field.name: field for field in dataclasses.fields(config)}
    texts, hints = field_texts(config), typing.get_type_hints(config)
    return HEAD + "".join(_row(fields[name], texts[name], hints[name]) for name in names)


def _row(field: dataclasses.Field, text: str, hint: Any) -> str:
    meaning = _escape(text)
    if choices := _choices(hint):
        meaning += " One of " + ", ".join(f"`{choice}`" for choice in choices) + "."
    return f"| `--{field.name.replace('_', '-')}` | {_default(field)} | {meaning} |\n"


def _choices(hint: Any) -> list[str]:
    """Return the words that a field allows; [] if it takes other values."""
    return [
        word for part in (hint, *typing.get_args(hint)) for word in typing.get_args(part) if type(word) is str
    ]


def _default(field: dataclasses.Field) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return "none"
    if field.default is dataclasses.MISSING:
        return "required"
    value = field.default
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, tuple):
        return f"`{' '.join(map(str, value))}`"
    return f"`{value:,}`" if type(value) is int else f"`{value}`"


def _escape(text: str) -> str:
    """Keep angle brackets and bars outside backticks from being read as markup."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else html.escape(p, quote=False) for p in parts).replace(
        "|", "&#124;"
    )
