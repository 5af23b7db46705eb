"""The boxes of the help: every field stands in exactly one, also of configs that say nothing of boxes."""

from __future__ import annotations

import dataclasses as dc
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import pytest

from commands import call
from rl_lab.cli.groups import Part, common_fields, field_texts, groups_of
from rl_lab.cli.parsing import parse_parts
from rl_lab.cli.train import TrainOptions
from rl_lab.runs.config import RunConfig
from rl_lab.training.registry import agent_names, config_of


@dataclass(frozen=True)
class Base:
    """Fields with groups."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {"network": ("hidden",), "budget": ("steps",)}
    COMMON: ClassVar[tuple[str, ...]] = ("steps",)

    hidden: tuple[int, ...] = (64, 64)
    """Widths."""
    steps: int = 10
    """Steps to take."""


@dataclass(frozen=True)
class Derived(Base):
    """Another default, a field of its own, and one in no group."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {"network": ("layers",)}

    hidden: tuple[int, ...] = (8,)
    """Widths of the
    layers."""
    layers: int = 2
    own_field: bool = False
    """Its own."""


@dataclass(frozen=True)
class Silent:
    """A config that says nothing of groups."""

    rate: float = 0.5
    """Step size."""
    shape: str = "round"


KINDS = {"train": TrainOptions, "run": RunConfig} | {name: config_of(name) for name in agent_names()}


class TestGroups:
    @pytest.mark.parametrize("name", KINDS)
    def test_hold_every_field_of_the_lab_once(self, name):
        kind = KINDS[name]
        fields = {field.name for field in dc.fields(kind)}
        groups = groups_of(kind, "rest")
        counts = Counter(field for names in groups.values() for field in names)
        assert counts == Counter(fields)
        assert common_fields(kind) <= fields
        if any("GROUPS" in vars(owner) for owner in kind.__mro__):  # all or none
            assert "rest" not in groups

    def test_are_put_together_over_base_classes(self):
        assert groups_of(Derived, "mine") == {
            "network": ("layers", "hidden"), "budget": ("steps",), "mine": ("own_field",),
        }  # fmt: skip
        assert common_fields(Derived) == {"steps", "own_field"}

    def test_of_a_config_that_says_nothing_are_one_that_is_shown_whole(self):
        assert groups_of(Silent, "their-agent") == {"their-agent": ("rate", "shape")}
        assert common_fields(Silent) == {"rate", "shape"}


class TestTexts:
    def test_are_the_docstrings_beneath_the_fields_in_one_line(self):
        texts = field_texts(Derived)
        assert texts["hidden"] == "Widths of the layers."
        assert texts["steps"] == "Steps to take."
        assert "layers" not in texts


@dataclass(frozen=True)
class Flags:
    shown: bool = True
    """Show it."""
    hidden: bool = False
    """Hide it."""


class TestParts:
    @staticmethod
    def parse(argv):
        parts = [Part(Derived(steps=7), "mine"), Part(Silent(), "their-agent")]
        print(parse_parts(parts, argv, program="rl-lab try", about="Try it."))
        return 0

    def test_are_read_as_one_flat_command_line(self, capsys):
        _, out, _ = call(capsys, self.parse, "--hidden", "3", "4", "--own-field", "--rate", "2")
        assert out == (
            "{'layers': 2, 'hidden': (3, 4), 'steps': 7, 'own_field': True, 'rate': 2.0, 'shape': 'round'}\n"
        )

    def test_the_short_help_shows_common_fields_the_long_one_all(self, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "100")
        short, whole = (call(capsys, self.parse, word)[1] for word in ("--help", "--help-all"))
        for out in (short, whole):
            assert "their-agent options" in out
            assert "Steps to take. (default: 7)" in out
            assert "Step size. (default: 0.5)" in out
        assert "--hidden" not in short
        assert "Widths of the layers. (default: 8)" in whole
        assert "--no-own-field" in whole

    def test_the_short_help_shows_both_forms_of_a_flag_that_is_on_by_default(self, capsys):
        def parse(argv):
            parse_parts([Part(Flags(), "mine")], argv, program="rl-lab try", about="Try it.")
            return 0

        out = call(capsys, parse, "--help")[1]
        assert "--shown, --no-shown" in out
        assert "--no-hidden" not in out
