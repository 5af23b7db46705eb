"""Actions of several entries that differ: a tie within rounding, or another action; tables made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from rl_lab.exporting.choosing import choice_of, choice_of_classes
from rl_lab.exporting.entries import apart_by_ties, same

PAIR = spaces.MultiDiscrete([2, 2])
SHIFTED = spaces.MultiDiscrete([2, 3], start=[4, -1])
MIXED = spaces.Dict({"turn": spaces.Discrete(2, start=1), "push": spaces.Box(-1, 1, (1,), np.float32)})
WHOLE = spaces.Box(-1000, 1000, (2,), np.int64)


@pytest.mark.parametrize(
    ("space", "scores", "ours", "theirs", "is_tie"),
    [
        (PAIR, [5, 0, 5, 0], [0, 0], [1, 1], False),  # equal scores, but of two entries
        (PAIR, [5, 0, 5, 0], [0, 0], [0, 1], False),
        (PAIR, [9, 0, 1, 1], [0, 0], [0, 1], True),  # a tie in the second
        (PAIR, [9, 0, 1, 1], [0, 0], [1, 1], False),  # and another action in the first
        (PAIR, [7, 7, 1, 1], [0, 1], [1, 0], True),
        (PAIR, [9, 0, 1, 1.00009], [0, 0], [0, 1], True),
        (PAIR, [9, 0, 1, 1.0003], [0, 0], [0, 1], False),  # the first entry's scores are no measure here
        (SHIFTED, [9, 0, 1, 3, 3], [4, 0], [4, 1], True),
        (SHIFTED, [9, 0, 1, 3, 3], [4, -1], [4, 1], False),
        (SHIFTED, [9, 0, 1, 3, 3], [4, 0], [4, 2], False),  # outside the space
        (spaces.MultiBinary(2), [1, 1, 0, 3], [0, 1], [1, 1], True),
        (spaces.MultiBinary(2), [1, 1, 0, 3], [0, 1], [0, 0], False),
        (spaces.Discrete(3), [5, 5, 0], 0, 1, True),
        (spaces.Discrete(3), [5, 5, 0], 0, 2, False),  # the best two are level, but this is neither
        (spaces.Discrete(3), [5, 5, 5], 2, 1, True),
        (spaces.Discrete(2, start=3), [float("nan"), 1], 3, 4, False),
        (MIXED, [0.5, 2, 2], [0.5, 1], [0.5, 2], True),  # push, turn
        (MIXED, [0.5, 2, 2], [0.5, 1], [0.4, 2], False),
        (MIXED, [0.5, 2, 0], [0.5, 1], [0.5, 2], False),
        (WHOLE, [3.50001, 8], [3, 8], [4, 8], True),  # halfway between two
        (WHOLE, [3.4, 8], [3, 8], [4, 8], False),
        (WHOLE, [8, 8], [8, 8], [8, 9], False),  # means are no rivals
        (spaces.Box(-1, 1, (2,), np.float32), [0.5, 0.5], [0.5, 0.5], [0.5, 0.4], False),
    ],
)  # fmt: skip
def test_entries_are_judged_one_by_one(space, scores, ours, theirs, is_tie):
    entries = choice_of(space).entries()
    pair = np.array([ours]), np.array([theirs])
    assert not same(entries, *pair)
    assert apart_by_ties(entries, np.array(scores, np.float32), None, *pair) is is_tie
    assert same(entries, pair[0], pair[0])
    assert apart_by_ties(entries, np.array(scores, np.float32), None, pair[0], pair[0])


def test_real_numbers_are_the_same_within_rounding_and_others_only_if_equal():
    entries = choice_of(MIXED).entries()
    assert same(entries, np.array([[0.5, 1.0]]), np.array([[0.50001, 1.0]]))
    assert not same(entries, np.array([[0.5, 1.0]]), np.array([[0.5, 1.00001]]))


@pytest.mark.parametrize(
    ("legal", "theirs", "is_tie"),
    [
        ([1, 1, 0, 1, 1], [0, 2], True),
        ([1, 1, 1, 1, 1], [0, 2], False),  # the illegal one was better
        ([1, 1, 0, 1, 1], [0, 0], False),
        ([0, 1, 0, 1, 1], [1, 2], True),  # only one is legal in the first entry, and both took it
        ([0, 1, 0, 1, 1], [0, 2], False),
    ],
)
def test_illegal_values_are_no_rivals_and_no_answers(legal, theirs, is_tie):
    entries = choice_of_classes(spaces.MultiDiscrete([2, 3])).entries()
    scores, ours = np.array([4.0, 1.0, 9.0, 2.0, 2.0]), np.array([[int(not legal[0]), 1]])
    assert apart_by_ties(entries, scores, np.array(legal, bool), ours, np.array([theirs])) is is_tie
