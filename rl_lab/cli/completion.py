"""The script by which a shell completes the command line of `rl-lab`, made by tyro from the commands' dataclasses."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import io
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, Literal, Union, get_type_hints

import tyro

from rl_lab.cli.groups import field_texts
from rl_lab.cli.parsing import PROGRAM, pairs_registry
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
            registry=pairs_registry(),
        )
    return said.getvalue()


def _options(command: str) -> Any:
    """Return the dataclass of a command's options."""
    if command == "train":
        return _train_options()
    return getattr(import_module(f"rl_lab.cli.{command}"), f"{command.capitalize()}Options")


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
