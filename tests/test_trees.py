"""Functions on nested dicts and tuples: order, holes, names, and the two leading axes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from rl_lab.trees import flatten_leading, join_leaves, leaves_of, map_leaves


class Pair(NamedTuple):
    """Two parts with names."""

    left: Any
    right: Any


TREE = {"b": (1, None), "a": {"d": 2, "c": Pair(3, (4,))}}


class TestMapping:
    def test_changes_leaves_and_nothing_else(self):
        found = map_leaves(lambda x: 10 * x, TREE)
        assert found == {"b": (10, None), "a": {"d": 20, "c": Pair(30, (40,))}}
        assert type(found["a"]["c"]) is Pair
        assert list(found) == ["b", "a"]

    def test_lists_are_leaves(self):
        assert map_leaves(len, ([1, 2], [3])) == (2, 1)

    def test_of_a_leaf_and_of_none(self):
        assert map_leaves(lambda x: x + 1, 1) == 2
        assert map_leaves(lambda x: x + 1, None) is None


class TestLeaves:
    def test_come_in_the_order_of_the_tree(self):
        assert leaves_of(TREE) == [1, 2, 3, 4]

    def test_or_by_sorted_keys_at_every_depth(self):
        assert leaves_of(TREE, sort_keys=True) == [3, 4, 2, 1]
        turned = {"a": {"c": Pair(3, (4,)), "d": 2}, "b": (1, None)}
        assert leaves_of(turned, sort_keys=True) == leaves_of(TREE, sort_keys=True)

    def test_of_a_leaf_and_of_none(self):
        assert leaves_of(7) == [7]
        assert leaves_of(None) == leaves_of({}) == leaves_of((None, ())) == []


class TestJoining:
    def test_joins_leaf_by_leaf(self):
        one = {"x": np.array([1, 2]), "y": (np.array([3]),)}
        other = {"y": (np.array([6]),), "x": np.array([4, 5])}  # in another order
        found = join_leaves(np.concatenate, [one, other])
        assert found["x"].tolist() == [1, 2, 4, 5]
        assert found["y"][0].tolist() == [3, 6]

    def test_tuples_of_other_lengths_are_refused(self):
        with pytest.raises(ValueError):
            join_leaves(sum, [(1, 2), (3,)])


def test_the_two_leading_axes_become_one():
    x = torch.arange(12).reshape(2, 3, 2)
    found = flatten_leading({"x": x, "y": (x[..., 0], None)})
    assert found["x"].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
    assert found["y"][0].tolist() == [0, 2, 4, 6, 8, 10]
    assert found["y"][1] is None
