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
    """Return the table of the fields that every run has."""
    return HEAD + "".join(_row(RunConfig, field) for field in dataclasses.fields(RunConfig))


def agent_fields(agent: str) -> str:
    """Return the table of an agent's own fields, and one to unfold for each group that it shares with others."""
    config = make_learner(agent).Config
    groups: dict[type, list[str]] = {}
    for field in dataclasses.fields(config):
        owner = _owner(config, field.name)
        key = owner if owner.__module__.startswith("rl_lab.updates") else config
        groups.setdefault(key, []).append(_row(config, field))
    if not groups:
        return f"`{agent}` has no fields of its own."
    own = HEAD + "".join(groups.pop(config, []))
    return own + "".join(_unfolding(owner, rows) for owner, rows in groups.items())


def _unfolding(owner: type, rows: list[str]) -> str:
    title = (owner.__doc__ or owner.__name__).splitlines()[0].rstrip(".")
    return f'\n??? note "Shared fields: {title[0].lower()}{title[1:]}"\n\n' + textwrap.indent(
        HEAD + "".join(rows), "    "
    )


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
