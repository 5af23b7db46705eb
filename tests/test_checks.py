"""Checks of a config's fields: what passes, and the one line that names what doesn't."""

from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from rl_lab import checks
from rl_lab.checks import (
    MOST_NAMES,
    count,
    plain_fields,
    require_kinds,
    show_space,
    shown,
    storable,
    unknown_name,
    whole_number,
    widths,
    with_allowed,
    without_allowed,
)
from rl_lab.types import UsageError


class TestShowSpace:
    def test_a_space_takes_one_line(self):
        low = np.array([[-1, 0], [0, -2]], np.float32)
        uneven = spaces.Box(low, low + 3)
        assert "\n" in str(uneven)
        assert show_space(uneven) == "Box(-2.0, 3.0, (2, 2), float32)"
        assert "\n" not in show_space(spaces.Dict(a=uneven, b=spaces.Discrete(2)))

    @pytest.mark.parametrize(
        "space", [spaces.Discrete(2), spaces.Box(-1, 1, (3,)), spaces.MultiDiscrete([2, 3])]
    )
    def test_one_that_does_stays_as_it_is(self, space):
        assert show_space(space) == str(space)


@dataclasses.dataclass
class Config:
    """Fields of every kind that is checked."""

    steps: int = 5
    rate: float = 0.5
    limit: float | None = None
    flag: bool = True
    hidden: tuple[int, ...] = (8,)
    name: str | None = "adam"


@pytest.mark.parametrize(
    ("check", "arguments"),
    [
        ("at_least", (5, "steps", "limit")),
        ("at_least", (0.5, "rate")),
        ("at_most", (5, "steps", "limit")),
        ("above", (4, "steps", "limit")),
        ("within", (0.5, 5, "steps", "rate", "limit")),
        ("finite", ("steps", "rate", "limit")),
        ("widths", ("hidden",)),
        ("flags", ("flag",)),
        ("one_of", ("name", ("sgd", "adam"))),
    ],
)
def test_what_is_allowed_passes_and_none_too(check, arguments):
    assert getattr(checks, check)(Config(), *arguments) is None
    assert getattr(checks, check)(Config(name=None), *arguments) is None


@pytest.mark.parametrize(
    ("check", "fields", "arguments", "says"),
    [
        ("at_least", {"steps": 4}, (5, "rate", "steps"), "rate must be at least 5, got 0.5"),
        ("at_least", {"rate": math.nan}, (0, "rate"), "rate must be at least 0, got nan"),
        ("at_least", {"steps": 5.0}, (1, "steps"), "steps must be a whole number, got 5.0"),
        ("at_least", {"rate": "1"}, (1, "rate"), "rate must be a number, got '1'"),
        ("at_most", {"steps": 6}, (5, "rate", "steps"), "steps must be at most 5, got 6"),
        ("at_most", {"rate": math.nan}, (0, "rate"), "rate must be at most 0, got nan"),
        ("above", {"rate": 0.0}, (0, "rate"), "rate must be greater than 0, got 0.0"),
        ("above", {"rate": math.nan}, (0, "rate"), "rate must be greater than 0, got nan"),
        ("within", {"rate": 1.5}, (0.0, 1.0, "rate"), "rate must be between 0.0 and 1.0, got 1.5"),
        ("finite", {"limit": math.inf}, ("limit",), "limit must be a finite number, got inf"),
        ("widths", {"hidden": (8, 0)}, ("hidden",), "hidden must be whole numbers from 1, got (8, 0)"),
        ("widths", {"hidden": [8]}, ("hidden",), "hidden must be whole numbers from 1, got [8]"),
        ("flags", {"flag": 1}, ("flag",), "flag must be true or false, got 1"),
        ("one_of", {}, ("name", ("sgd", "rmsprop")), "name 'adam' is unknown (allowed: sgd, rmsprop)"),
    ],
)
def test_what_is_not_is_named_with_its_value(check, fields, arguments, says):
    with pytest.raises(UsageError) as refused:
        getattr(checks, check)(Config(**fields), *arguments)
    assert str(refused.value) == says


def test_an_unknown_name_comes_with_what_is_close_or_with_all():
    assert unknown_name("agent", "dqm", ["dqn", "ppo"]) == "unknown agent 'dqm' (close: dqn)"
    assert unknown_name("agent", "x", ["dqn", "ppo"]) == "unknown agent 'x' (allowed: dqn, ppo)"


MANY = [*(f"name_{i}" for i in range(MOST_NAMES - 1)), "epsilon_final", "replay_capacity"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("epsilon_finl", "close: epsilon_final; --help-all lists all 21"),
        ("eps", "close: epsilon_final; --help-all lists all 21"),  # a part of it
        ("buffer", "--help-all lists all 21"),
        ("s", "--help-all lists all 21"),
    ],
)
def test_many_names_are_not_listed_but_it_is_said_what_lists_them(name, hint):
    assert unknown_name("field", name, MANY, "--help-all") == f"unknown field {name!r} ({hint})"


def test_a_few_names_are_listed_though_something_else_lists_them_too():
    told = unknown_name("field", "buffer", MANY[1:], "--help-all")
    assert told == f"unknown field 'buffer' (allowed: {', '.join(MANY[1:])})"


def test_no_dense_layer_at_all_is_allowed():
    config = dataclasses.make_dataclass("Config", [("hidden", tuple)])(())
    assert widths(config, "hidden") is None


class TestWholeNumbers:
    @pytest.mark.parametrize(
        ("text", "number"),
        [
            ("12", 12),
            ("-3", -3),
            ("1_000", 1000),
            ("1e5", 100_000),
            ("2.5E3", 2500),
            ("5.0", 5),
            ("1e+2", 100),
        ],
    )
    def test_may_be_written_in_any_way_that_is_exact(self, text, number):
        found = whole_number(text)
        assert (found, type(found)) == (number, int)

    @pytest.mark.parametrize(
        "text", ["1.5", "1e-3", "nan", "inf", "1e400", "1e999999999", "", "many", "1e5x"]
    )
    def test_are_whole(self, text):
        with pytest.raises(ValueError, match="is not a whole number"):
            whole_number(text)


class TestPlainFields:
    def test_are_pythons_own_and_fit_into_json(self):
        given = {
            "steps": np.int64(3), "rate": np.float32(0.5), "limit": np.float64(2), "flag": np.bool_(True),
            "hidden": np.array([8, 9]), "name": np.str_("sgd"),
        }  # fmt: skip
        found = plain_fields(Config, given)
        assert found == {
            "steps": 3, "rate": 0.5, "limit": 2.0, "flag": True, "hidden": (8, 9), "name": "sgd"
        }  # fmt: skip
        assert [type(value) for value in found.values()] == [int, float, float, bool, tuple, str]
        assert json.loads(json.dumps(found))["hidden"] == [8, 9]

    def test_of_whole_numbers_take_floats_that_are_whole_and_no_others(self):
        assert plain_fields(Config, {"steps": 1e5, "rate": 2.0}) == {"steps": 100_000, "rate": 2.0}
        assert isinstance(plain_fields(Config, {"steps": 1e5})["steps"], int)
        for value in (1.5, math.inf, math.nan, 1e300):
            with pytest.raises(UsageError, match="steps must be a whole number"):
                checks.at_least(Config(**plain_fields(Config, {"steps": value})), 1, "steps")

    def test_of_lists_are_tuples_and_of_dicts_keep_their_lists(self):
        assert plain_fields(Config, {"hidden": [np.int64(4)], "name": {"a": [1], "b": np.int8(2)}}) == {
            "hidden": (4,),
            "name": {"a": [1], "b": 2},
        }

    def test_of_a_list_that_holds_itself_are_refused(self):
        own: list = []
        own.append(own)
        with pytest.raises(UsageError, match="hidden is nested too deeply, or holds itself"):
            plain_fields(Config, {"hidden": own})

    def test_of_extended_precision_become_pythons(self):
        found = plain_fields(Config, {"rate": np.longdouble("0.5")})["rate"]
        assert (found, type(found)) == (0.5, float)

    def test_of_paths_are_text(self):
        assert plain_fields(Config, {"name": Path("a") / "b"}) == {"name": "a/b"}

    def test_arguments_hold_nothing_of_numpys_at_any_depth(self):
        given = {"name": {"w": [np.int64(3)], "z": np.zeros(2), "d": {"x": np.float32(0.5)}}}
        found = plain_fields(Config, given)["name"]
        assert json.dumps(found) == '{"w": [3], "z": [0.0, 0.0], "d": {"x": 0.5}}'


class TestKinds:
    def refusal(self, **fields):
        with pytest.raises(UsageError) as refused:
            require_kinds(Config, fields)
        return str(refused.value)

    @pytest.mark.parametrize(
        ("field", "value", "allowed"),
        [
            ("steps", True, "a whole number"),
            ("steps", 1.5, "a whole number"),
            ("steps", None, "a whole number"),
            ("rate", False, "a number"),
            ("rate", "0.5", "a number"),
            ("rate", Fraction(1, 2), "a number"),
            ("rate", 10**400, "a number"),
            ("limit", [1.0], "a number"),
            ("flag", 1, "true or false"),
            ("hidden", 8.5, "whole numbers"),
            ("hidden", (8, True), "whole numbers"),
            ("name", 3, "text"),
        ],
    )
    def test_another_one_is_named_with_what_is_allowed(self, field, value, allowed):
        assert self.refusal(**{field: value}) == f"{field} must be {allowed}, got {shown(value)}"

    def test_one_alone_where_several_are_meant_is_told_how_to_be_given(self):
        says = "hidden must be whole numbers, got 8 (allowed: a list, such as [8])"
        assert self.refusal(hidden=8) == says

    def test_their_own_pass_and_so_do_fields_that_there_are_none_of(self):
        fields = {
            "steps": 3,
            "rate": 1,
            "limit": None,
            "flag": False,
            "hidden": (),
            "name": None,
            "other": object(),
        }
        assert require_kinds(Config, fields) is None

    def test_a_config_whose_types_cannot_be_told_checks_itself(self):
        @dataclasses.dataclass
        class Foreign:
            value: NoSuchType  # noqa: F821

        assert require_kinds(Foreign, {"value": 3}) is None


def test_long_values_are_shown_shortened_in_one_line():
    class TwoLines:
        def __repr__(self):
            return "two\nlines"

    assert shown(TwoLines()) == "two lines"
    assert len(shown("x" * 1000)) == 160


class TestStorable:
    def test_what_json_brings_back_passes(self):
        assert storable("a", {"x": [1, 2.5, None, True, ("b", {"y": math.nan})]}) is None

    @pytest.mark.parametrize("value", [{1: 2}, {"x": object()}, [b"bytes"], {"x": {"y": {3}}}])
    def test_what_it_does_not_is_refused(self, value):
        with pytest.raises(UsageError, match=r"^a "):
            storable("a", value)


class TestCount:
    @pytest.mark.parametrize("value", [3, np.int64(3), 3.0, np.float32(3)])
    def test_is_an_int(self, value):
        found = count("seeds", value)
        assert (found, type(found)) == (3, int)

    @pytest.mark.parametrize("value", [True, "3", 1.5, None, math.nan, 0])
    def test_is_whole_and_large_enough(self, value):
        with pytest.raises(UsageError, match="seeds must be"):
            count("seeds", value)


def test_a_refusal_has_one_bracket_that_says_what_is_allowed():
    assert with_allowed("no model (allowed: maps)", "others") == "no model (allowed: maps; or others)"
    assert with_allowed("no model", "others") == "no model (allowed: others)"
    assert with_allowed("model() fails (twice)", "others") == "model() fails (twice) (allowed: others)"
    assert without_allowed("no model (allowed: model())") == "no model"
    assert without_allowed("model() fails (twice)") == "model() fails (twice)"
