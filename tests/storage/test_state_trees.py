"""Rings in memory are copied as stored ones are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_lab.storage.errors import CheckpointError
from rl_lab.storage.state_trees import Ring, encode, rebuild


@given(capacity=st.integers(1, 6), more=st.integers(0, 6), written=st.integers(0, 20))
def test_ring_puts_its_rows_where_another_keeps_them(capacity, more, written):
    array = np.zeros((capacity, 1), np.int64)
    for row in range(written):
        array[row % capacity] = row + 1
    larger = np.zeros((capacity + more, 1), np.int64)
    Ring(array, written).copy_into(larger)
    expected = np.zeros_like(larger)
    for row in range(max(0, written - capacity), written):
        expected[row % len(expected)] = row + 1
    np.testing.assert_array_equal(larger, expected)
    assert Ring(array, written).capacity == capacity


@pytest.mark.parametrize("array", [np.zeros((4, 2), np.int64), np.zeros((4, 1), np.float64)])
def test_rows_of_another_kind_are_refused(array):
    with pytest.raises(CheckpointError, match="don't fit"):
        Ring(np.zeros((4, 1), np.int64), 2).copy_into(array)


def test_keys_may_be_numbers_beside_texts():
    tree = {"columns": {0: np.arange(3), "0": np.arange(2), 10: {"a": 1.5}, "b/c": (np.ones(1),)}}
    tensors = {}
    structure = json.loads(json.dumps(encode(tree, "", tensors, {})))
    found = rebuild(structure, tensors, {})
    assert list(found["columns"]) == [0, "0", 10, "b/c"]
    np.testing.assert_equal(found, tree)


@pytest.mark.parametrize("key", [True, 1.5, None, "$tensor"])
def test_other_keys_are_refused(key):
    with pytest.raises(TypeError, match="state key"):
        encode({0: 1, key: 2}, "", {}, {})
