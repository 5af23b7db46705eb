"""Rows of discrete observations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from hypothesis import given, settings

import drawn_spaces
from rl_lab.environments.table_rows import count_rows, make_row_of


def batch(space, observations):
    return concatenate(space, observations, create_empty_array(space, len(observations)))


def test_rows_count_up_from_the_last_entry():
    space = spaces.MultiDiscrete([2, 3], start=[5, -1])
    every = np.array(list(itertools.product([5, 6], [-1, 0, 1])))
    assert make_row_of(space)(every).tolist() == list(range(6))


def test_a_discrete_space_is_its_own_row_or_counted_from_its_start():
    assert make_row_of(spaces.Discrete(4))(np.array([3, 0])).tolist() == [3, 0]
    assert make_row_of(spaces.Discrete(4, start=-2))(np.array([1, -2])).tolist() == [3, 0]


def test_a_dict_is_read_by_sorted_key():
    row_of = make_row_of(spaces.Dict({"b": spaces.Discrete(2), "a": spaces.MultiBinary(2)}))
    assert row_of({"b": np.array([1, 0]), "a": np.array([[0, 1], [1, 1]])}).tolist() == [3, 6]


@pytest.mark.parametrize("space", [spaces.Box(0, 1), spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 1)))])
def test_what_is_not_discrete_has_no_rows(space):
    assert count_rows(space) is None


@given(drawn_spaces.with_parts(drawn_spaces.finite))
@settings(max_examples=60, deadline=None)
def test_different_observations_have_different_rows_within_the_table(space):
    space.seed(0)
    batch_space(space, 2)  # as vectors see it
    sampled = [space.sample() for _ in range(20)]
    rows = make_row_of(space)(batch(space, sampled))
    assert rows.shape == (20,)
    assert ((rows >= 0) & (rows < count_rows(space))).all()
    told = [str(s) for s in sampled]
    assert all((rows[i] == rows[j]) == (told[i] == told[j]) for i, j in itertools.combinations(range(20), 2))
