"""The boxes of a command's help: which fields stand together, and which of them the short help shows.

A dataclass says so in two class attributes, which are put together over the classes it inherits from:

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {"exploration": ("epsilon", "epsilon_final")}  # title: fields
    COMMON: ClassVar[tuple[str, ...]] = ("epsilon",)                                       # in the short help

Both may be missing: fields that no group names share a box of their own, and without COMMON all fields are shown.
"""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_type_hints

import docstring_parser
import tyro


@dataclass(frozen=True)
class Part:
    """The fields of one dataclass as a command offers them."""

    default: Any
    """An instance, whose values hold where the command line gives none; tyro.MISSING: the field is required."""
    rest: str
    """Title for the fields that no group names."""


def groups_of(kind: type, rest: str) -> dict[str, tuple[str, ...]]:
    """Return {title: names of fields} of a dataclass; fields that no group names stand under `rest`."""
    groups = _named_groups(kind)
    others = _ungrouped(kind)
    return groups | ({rest: groups.get(rest, ()) + others} if others else {})


def common_fields(kind: type) -> set[str]:
    """Return the fields that the short help shows: those in COMMON, and those that no group names."""
    common = [vars(owner)["COMMON"] for owner in kind.__mro__ if "COMMON" in vars(owner)]
    if not common:
        return set(_field_names(kind))
    return {name for names in common for name in names} | set(_ungrouped(kind))


def _named_groups(kind: type) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {}
    for owner in kind.__mro__:
        for title, names in vars(owner).get("GROUPS", {}).items():
            groups[title] = groups.get(title, ()) + tuple(names)
    return groups


def _ungrouped(kind: type) -> tuple[str, ...]:
    grouped = {name for names in _named_groups(kind).values() for name in names}
    return tuple(name for name in _field_names(kind) if name not in grouped)


def _field_names(kind: type) -> list[str]:
    return [field.name for field in dc.fields(kind) if field.init]


def boxes(parts: Sequence[Part], *, only_common: bool = False) -> tuple[type, Any]:
    """Return a dataclass that holds a dataclass for each group, as tyro shows them in boxes, and its default.

    Groups of several parts that have one title share a box.
    """
    fields: dict[str, list[tuple[str, Any, Any]]] = {}
    for part in parts:
        kind = type(part.default)
        hints, texts = get_type_hints(kind, include_extras=True), field_texts(kind)  # type: ignore[arg-type]  # classes can be hashed
        shown = common_fields(kind) if only_common else set(_field_names(kind))
        for title, names in groups_of(kind, part.rest).items():
            fields.setdefault(title, []).extend(
                (
                    name,
                    _flag(_with_help(hints[name], texts.get(name), value, only_common), value, only_common),
                    value,
                )
                for name in names
                if name in shown
                for value in [getattr(part.default, name)]
            )
    return _nested({title: box for title, box in fields.items() if box})


def flat(parsed: Any) -> dict[str, Any]:
    """Return {field: value} of what tyro made of the boxes."""
    groups = [getattr(parsed, field.name) for field in dc.fields(parsed)]
    return {field.name: getattr(group, field.name) for group in groups for field in dc.fields(group)}


@cache
def field_texts(kind: type) -> Mapping[str, str]:
    """Return the docstring beneath each field of a dataclass, as one line."""
    texts: dict[str, str] = {}
    for owner in reversed(kind.__mro__[:-1]):
        for field in docstring_parser.parse_from_object(owner).params:
            texts[field.arg_name] = " ".join((field.description or "").split())
    return texts


def with_texts(kind: type) -> type:
    """Return a dataclass with the same fields, whose texts are one line each: tyro would keep their line breaks."""
    hints, texts = get_type_hints(kind, include_extras=True), field_texts(kind)
    fields = []
    for field in dc.fields(kind):
        made = field.default if field.default_factory is dc.MISSING else field.default_factory()
        hint = _with_help(hints[field.name], texts.get(field.name), made, True)
        fields.append(
            (field.name, hint, dc.field(default=field.default, default_factory=field.default_factory))
        )
    return dc.make_dataclass(kind.__name__, fields)


def _with_help(hint: Any, text: str | None, default: Any, brief: bool) -> Any:
    """Attach the text of a field to its type; the brief one leaves defaults out that say nothing."""
    says_nothing = (
        default is None or default is False or (isinstance(default, dict | list | tuple) and not default)
    )
    hide_default = brief and says_nothing
    return Annotated[hint, tyro.conf.arg(help=text, help_behavior_hint="" if hide_default else None)]


def _flag(hint: Any, default: Any, brief: bool) -> Any:
    """Leave the second form of a flag out of the brief help where it is off by default: --no-... would say nothing."""
    return Annotated[hint, tyro.conf.FlagCreatePairsOff] if brief and default is False else hint


def _nested(fields: Mapping[str, Iterable[tuple[str, Any, Any]]]) -> tuple[type, Any]:
    """Return the dataclass of dataclasses and its default. Titles may be no identifiers: tyro is told them."""
    outer, defaults = [], []
    for i, (title, box) in enumerate(fields.items()):
        kind: Any = dc.make_dataclass(f"Group{i}", [(name, hint) for name, hint, _ in box])
        # an empty help, since tyro would search source files for another one
        named = Annotated[kind, tyro.conf.arg(name=title, help=""), tyro.conf.OmitArgPrefixes]
        outer.append((f"group_{i}", named))
        defaults.append(kind(*[value for _, _, value in box]))
    whole = dc.make_dataclass("Groups", outer)
    return whole, whole(*defaults)
