"""A name that stands twice is refused, wherever it is; anything else is what YAML says."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rl_lab.storage.yaml_text import StandsTwice, read_yaml

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda part: st.lists(part) | st.dictionaries(st.text(), part),
)


@given(PLAIN)
def test_json_is_read_as_yaml_reads_it(value):
    text = json.dumps(value)
    try:
        expected = yaml.safe_load(text)
    except yaml.YAMLError:  # some keys of JSON are none of YAML's
        with pytest.raises(yaml.YAMLError):
            read_yaml(text)
    else:
        assert read_yaml(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", "'a' stands twice, in lines 1 and 3"),
        ("x:\n  - {b: 1, c: 2, b: 1}\n", "'b' stands twice, in lines 2 and 2"),
        ('{"a": {"n": 1,\n "n": 2}}', "'n' stands twice, in lines 1 and 2"),
        ("? {k: 1, k: 2}\n: 1\n", "'k' stands twice, in lines 1 and 1"),
    ],
)
def test_a_name_that_stands_twice_is_refused_with_its_lines(text, says):
    with pytest.raises(StandsTwice, match=says):
        read_yaml(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: {x: 1}\nb: {x: 1}\n", {"a": {"x": 1}, "b": {"x": 1}}),
        ("1: a\n'1': b\n", {1: "a", "1": "b"}),
        (
            "x: &x {a: 1}\ny: &y {b: 2}\nz:\n  <<: *x\n  <<: *y\n",
            {"x": {"a": 1}, "y": {"b": 2}, "z": {"a": 1, "b": 2}},
        ),
        ("a: &p {x: 1}\nb: *p\nc: {<<: *p, y: 2}\n", {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}),
    ],
)
def test_the_same_name_in_other_places_is_none(text, value):
    assert read_yaml(text) == value


def test_a_text_that_holds_itself_ends():
    found = read_yaml("&a [*a, 1]")
    assert found[0] is found
