"""The script by which a shell completes the command line of `rl-lab`, made by tyro from the commands' dataclasses."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import io
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from rl_lab.cli.groups import field_texts
from rl_lab.cli.parsing import PROGRAM, reading_rules
from rl_lab.cli.train import TrainOptions
from rl_lab.runs.config import RunConfig
from rl_lab.training.registry import agent_names, config_of, presets_of
from rl_lab.types import UsageError


def completion_script(shell: str, commands: Mapping[str, str]) -> str:
    """Return the script for "bash", "zsh" or "fish".

    Args:
        commands: what each subcommand does, by its name.
    """
    kinds: Any = tuple(
        Annotated[_options(name), tyro.conf.subcommand(name, description=about)]
        for name, about in commands.items()
    )
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        tyro.cli(
            Union[kinds],  # noqa: UP007
            prog=PROGRAM,
            args=["--tyro-write-completion", shell, "-"],
            registry=reading_rules(),
        )
    return said.getvalue()


def _options(command: str) -> Any:
    """Return the dataclass of a command's options."""
    if command == "train":
        return _train_options()
    module = import_module(f"rl_lab.cli.{command.replace('-', '_')}")
    return _with_choices(getattr(module, f"{command.title().replace('-', '')}Options"))


def _with_choices(kind: type) -> type:
    """Return a dataclass in which the words of a positional Literal are subcommands: tyro completes only these."""
    hints = get_type_hints(kind, include_extras=True)
    chosen = {name: words for name, hint in hints.items() if (words := _positional_words(hint))}
    if not chosen:
        return kind
    options = [(f.name, hints[f.name], _default(f)) for f in dc.fields(kind) if f.name not in chosen]
    rest: Any = dc.make_dataclass("Rest", options, kw_only=True)
    fields: list[Any] = []
    for name, words in chosen.items():
        kinds: Any = tuple(Annotated[rest, tyro.conf.subcommand(word, prefix_name=False)] for word in words)
        choice: Any = Union[kinds]  # noqa: UP007
        fields.append((name, Annotated[choice, tyro.conf.OmitArgPrefixes]))
    return dc.make_dataclass(kind.__name__, [*fields, *options], kw_only=True)


def _positional_words(hint: Any) -> tuple[str, ...]:
    """Return the words that a positional field allows; () for any other field."""
    if tyro.conf.Positional not in getattr(hint, "__metadata__", ()):
        return ()
    choice = get_args(hint)[0]
    return get_args(choice) if get_origin(choice) is Literal else ()


def _train_options() -> type:
    """Return a dataclass with the fields of the command, of runs, and of all agents; the first of a name counts."""
    fields: dict[str, Any] = {}
    for kind in (TrainOptions, RunConfig, *_configs()):
        hints, texts = get_type_hints(kind, include_extras=True), field_texts(kind)
        for field in dc.fields(kind):
            hint: Any = hints[field.name]
            told: Any = Annotated[hint, tyro.conf.arg(help=texts.get(field.name))]
            fields.setdefault(field.name, (field.name, told, _default(field)))
    agents = agent_names()
    presets = sorted({preset for agent in agents for preset in presets_of(agent)})
    fields["agent"] = ("agent", Literal[tuple(agents)])
    fields["preset"] = ("preset", Literal[tuple(presets)] | None, dc.field(default=None))
    return dc.make_dataclass("AllTrainOptions", list(fields.values()), kw_only=True)


def _configs() -> Iterator[type]:
    """Yield the config of every agent whose package can be imported."""
    for name in agent_names():
        with contextlib.suppress(UsageError):
            yield config_of(name)


def _default(field: dc.Field) -> Any:
    """Return a field for a new dataclass with the same default."""
    if field.default_factory is not dc.MISSING:
        return dc.field(default_factory=field.default_factory)
    return dc.field() if field.default is dc.MISSING else dc.field(default=field.default)
