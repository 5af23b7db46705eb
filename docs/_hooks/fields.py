"""Tables of the fields of a Config: option, default and meaning, as they stand in the code."""

from __future__ import annotations

import ast
import dataclasses
import html
import inspect
import re
import textwrap
import typing
from itertools import pairwise
from typing import Any

from rl_lab.runs.config import RunConfig
from rl_lab.training.registry import make_learner

HEAD = "| option | default | meaning |\n|---|---|---|\n"


def run_fields() -> str:
    """Return the tables of the fields that every run has."""
    return _tables(RunConfig)


def agent_fields(agent: str) -> str:
    """Return the tables of an agent's fields; those to unfold are shared with other agents."""
    config = make_learner(agent).Config
    return _tables(config) or f"`{agent}` has no fields of its own."


def _tables(config: type) -> str:
    of_name = {field.name: field for field in dataclasses.fields(config)}
    out = []
    for title, names in _groups(config).items():
        table = HEAD + "".join(_row(config, of_name[name]) for name in names)
        shared = all(_is_shared(_owner(config, name)) for name in names)
        out.append(_unfolding(title, table) if shared else f"**{title}**\n\n{table}" if title else table)
    return "\n".join(out)


def _groups(config: type) -> dict[str, list[str]]:
    """Return {title: names}: as the GROUPS of the classes say, and what they leave out by the class that owns it."""
    groups: dict[str, list[str]] = {}
    for cls in config.__mro__:
        for title, names in vars(cls).get("GROUPS", {}).items():
            groups.setdefault(_capital(title), []).extend(names)
    grouped = {name for names in groups.values() for name in names}
    rest: dict[str, list[str]] = {}
    for name in (field.name for field in dataclasses.fields(config) if field.name not in grouped):
        owner = _owner(config, name)
        rest.setdefault(_capital(_first_line(owner)) if _is_shared(owner) else "", []).append(name)
    return rest | groups


def _is_shared(owner: type) -> bool:
    return owner.__module__.startswith("rl_lab.updates")


def _first_line(owner: type) -> str:
    return (owner.__doc__ or owner.__name__).splitlines()[0].rstrip(".")


def _capital(title: str) -> str:
    return title[:1].upper() + title[1:]


def _unfolding(title: str, table: str) -> str:
    return f'??? note "{title} (as in other agents)"\n\n' + textwrap.indent(table, "    ")


def _owner(config: type, name: str) -> type:
    """Return the class in which a field stands first."""
    return next(cls for cls in reversed(config.__mro__) if name in inspect.get_annotations(cls))


def _row(config: type, field: dataclasses.Field) -> str:
    meaning = _escape(_meaning(config, field.name))
    if choices := _choices(typing.get_type_hints(config)[field.name]):
        meaning += " One of " + ", ".join(f"`{choice}`" for choice in choices) + "."
    return f"| `--{field.name.replace('_', '-')}` | {_default(field)} | {meaning} |\n"


def _meaning(config: type, name: str) -> str:
    """Return the docstring beneath a field, in the class that says it last."""
    for cls in config.__mro__:
        if name in inspect.get_annotations(cls) and (found := _docstrings(cls).get(name)):
            return " ".join(found.split())
    raise ValueError(f"{config.__qualname__}.{name} has no docstring")


def _docstrings(cls: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    return {
        a.target.id: b.value.value
        for a, b in pairwise(body)
        if isinstance(a, ast.AnnAssign) and isinstance(b, ast.Expr) and isinstance(b.value, ast.Constant)
    }


def _choices(hint: Any) -> list[str]:
    """Return the words that a field allows; [] where it takes other values."""
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
    """Keep angle brackets and bars from being markup, but for what stands in backticks."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else html.escape(p, quote=False) for p in parts).replace(
        "|", "&#124;"
    )
