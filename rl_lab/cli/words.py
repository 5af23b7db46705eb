"""Options as other programs write them, such as an agent of W&B's sweeps: --flag=True, --hidden=[64, 64]."""

from __future__ import annotations

import dataclasses as dc
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from rl_lab.types import UsageError

TRUTH = {"true": True, "false": False}


def plain_words(words: Sequence[str], kind: type, aliases: Mapping[str, str] | None = None) -> list[str]:
    """Return a command line with such options as the parser takes them; all other words are unchanged.

    `--flag=True` and `--flag True` become `--flag`, with False `--no-flag` (and yes or no, where these are the
    field's words); a list after `=` becomes words, and a mapping words NAME=VALUE.

    Args:
        kind: the dataclass of the options, or one that holds dataclasses.
        aliases: other names of fields.

    Raises:
        UsageError: a flag has another value.
    """
    hints = _hints(kind)
    aliases = aliases or {}
    out: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, equals, text = word.partition("=")
        name = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--"):
            out.append(word)
            continue
        if name in aliases:
            name = aliases[name]
            option = f"--{name.replace('_', '-')}"
            word = f"{option}{equals}{text}"
        hint = hints.get(name)
        if hint is bool and not equals and rest and rest[0].lower() in TRUTH:
            equals, text = "=", rest.pop(0)
        out += _written(option, text, hint) if equals and hint is not None else [word]
    return out


def _written(option: str, text: str, hint: Any) -> list[str]:
    """Return the words for one option with its value after `=`."""
    as_given = [f"{option}={text}"]
    parts = _parts(hint)
    truth = TRUTH.get(text.lower())
    if hint is bool:
        if truth is None:
            raise UsageError(f"{option}={text}: allowed are True and False")
        return [option if truth else f"--no-{option.removeprefix('--')}"]
    if truth is not None and "yes" in parts:
        return [f"{option}={'yes' if truth else 'no'}"]
    if not text.startswith(("[", "(", "{")):
        return as_given
    try:
        value = yaml.safe_load(f"[{text[1:-1]}]" if text.startswith("(") and text.endswith(")") else text)
    except yaml.YAMLError:
        return as_given
    if isinstance(value, list) and tuple in parts:
        return [option, *map(str, value)]
    if isinstance(value, dict) and dict in parts:
        return [option, *(f"{k}={v}" for k, v in value.items())]
    return as_given


def _parts(hint: Any) -> set[Any]:
    """Return what a type is made of: the words of a Literal, and the classes of what else a union holds."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _parts(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return set().union(*map(_parts, get_args(hint)))
    if origin is Literal:
        return set(get_args(hint))
    return {origin or hint}


def _hints(kind: type) -> dict[str, Any]:
    """Return the types of the fields, those of nested dataclasses included, without what is only annotated."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if dc.is_dataclass(bare) and isinstance(bare, type):
            found |= _hints(bare)
        else:
            found[name] = bare
    return found
